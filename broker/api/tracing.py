"""Requests as spans, by OpenTelemetry's conventions for HTTP servers; and the trace that a request hands on to its jobs."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from broker.api.auth import CALLER, is_open
from broker.api.services import SERVICES
from broker.tracing.parent import HEADER, Parent, parse
from broker.tracing.tracer import Kind, Span, Value

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@web.middleware
async def trace_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around all handlers, and around what turns their errors into answers; only where tracing is on."""
    if is_open(request):
        return await handler(request)
    method = request.method if request.method in METHODS else "_OTHER"
    resource = request.match_info.route.resource
    route = resource.canonical if resource else ""
    attributes: dict[str, Value] = {
        "http.request.method": method,
        "url.path": request.path,
        "url.scheme": request.scheme,
        "client.address": request.remote or "",
        "user_agent.original": request.headers.get("User-Agent", ""),
    }
    if route:
        attributes["http.route"] = route
    name = " ".join(filter(None, ("HTTP" if method == "_OTHER" else method, route)))
    with request.app[SERVICES].context.tracer.span(name, attributes, Kind.SERVER, parent_of(request)) as span:
        response = await handler(request)
        _tell(span, request, response)
        return response


def parent_of(request: web.Request) -> Parent | None:
    """The span that the caller is in; None where it says none, several, or nothing that can be read."""
    given = request.headers.getall(HEADER, [])
    return parse(given[0]) if len(given) == 1 else None


def trace_for(request: web.Request, count: int) -> str:
    """What `count` jobs made together keep of the request's trace. Where the caller is in none, a job that is alone goes on with
    the request's, and each of several has a trace of its own."""
    current = request.app[SERVICES].context.tracer.current()
    return current.header if current and (count == 1 or parent_of(request)) else ""


def _tell(span: Span, request: web.Request, response: web.StreamResponse) -> None:
    span.tell("http.response.status_code", response.status)
    if CALLER in request:
        span.tell("enduser.id", request[CALLER].name)
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.fail(str(response.status))
