"""Any endpoint serves all sites: what only a site's owner can answer is asked of that member and passed on."""

from __future__ import annotations

from aiohttp import ClientError, ClientTimeout, web

from broker.api.services import Services
from broker.errors import Unavailable
from broker.store import keys as kinds

PASSED_ON = "X-Fed-Passed-On"
"""Marks a request that came from another member: it goes no further."""
CHUNK_BYTES = 2**16


async def pass_on(request: web.Request, services: Services, site: str) -> web.StreamResponse:
    """The answer of the site's owner, streamed through. Raises Unavailable when nobody owns the site or its owner is away."""
    world = services.context.world
    owner = world.mirror.entries.get(world.mirror.keys.of(kinds.OWNERS, site))
    member = world.members.get(owner.value.member) if owner and owner.value else None
    if member is None or member.id == services.members.me.id or PASSED_ON in request.headers:
        raise Unavailable(f"no broker works site {site} just now; see `fed health`")
    headers = {PASSED_ON: services.members.me.id}
    if "Authorization" in request.headers:
        headers["Authorization"] = request.headers["Authorization"]
    url, no_limit = f"{member.url}{request.rel_url}", ClientTimeout(total=None)
    try:
        async with services.peers.get(url, headers=headers, timeout=no_limit) as theirs:
            ours = web.StreamResponse(status=theirs.status, headers={"Content-Type": theirs.content_type})
            await ours.prepare(request)
            async for chunk in theirs.content.iter_chunked(CHUNK_BYTES):
                await ours.write(chunk)
            await ours.write_eof()
            return ours
    except ClientError as error:
        raise Unavailable(f"the broker that works site {site} does not answer: {error}") from error


