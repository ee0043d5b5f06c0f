"""Whether a site takes new jobs, and whether it answers."""

from __future__ import annotations

from aiohttp import web

from broker.api.admission import admit
from broker.api.auth import caller_of
from broker.api.finding import flag
from broker.api.health import site_health
from broker.api.peers import pass_on
from broker.api.services import SERVICES, answer
from broker.errors import NotFound
from topology.site import Admission

routes = web.RouteTableDef()


@routes.post("/v1/sites/{name}/cordon")
async def cordon_site(request: web.Request) -> web.Response:
    """It takes no new jobs; what is there goes on."""
    return await _admit(request, Admission.CORDONED)


@routes.post("/v1/sites/{name}/uncordon")
async def uncordon_site(request: web.Request) -> web.Response:
    """It takes jobs again."""
    return await _admit(request, Admission.OPEN)


@routes.post("/v1/sites/{name}/drain")
async def drain_site(request: web.Request) -> web.Response:
    """It takes no new jobs, and what is there goes elsewhere; with `finish` but for what runs already. None of it costs a job an
    attempt of its retries. `drained` in its health says when nothing is left."""
    return await _admit(request, Admission.FINISHING if flag(request, "finish") else Admission.DRAINING)


@routes.post("/v1/sites/{name}/test")
async def ask_site(request: web.Request) -> web.StreamResponse:
    """Ask each of its layers now. What follows from it is left to the probes: one answer proves little."""
    services, name = request.app[SERVICES], request.match_info["name"]
    if name not in services.context.world.sites:
        raise NotFound(f"no site is named {name}")
    checks = await services.sites.ask(name)
    if checks is None:
        return await pass_on(request, services, name)
    return answer({"name": name, "checks": checks})


async def _admit(request: web.Request, admission: Admission) -> web.Response:
    services, name = request.app[SERVICES], request.match_info["name"]
    await admit(services, name, admission, caller_of(request))
    return answer(site_health(services, name))
