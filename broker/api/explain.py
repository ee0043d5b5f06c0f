"""Why a job is where it is, or waits, and where one would go."""

from __future__ import annotations

import math

from aiohttp import web

from broker.api.finding import job_of_request
from broker.api.health import paused_by
from broker.api.services import SERVICES, Services, answer
from broker.api.views import Shown, cost_view
from broker.jobs.model import Phase, Shape, shape_of
from broker.placement.explain import Explanation, of_attempt, why
from broker.placement.remedies import Remedy
from broker.placement.standing import Standing
from broker.placement.starts import Start
from broker.world import Job, World
from topology.site import Price

routes = web.RouteTableDef()

HOUR_S = 3600


@routes.get("/v1/jobs/{job}/why")
async def explain_job(request: web.Request) -> web.Response:
    """For a job that waits: a verdict on each site, what binds, and what would help. For others: what decided each attempt."""
    services = request.app[SERVICES]
    job = await job_of_request(request)
    state = job.state
    attempts = [
        {"number": each.number, "site": each.site, "lines": of_attempt(each, _currency(services, each.site))}
        for each in state.attempts
    ]
    about = {"job": job.id, "name": job.wish.name, "phase": state.phase, "attempts": attempts}
    if state.phase is not Phase.PENDING:
        site = state.attempt.site if state.attempts else None
        told: Shown = explanation_view(Explanation((), site, state.reason), None)
        return answer({**about, **told})
    waited_hours = (services.context.clock.now() - job.wish.created_at) / HOUR_S
    shape = shape_of(job.spec, state)
    told = explanation_view(explained(services, shape, waited_hours), services.planner.standing(shape))
    if kept := kept_back(services.context.world, job):
        told["reason"], told["help"] = kept[0], [kept[1]]
    elif state.not_before and state.not_before > services.context.clock.now():
        told["reason"] = f"it is tried again after a pause; before that: {state.reason}"
    return answer({**about, **told})


def kept_back(world: World, job: Job) -> tuple[str, str] | None:
    """What somebody has to end before a job is placed, whatever room there is: a hold of its own, or a pause of all; and how."""
    if job.wish.hold:
        return f"held by {job.wish.hold.words}", "`fed release` lets it be placed"
    return paused_by(world)


def _currency(services: Services, site: str) -> str:
    known = services.context.world.sites.get(site)
    return (known.price if known else Price()).currency


def explained(services: Services, shape: Shape, waited_hours: float = 0.0) -> Explanation:
    """What every site says of a shape now."""
    given = services.planner.snapshots.why(shape, services.context.clock.now())
    return why(shape, given, waited_hours, services.planner.run_times.accuracy)


def explanation_view(explanation: Explanation, standing: Standing | None) -> Shown:
    """Verdicts come best first, objecting sites last. `standing`, `start` and `remedies` each have a `text` for people."""
    return {
        "site": explanation.site,
        "reason": explanation.reason,
        "help": list(explanation.help),
        "binding": explanation.binding,
        "standing": _standing_view(standing) if standing else None,
        "start": _start_view(explanation.start) if explanation.start else None,
        "remedies": [_remedy_view(each) for each in explanation.remedies],
        "verdicts": [
            {
                "site": each.site,
                "objections": [{"text": objection.text, "help": objection.help} for objection in each.objections],
                "pool": each.pool or None,
                "gpu_type": each.gpu_type,
                "cost": cost_view(each.cost) if each.cost else None,
                "text": each.text,
            }
            for each in explanation.verdicts
        ],
    }


def _standing_view(standing: Standing) -> Shown:
    ahead = [{"tenant": tenant, "jobs": jobs} for tenant, jobs in standing.by_tenant]
    return {
        "tenant": standing.tenant,
        "share_by_weight": standing.share,
        "place": standing.place,
        "tenants": standing.tenants,
        "jobs_ahead": standing.ahead,
        "has_more_ahead": standing.is_more,
        "ahead": ahead,
        "text": standing.text,
    }


def _start_view(start: Start) -> Shown:
    accuracy = start.accuracy
    return {
        "earliest_hours": start.earliest_hours,
        "latest_hours": start.latest_hours,
        "runs_known": accuracy.runs,
        "run_time_factors": [accuracy.low, accuracy.high],
        "text": start.text,
    }


def _remedy_view(remedy: Remedy) -> Shown:
    gain = None if math.isinf(remedy.gain_hours) else remedy.gain_hours
    return {
        "change": remedy.change,
        "site": remedy.site,
        "starts_in_hours": remedy.starts_in_hours,
        "gain_hours": gain,
        "text": remedy.text,
    }
