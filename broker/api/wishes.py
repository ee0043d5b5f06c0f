"""What users want of jobs that are there: cancel, hold, release; of one, or of all that filters mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated

from aiohttp import web
from pydantic import BeforeValidator, Field

from broker.api.auth import caller_of
from broker.api.bodies import body_of_request
from broker.api.changes import update_at
from broker.api.finding import job_of_request
from broker.api.jobs import shown
from broker.api.matching import Wanted, wanted
from broker.api.selecting import narrowed, newest, selector_of
from broker.api.services import SERVICES, Services, answer
from broker.auditing import entry
from broker.documents.fields import Body
from broker.errors import Fault, InConflict, Invalid, NotFound
from broker.jobs.model import Ask, Wish
from broker.store import keys as kinds
from broker.store.base import Saved
from broker.store.ledger import Save
from broker.world import Job

routes = web.RouteTableDef()

MOST_NAMED = 1_000
"""Ids in an answer for many."""
TOGETHER = 500
"""Changes in one call of the store."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class ManyBody(Body):
    """Which jobs, by the filters of the list; `all` where none is meant to narrow."""

    phase: str = ""
    site: str = ""
    tenant: str = ""
    name: str = ""
    label: str = ""
    since: Annotated[str, BeforeValidator(lambda value: str(value) if _is_number(value) else value)] = ""
    all: bool = False
    why: Annotated[str, Field(max_length=1_000)] = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What is asked of a job. `verb` is the audit's word for it."""

    verb: str
    apply: Callable[[Wish, Ask], Wish]
    """The wish with it; what is asked already stays as it was."""


CANCEL = Change("cancel", lambda wish, ask: wish if wish.cancel else replace(wish, cancel=ask))
HOLD = Change("hold", lambda wish, ask: wish if wish.hold else replace(wish, hold=ask))
RELEASE = Change("release", lambda wish, ask: replace(wish, hold=None))


@routes.post("/v1/jobs/{job}/cancel")
async def cancel_job(request: web.Request) -> web.Response:
    """Ask for a job's end. Done when it was observed; a job that is over stays as it is."""
    job = await job_of_request(request)
    if not job.state.phase.is_terminal:
        await _change(request, job, CANCEL, "cancelled by its user")
    return _now(request, job, HTTPStatus.ACCEPTED)


@routes.post("/v1/jobs/{job}/hold")
async def hold_job(request: web.Request) -> web.Response:
    """Keep a job from being placed until it is released. One that is at a site goes on there, and waits if it comes back."""
    job = await job_of_request(request)
    await _change(request, _unfinished(job), HOLD)
    return _now(request, job)


@routes.post("/v1/jobs/{job}/release")
async def release_job(request: web.Request) -> web.Response:
    """Let a job be placed again."""
    job = await job_of_request(request)
    await _change(request, _unfinished(job), RELEASE)
    return _now(request, job)


@routes.post("/v1/jobs/cancel")
async def cancel_jobs(request: web.Request) -> web.Response:
    """Ask for the end of all unfinished jobs that the filters mean."""
    return await _change_all(request, CANCEL)


@routes.post("/v1/jobs/hold")
async def hold_jobs(request: web.Request) -> web.Response:
    """Hold all unfinished jobs that the filters mean."""
    return await _change_all(request, HOLD)


@routes.post("/v1/jobs/release")
async def release_jobs(request: web.Request) -> web.Response:
    """Release all unfinished jobs that the filters mean."""
    return await _change_all(request, RELEASE)


async def _change(request: web.Request, job: Job, change: Change, why: str = "") -> None:
    services = request.app[SERVICES]
    ask = Ask(caller_of(request), request.query.get("why", why), services.context.clock.now())
    await _write(services, job, change, ask, wanted(request))


async def _write(services: Services, job: Job, change: Change, ask: Ask, known: Wanted | None = None) -> None:
    def changed(wish: Wish | None) -> Wish:
        if wish is None:
            raise NotFound(f"job {job.id} is gone")
        return change.apply(wish, ask)

    key = services.context.world.mirror.keys.of(kinds.WISHES, job.id)
    await update_at(services, key, changed, ask.who, change.verb, known)


async def _change_all(request: web.Request, change: Change) -> web.Response:
    """In bulk; whoever was changed by somebody else meanwhile is read again, alone."""
    services = request.app[SERVICES]
    body = await body_of_request(request, ManyBody)
    selector = selector_of({name: value for name, value in body.model_dump().items() if isinstance(value, str)})
    narrow = narrowed(request, selector)
    if selector.is_empty and not body.all:
        raise Invalid(faults=[Fault("label", "no filter is given: name one, or say `all: true` for every job")])
    ask = Ask(caller_of(request), body.why, services.context.clock.now())
    meant = [job for job in newest(services.context.world, narrow) if not job.state.phase.is_terminal]
    due = [job for job in meant if change.apply(job.wish, ask) != job.wish]
    done: list[str] = []
    for first in range(0, len(due), TOGETHER):
        done += await _write_all(services, due[first : first + TOGETHER], change, ask)
    return answer({"matched": len(meant), "changed": len(done), "jobs": done[:MOST_NAMED]}, status=HTTPStatus.ACCEPTED)


async def _write_all(services: Services, jobs: Sequence[Job], change: Change, ask: Ask) -> list[str]:
    """Ids of those that were written: one may be gone meanwhile."""
    keys = services.context.world.mirror.keys
    drafts: list[list[Save]] = []
    for job in jobs:
        key, changed = keys.of(kinds.WISHES, job.id), change.apply(job.wish, ask)
        audited = entry(services.context, ask.who, change.verb, key, job.wish, changed)
        drafts.append([Save(key, changed, job.wish_revision), audited])
    results = await services.context.ledger.commit(drafts)
    gone = set()
    for job, result in zip(jobs, results, strict=True):
        if not isinstance(result, Saved):
            try:
                await _write(services, job, change, ask)
            except NotFound:
                gone.add(job.id)
    return [job.id for job in jobs if job.id not in gone]


def _unfinished(job: Job) -> Job:
    if job.state.phase.is_terminal:
        raise InConflict(f"job {job.id} is over: its phase is {job.state.phase}")
    return job


def _now(request: web.Request, job: Job, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    services = request.app[SERVICES]
    return answer(shown(services, services.context.world.jobs.get(job.id, job)), status=status)
