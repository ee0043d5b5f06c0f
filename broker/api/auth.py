"""Who may call. One token for all, from `token_file`; without it, whoever is on this machine.

A browser on this machine is not whoever is on this machine: pages from elsewhere must not reach the endpoint through it. So,
without a token, requests must name this host, and none may come from another origin.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from broker.api.services import SERVICES
from broker.config import is_loopback
from broker.errors import Unauthorized

OPEN = frozenset({"/healthz", "/readyz"})


@web.middleware
async def check_caller(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around all handlers: raises Unauthorized."""
    token = request.app[SERVICES].token
    if request.path in OPEN:
        return await handler(request)
    if token is None:
        _check_origin(request)
    else:
        _check_token(request, token)
    return await handler(request)


def caller_of(request: web.Request) -> str:
    """Who asks, for the records."""
    return "admin" if request.app[SERVICES].token else "local"


def _check_token(request: web.Request, token: str) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if not given:
        raise Unauthorized("this endpoint wants a token: set FED_TOKEN, or send `Authorization: Bearer TOKEN`")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Unauthorized("not the token of this endpoint")


def _check_origin(request: web.Request) -> None:
    host = urlsplit(f"//{request.host}").hostname or ""
    if not is_loopback(host):
        raise Unauthorized(f"this endpoint answers on this machine only, and not as {host}: use 127.0.0.1, or set token_file")
    origin = request.headers.get("Origin")
    if origin and urlsplit(origin).netloc != request.host:
        raise Unauthorized(f"requests from pages of {origin} are not taken")
