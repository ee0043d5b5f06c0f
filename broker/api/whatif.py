"""What would come of a change to the federation."""

from __future__ import annotations

from aiohttp import web

from broker.api.bodies import body_of_request
from broker.api.services import SERVICES, answer
from broker.documents.whatif import WhatIfBody

routes = web.RouteTableDef()


@routes.post("/v1/whatif")
async def ask_what_if(request: web.Request) -> web.Response:
    """What would come of changes for all that waits and runs: simulated with the planner on a copy. Nothing is stored."""
    services = request.app[SERVICES]
    body = await body_of_request(request, WhatIfBody)
    return answer(await services.whatifs.ask(services.planner.snapshots, body, services.context.clock.now()))
