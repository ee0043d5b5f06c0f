"""Any endpoint serves all sites: what only a site's owner can answer is asked of that member and passed on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from aiohttp import ClientError, ClientResponse, ClientTimeout, web

from broker.api.services import Services
from broker.api.streaming import stream
from broker.errors import Unavailable
from broker.store import keys as kinds
from broker.tracing.parent import HEADER

PASSED_ON = "X-Fed-Passed-On"
"""Marks a request that came from another member: it goes no further."""
TOLD = ("Content-Type", "ETag", "Retry-After")
"""Headers of the other member's answer that are its caller's."""
CONNECT_S = 5.0


class PeerFailed(Exception):
    """The other member broke off."""


async def pass_on(
    request: web.Request, services: Services, site: str, said: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """The answer of the site's owner, streamed through; so is the body. `said` is what the query does not say, and was settled
    here. Raises Unavailable when nobody owns the site or its owner is away."""
    world = services.context.world
    owner = world.mirror.entries.get(world.mirror.keys.of(kinds.OWNERS, site))
    member = world.members.get(owner.value.member) if owner and owner.value else None
    if member is None or member.id == services.members.me.id or PASSED_ON in request.headers:
        raise Unavailable(f"no broker works site {site} just now; see `fed health`")
    headers = {PASSED_ON: services.members.me.id}
    if "Authorization" in request.headers:
        headers["Authorization"] = request.headers["Authorization"]
    span = services.context.tracer.current()
    if span:
        headers[HEADER] = span.header
    timeout = ClientTimeout(total=None, sock_connect=CONNECT_S)
    url = f"{member.url}{request.rel_url.update_query(said or {})}"
    body = request.content if request.can_read_body else None
    if body:
        headers["Content-Type"] = request.content_type
    try:
        theirs = await services.peers.request(request.method, url, headers=headers, data=body, timeout=timeout)
    except (ClientError, TimeoutError) as error:
        raise Unavailable(f"the broker that works site {site} does not answer: {error}") from error
    async with theirs:
        told = {name: theirs.headers[name] for name in TOLD if name in theirs.headers}
        return await stream(request, _chunks(theirs), (PeerFailed,), told, theirs.status)


async def _chunks(theirs: ClientResponse) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in theirs.content.iter_any():
            yield chunk
    except (ClientError, ConnectionError) as error:
        raise PeerFailed(str(error)) from error
