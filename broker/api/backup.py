"""All records as a file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

from aiohttp import web

from broker.api.services import SERVICES
from broker.api.streaming import stream
from broker.store.backup import lines_of

routes = web.RouteTableDef()

CHUNK_BYTES = 1 << 18


@routes.get("/v1/backup", name="backup")
async def backup(request: web.Request) -> web.StreamResponse:
    """All records of the federation at one revision of the store, a line each: what `fed restore` takes. It holds what page
    tokens are signed with, so keep it as you keep tokens."""
    services = request.app[SERVICES]
    keys = services.context.world.mirror.keys
    listing = await services.store.read(keys.prefix)
    lines = lines_of(listing, keys, services.context.clock.now())
    return await stream(request, _chunks(lines), (), {"Content-Type": "application/x-ndjson"})


async def _chunks(lines: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    chunk = bytearray()
    for line in lines:
        chunk += line
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)
