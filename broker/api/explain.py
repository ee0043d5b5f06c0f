"""Why a job is where it is, or waits, and where one would go."""

from __future__ import annotations

from aiohttp import web

from broker.api.finding import job_of_request
from broker.api.health import paused_by
from broker.api.services import SERVICES, Services, answer
from broker.api.views import Shown, cost_view
from broker.jobs.model import Phase, Shape, shape_of
from broker.placement.explain import Explanation, of_attempt, why
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
        told: Shown = {"site": state.attempt.site if state.attempts else None, "reason": state.reason, "help": [], "verdicts": []}
        return answer({**about, **told})
    waited_hours = (services.context.clock.now() - job.wish.created_at) / HOUR_S
    told = explanation_view(explained(services, shape_of(job.spec, state), waited_hours))
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
    return why(shape, services.planner.snapshots.why(shape, services.context.clock.now()), waited_hours)


def explanation_view(explanation: Explanation) -> Shown:
    """Verdicts come best first, objecting sites last."""
    return {
        "site": explanation.site,
        "reason": explanation.reason,
        "help": list(explanation.help),
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
