"""Why a job is where it is, or waits, and where one would go."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aiohttp import web

from broker.api.finding import job_of_request
from broker.api.health import paused_by
from broker.api.services import SERVICES, Services, answer
from broker.api.views import Shown, cost_view
from broker.jobs.model import Phase, Shape, shape_of
from broker.placement.explain import Explanation, of_attempt, why
from broker.placement.remedies import Remedy
from broker.placement.standing import Standing
from broker.placement.starts import Start, release_hours, start
from broker.placement.view import Plan, PlanInput
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
        told: Shown = explanation_view(Told(Explanation((), site, state.reason)))
        return answer({**about, **told})
    told = explanation_view(told_of(services, shape_of(job.spec, state), job))
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


@dataclass(frozen=True, slots=True)
class Told:
    """All that is told of a shape: what every site says, where it stands in the queue, and when it should start if it waits."""

    explanation: Explanation
    standing: Standing | None = None
    start: Start | None = None


def explained(services: Services, shape: Shape) -> Explanation:
    """What every site says of a shape now."""
    planner = services.planner
    given = planner.snapshots.why(shape, services.context.clock.now())
    return why(shape, given, 0.0, planner.last, planner.memory)


def told_of(services: Services, shape: Shape, job: Job | None = None) -> Told:
    """All about a shape: of a job that waits, or of one that would be made now."""
    planner, now = services.planner, services.context.clock.now()
    before = services.context.world.older_of_class(job, shape) if job else 0
    standing = planner.standing(shape, before)
    is_next = standing is not None and not standing.is_planned and not standing.ahead
    given = planner.snapshots.why(shape, now)
    waited_hours = (now - job.wish.created_at) / HOUR_S if job else 0.0
    explanation = why(shape, given, waited_hours, Plan() if is_next else planner.last, planner.memory)
    return Told(explanation, standing, _start(services, shape, explanation, given, before))


def _start(services: Services, shape: Shape, explanation: Explanation, given: PlanInput, before: int) -> Start | None:
    planner, wait, at = services.planner, explanation.wait, explanation.waits_for
    if wait is None or at is None:
        return None
    accuracy, (site, pool) = planner.run_times.accuracy, at
    (view,) = (view for view in given.sites if view.site.name == site)
    paced = (planner.snapshots.paced(view, pace, given.now) for pace in (accuracy.fast, accuracy.slow))
    soon, late = (release_hours(shape, pool, given, each) for each in paced)
    return start(wait, before, (soon, late), accuracy, is_last=shape not in planner.last.passed)


def explanation_view(told: Told) -> Shown:
    """Verdicts come best first, objecting sites last. `binding`, `standing`, `start` and `remedies` each have a `text` for
    people."""
    explanation, binding = told.explanation, told.explanation.binding
    return {
        "site": explanation.site,
        "reason": explanation.reason,
        "help": list(explanation.help),
        "binding": {"what": binding.what, "text": binding.text} if binding else None,
        "standing": _standing_view(told.standing) if told.standing else None,
        "start": _start_view(told.start) if told.start else None,
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
    ahead = [{"tenant": each.tenant, "jobs": each.jobs, "share": each.share} for each in standing.by_tenant]
    return {
        "tenant": standing.tenant,
        "share": standing.share,
        "weight": standing.weight,
        "parent": standing.parent or None,
        "place": standing.place,
        "siblings": standing.siblings,
        "jobs_ahead": standing.ahead,
        "has_more_ahead": standing.has_more,
        "ahead": ahead,
        "of_own_class": standing.before,
        "is_planned": standing.is_planned,
        "text": standing.text,
    }


def _start_view(told: Start) -> Shown:
    accuracy = told.accuracy
    return {
        "earliest_hours": told.earliest_hours,
        "expected_hours": told.expected_hours,
        "latest_hours": told.latest_hours,
        "runs_known": accuracy.runs,
        "run_time_factors": [accuracy.low, accuracy.high],
        "text": told.text,
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
