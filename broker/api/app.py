"""The endpoint as an aiohttp application: all routes, and what stands around them."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from broker.api import (
    backup,
    events,
    explain,
    forget,
    health,
    jobs,
    openapi,
    operating,
    resources,
    sites,
    streams,
    submit,
    topology,
    unstick,
    uploads,
    whatif,
    wishes,
)
from broker.api.auth import check_caller, is_open
from broker.api.errors import errors_to_problems
from broker.api.limits import LIMITS, Limits, keep_limits
from broker.api.queries import check_query
from broker.api.services import SERVICES, Services
from broker.api.tracing import trace_requests
from broker.errors import Unavailable

MODULES = (
    *(submit, jobs, wishes, events, explain, streams),
    *(resources, uploads, sites, forget, topology),
    *(health, operating, unstick, backup, whatif, openapi),
)
"""Whose routes it has."""
BODY_BYTES = 8 * 2**20
"""The largest request."""


def api(services: Services) -> web.Application:
    """The application. Handlers find `services` under `SERVICES`."""
    around = [errors_to_problems, check_caller, keep_limits, check_query, wait_for_records]
    if services.context.tracer.is_on:
        around.insert(0, trace_requests)
    app = web.Application(client_max_size=BODY_BYTES, middlewares=around)
    app[SERVICES] = services
    app[LIMITS] = Limits()
    app[openapi.DESCRIBED] = MODULES
    for module in MODULES:
        app.add_routes(module.routes)
    return app


@web.middleware
async def wait_for_records(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around all handlers: until the records were read, nothing can be said to be absent. Raises Unavailable."""
    if not is_open(request) and not request.app[SERVICES].context.world.mirror.revision:
        raise Unavailable("the broker is starting: the records are being read")
    return await handler(request)
