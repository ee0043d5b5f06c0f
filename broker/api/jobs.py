"""Jobs: list and show. Making them is in `submit.py`, cancel and hold in `wishes.py`, what they wrote in `streams.py`."""

from __future__ import annotations

from aiohttp import web

from broker.api.explain import explained, kept_back
from broker.api.finding import job_of_request
from broker.api.matching import tagged
from broker.api.pages import page_of
from broker.api.selecting import given_of, narrowed, newest, selector_of
from broker.api.services import SERVICES, Services, answer
from broker.api.views import Shown, job_view
from broker.documents import body_of
from broker.jobs.model import Phase, Shape, shape_of
from broker.world import Job

routes = web.RouteTableDef()

MOST_WORKED_OUT = 10
"""Classes of jobs of one answer for which a broker that does not lead asks every site."""


@routes.get("/v1/jobs")
async def list_jobs(request: web.Request) -> web.Response:
    """Newest first, narrowed by the filters. `cursor` is the `next` of the page before, with the same filters."""
    services = request.app[SERVICES]
    filters = given_of(request)
    selector = narrowed(request, selector_of(filters))
    page, further = await page_of(
        request, filters, lambda before: newest(services.context.world, selector, before), lambda job: job.id
    )
    told: dict[Shape, str] = {}
    return answer({"items": [shown(services, job, told) for job in page], "next": further})


@routes.get("/v1/jobs/{job}")
async def show_job(request: web.Request) -> web.Response:
    """One job, with its spec."""
    job = await job_of_request(request)
    spec = {**body_of(job.spec, name=job.wish.name), "labels": job.wish.labels}
    return tagged(answer({**shown(request.app[SERVICES], job), "spec": spec}), job.wish_revision)


def shown(services: Services, job: Job, told: dict[Shape, str] | None = None) -> Shown:
    """A job as callers see it. `told` keeps, for the jobs of one answer, what was worked out of why a class waits."""
    why = _why_it_waits(services, job, {} if told is None else told) if job.state.phase is Phase.PENDING else ""
    return job_view(job, services.context.clock.now(), why)


def _why_it_waits(services: Services, job: Job, told: dict[Shape, str]) -> str:
    """The leader knows it from its last plan; the others work it out, of the first classes of an answer."""
    if kept := kept_back(services.context.world, job):
        return "; ".join(kept)
    shape = shape_of(job.spec, job.state)
    if passed := services.planner.reasons.get(shape):
        return passed.reason
    if services.members.is_leader or (job.state.not_before or 0.0) > services.context.clock.now():
        return ""
    if shape not in told and len(told) < MOST_WORKED_OUT:
        told[shape] = explained(services, shape).reason
    return told.get(shape, "")
