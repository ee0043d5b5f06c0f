"""Handing in jobs, and asking where one would go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from broker.api.auth import caller_of, with_tenant
from broker.api.bodies import hash_of, raw_of
from broker.api.explain import explained, explanation_view
from broker.api.finding import newest_version
from broker.api.jobs import shown
from broker.api.services import SERVICES, Services, answer
from broker.api.tracing import trace_for
from broker.api.views import new_job_view
from broker.documents import JobBody, job_of
from broker.documents.fields import Body
from broker.documents.reading import check, load_json
from broker.errors import Fault, Invalid
from broker.jobs.model import DEFAULT_TENANT, JobSpec, JobState, Shape, Wish, shape_of
from broker.placement.explain import can_ever_fit, misses_deadline
from broker.snapshot import as_declared
from broker.submission import MOST_JOBS, NewJob, Request, known_tenant
from broker.world import World
from topology.dataset import DatasetId

routes = web.RouteTableDef()

MOST_DEADLINES = 10
"""Classes of jobs with a deadline that are looked at, of one request."""
KEY = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class JobsBody(Body):
    """Jobs to make together."""

    jobs: Annotated[list[JobBody], Field(min_length=1, max_length=MOST_JOBS)]


@routes.post("/v1/jobs")
async def submit_jobs(request: web.Request) -> web.Response:
    """Accept a job, or `{"jobs": [...]}`, all of one tenant; sites are chosen after the reply. With `Idempotency-Key`, the same
    body makes the same jobs however often it is sent."""
    services = request.app[SERVICES]
    key = _key(request)
    raw = await raw_of(request)
    plain = load_json(raw)
    is_bulk = isinstance(plain, dict) and "jobs" in plain
    bodies = check(JobsBody, _of_tenant(request, plain)).jobs if is_bulk else [check(JobBody, with_tenant(request, plain))]
    jobs = pinned(services.context.world, bodies)
    trace = trace_for(request, len(jobs))
    wishes = await services.submissions.create(Request(bodies[0].tenant, caller_of(request), jobs, hash_of(raw), key, trace))
    warnings = _warnings(services, [job.spec for job in jobs])
    if is_bulk:
        items = [_brief(services, wish) for wish in wishes]
        return answer({"items": items, "next": None, "warnings": warnings}, status=HTTPStatus.CREATED)
    job = services.context.world.jobs.get(wishes[0].id)
    view = shown(services, job) if job else new_job_view(wishes[0])
    headers = {"Location": f"/v1/jobs/{wishes[0].id}"}
    return answer({**view, "warnings": warnings}, status=HTTPStatus.CREATED, headers=headers)


@routes.post("/v1/plan")
async def plan_job(request: web.Request) -> web.Response:
    """Where a job would go now, and why: a verdict on each site. Nothing is stored."""
    services = request.app[SERVICES]
    job = pinned(services.context.world, [check(JobBody, with_tenant(request, load_json(await raw_of(request))))])[0]
    shape = shape_of(job.spec, JobState(""))
    warnings = _warnings(services, [job.spec])
    told = explanation_view(explained(services, shape), services.planner.standing(shape))
    return answer({"name": job.name, **told, "warnings": warnings})


def _of_tenant(request: web.Request, plain: dict[str, Any]) -> dict[str, Any]:
    jobs = plain["jobs"]
    return {**plain, "jobs": [with_tenant(request, job) for job in jobs]} if isinstance(jobs, list) else plain


def pinned(world: World, bodies: Sequence[JobBody]) -> list[NewJob]:
    """The jobs with each input at one version. Raises Invalid with every fault."""
    tenant = known_tenant(world.tenants, bodies[0].tenant)
    known: dict[tuple[str, str, str | None], DatasetId] = {}

    def resolve(owner: str, name: str, version: str | None) -> DatasetId:
        wanted = (owner, name, version)
        if wanted not in known:
            known[wanted] = _dataset(world, owner, name, version)
        return known[wanted]

    jobs, faults = [], []
    for position, body in enumerate(bodies):
        where = f"jobs.{position}." if len(bodies) > 1 else ""
        if body.tenant != tenant:
            faults.append(Fault(f"{where}tenant", f"{body.tenant}, but {tenant} before: send each tenant's jobs apart"))
            continue
        try:
            jobs.append(NewJob(*job_of(body, resolve), body.labels))
        except Invalid as error:
            faults += [Fault(f"{where}{fault.field}", fault.message) for fault in error.faults]
    if faults:
        raise Invalid(faults=faults)
    return jobs


def _dataset(world: World, tenant: str, name: str, version: str | None) -> DatasetId:
    """The version named, or the newest; of the tenant itself, else of the default tenant, which is for all. Raises Invalid."""
    for owner in (tenant, DEFAULT_TENANT):
        found = newest_version(world, owner, name) if version is None else DatasetId(owner, name, version)
        if found in world.datasets:
            return found
    wanted = name if version is None else f"{name}@{version}"
    raise Invalid(faults=[Fault("inputs", f"tenant {tenant} has no dataset {wanted}, nor has {DEFAULT_TENANT}: apply it first")])


def _warnings(services: Services, specs: Sequence[JobSpec]) -> list[str]:
    """For each class of jobs that no registered site could run, even empty and open: what each site lacks. Then preferred sites
    that are not there; and of the first classes with a deadline those that are not expected to meet it."""
    shapes: dict[Shape, None] = dict.fromkeys(shape_of(spec, JobState("")) for spec in specs)
    views = [as_declared(site) for site in services.context.world.sites.values()]
    found = [against for shape in shapes if (against := can_ever_fit(shape, views))]
    strange = dict.fromkeys(name for shape in shapes for name in shape.sites.prefer if name not in services.context.world.sites)
    now, snapshots = services.context.clock.now(), services.planner.snapshots
    hurried = islice((shape for shape in shapes if shape.deadline_s is not None), MOST_DEADLINES)
    late = [warning for shape in hurried if (warning := misses_deadline(shape, snapshots.why(shape, now)))]
    return [
        *(f"no registered site can ever run it: {'; '.join(against)}" for against in found),
        *(f"sites.prefer: no site is named {name}, so it is passed over" for name in strange),
        *late,
    ]


def _brief(services: Services, wish: Wish) -> dict[str, object]:
    job = services.context.world.jobs.get(wish.id)
    return {**new_job_view(wish), "phase": job.state.phase} if job else new_job_view(wish)


def _key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not KEY.fullmatch(key):
        raise Invalid(faults=[Fault("Idempotency-Key", "use 1 to 128 letters, digits, '.', '_', ':' and '-'")])
    return key
