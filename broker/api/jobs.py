"""Jobs: list, show, explain, cancel. Making them is in `submit.py`, what they wrote in `streams.py`."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from http import HTTPStatus

from aiohttp import web

from broker.api.auth import caller_of
from broker.api.changes import update
from broker.api.finding import job_of_request, whole_number
from broker.api.services import SERVICES, Services, answer
from broker.api.views import Shown, job_view
from broker.documents import body_of
from broker.errors import Fault, InConflict, Invalid, NotFound
from broker.jobs.model import Ask, Phase, Wish, shape_of
from broker.store import keys as kinds
from broker.world import Job

routes = web.RouteTableDef()

PAGE = 100
LONGEST_PAGE = 1_000


@routes.get("/v1/jobs")
async def list_jobs(request: web.Request) -> web.Response:
    """Newest first; `phase`, `site` and `tenant` narrow it. `cursor` is the `next` of the page before."""
    services = request.app[SERVICES]
    limit = whole_number(request, "limit", PAGE, 1, LONGEST_PAGE)
    cursor = request.query.get("cursor")
    world = services.context.world
    found = (job.id for job in _matching(world.jobs.values(), request) if cursor is None or job.id < cursor)
    page = heapq.nlargest(limit + 1, found)
    items = [shown(services, world.jobs[job]) for job in page[:limit]]
    return answer({"items": items, "next": page[limit - 1] if len(page) > limit else None})


@routes.get("/v1/jobs/{job}")
async def show_job(request: web.Request) -> web.Response:
    """One job, with its spec."""
    job = await job_of_request(request)
    return answer({**shown(request.app[SERVICES], job), "spec": body_of(job.spec, name=job.wish.name)})


@routes.post("/v1/jobs/{job}/cancel")
async def cancel_job(request: web.Request) -> web.Response:
    """Ask for a job's end. Done when it was observed; a job that is over stays as it is."""
    services = request.app[SERVICES]
    job = await job_of_request(request)
    ask = Ask(caller_of(request), request.query.get("why", "cancelled by its user"), services.context.clock.now())

    def cancelled(wish: Wish | None) -> Wish:
        if wish is None:
            raise NotFound(f"job {job.id} is gone")
        return wish if wish.cancel else replace(wish, cancel=ask)

    if not job.state.phase.is_terminal:
        await update(services, services.context.world.mirror.keys.of(kinds.WISHES, job.id), cancelled)
    return answer(shown(services, services.context.world.jobs.get(job.id, job)), status=HTTPStatus.ACCEPTED)


@routes.post("/v1/jobs/{job}/hold")
async def hold_job(request: web.Request) -> web.Response:
    """Keep a job from being placed until it is released. One that is at a site goes on there, and waits if it comes back."""
    return await _hold(request, is_held=True)


@routes.post("/v1/jobs/{job}/release")
async def release_job(request: web.Request) -> web.Response:
    """Let a job be placed again."""
    return await _hold(request, is_held=False)


async def _hold(request: web.Request, is_held: bool) -> web.Response:
    services = request.app[SERVICES]
    job = await job_of_request(request)
    ask = Ask(caller_of(request), request.query.get("why", ""), services.context.clock.now())

    def changed(wish: Wish | None) -> Wish:
        if wish is None:
            raise NotFound(f"job {job.id} is gone")
        return wish if (wish.hold is not None) == is_held else replace(wish, hold=ask if is_held else None)

    if job.state.phase.is_terminal:
        raise InConflict(f"job {job.id} is over: it {job.state.phase}")
    await update(services, services.context.world.mirror.keys.of(kinds.WISHES, job.id), changed)
    return answer(shown(services, services.context.world.jobs.get(job.id, job)))


def shown(services: Services, job: Job) -> Shown:
    """A job as callers see it. Why a pending one waits, only the leader knows without working it out."""
    passed = services.planner.reasons.get(shape_of(job.spec, job.state)) if job.state.phase is Phase.PENDING else None
    held = job.wish.hold
    why_held = f"held by {held.who}{': ' * bool(held.why)}{held.why}: `fed release` lets it go" if held else ""
    return job_view(job, services.context.clock.now(), why_held or (passed.reason if passed else ""))


def _matching(jobs: Iterable[Job], request: web.Request) -> Iterator[Job]:
    phase, site, tenant = (request.query.get(name) for name in ("phase", "site", "tenant"))
    if phase and phase not in list(Phase):
        raise Invalid(faults=[Fault("phase", f"{phase} is none of {', '.join(Phase)}")])
    for job in jobs:
        is_wanted = (
            (not phase or job.state.phase == phase)
            and (not tenant or job.wish.tenant == tenant)
            and (not site or (job.state.phase is not Phase.PENDING and job.state.attempts and job.state.attempt.site == site))
        )
        if is_wanted:
            yield job
