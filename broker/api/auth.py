"""Who calls, and whether they may. Callers show a token of `token_file`; without one, they are whoever is on this machine.

A browser on this machine is not whoever is on this machine: pages from elsewhere must not reach the endpoint through it. So,
without tokens, requests must name this host, and none may come from another origin.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from broker.access import LOCAL, Caller, Role, Tokens
from broker.api.queries import route_of
from broker.api.rights import LEAST, WITHOUT_TENANT
from broker.api.services import SERVICES
from broker.config import is_loopback
from broker.errors import Forbidden, Unauthorized
from broker.jobs.model import DEFAULT_TENANT

OPEN = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/{file}"})
"""Told to everybody: they hold nothing of the federation."""
CALLER = web.RequestKey("caller", Caller)


@web.middleware
async def check_caller(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around all handlers: raises Unauthorized and Forbidden."""
    if is_open(request):
        return await handler(request)
    services = request.app[SERVICES]
    if services.tokens is None:
        _check_origin(request)
        request[CALLER] = LOCAL
    else:
        request[CALLER] = _bearer(request, services.tokens)
        _check_role(request, request[CALLER])
    return await handler(request)


def is_open(request: web.Request) -> bool:
    """Whether everybody may ask this."""
    return route_of(request).removeprefix("GET ") in OPEN


def caller(request: web.Request) -> Caller:
    """Who asks."""
    return request[CALLER]


def caller_of(request: web.Request) -> str:
    """Who asks, for the records."""
    return caller(request).name


def sees(request: web.Request, tenant: str) -> bool:
    """Whether what belongs to a tenant is this caller's to see."""
    return caller(request).tenant in (None, tenant)


def tenant_asked(request: web.Request, named: str | None) -> str | None:
    """The tenant that a request is about: the one that is named, else the caller's own; None for all. Raises Forbidden for one
    that is not the caller's."""
    own = caller(request).tenant
    if own and named not in (None, "", own):
        raise Forbidden(f"your token is of tenant {own}, and this is about {named}")
    return named or own


def with_tenant(request: web.Request, plain: Any) -> Any:
    """What was sent, of the caller's own tenant where it names none. Raises Forbidden where it names another's."""
    if not isinstance(plain, dict):
        return plain
    own = caller(request).tenant
    if own is None:
        return plain
    named = plain.get("tenant", own)
    if isinstance(named, str):
        tenant_asked(request, named)
    return {**plain, "tenant": named}


def default_tenant(request: web.Request) -> str:
    """Whose a name is that no tenant is given with."""
    return caller(request).tenant or DEFAULT_TENANT


def _bearer(request: web.Request, tokens: Tokens) -> Caller:
    scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if not given:
        raise Unauthorized("this endpoint wants a token: set FED_TOKEN, or send `Authorization: Bearer TOKEN`")
    found = tokens.caller_of(given.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        request.app[SERVICES].context.metrics.refused_logins.inc()
        raise Unauthorized("not a token of this endpoint, or one that has expired: ask an admin for a new one")
    return found


def _check_role(request: web.Request, who: Caller) -> None:
    route = route_of(request)
    if not route:  # no such route: that is told as for everybody
        return
    least = LEAST.get(route, Role.ADMIN)
    if not who.role.may(least):
        raise Forbidden(f"this wants role {least}, and {who.name} is {who.role}")
    if who.tenant and route in WITHOUT_TENANT:
        raise Forbidden(f"this tells of all tenants, and {who.name} is of {who.tenant}")


def _check_origin(request: web.Request) -> None:
    host = urlsplit(f"//{request.host}").hostname or ""
    if not is_loopback(host):
        raise Unauthorized(f"this endpoint answers on this machine only, and not as {host}: use 127.0.0.1, or set token_file")
    origin = request.headers.get("Origin")
    if origin and urlsplit(origin).netloc != request.host:
        raise Unauthorized(f"requests from pages of {origin} are not taken")
