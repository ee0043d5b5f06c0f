"""Output of one task from a byte on. It lies beside Ray's own logs, on the node where the task runs, and comes by the log
service of the head: https://docs.ray.io/en/latest/ray-observability/user-guides/cli-sdk.html"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp

from adapters.base import Report, RunName, Unreachable
from adapters.ray.client import RayClient, Said

PAUSE_S = 0.3
BEGIN_S = 10.0
"""How long output may take to begin."""
FOLLOW_S = 0.2
"""How often the log service looks for more."""

Where = Callable[[], Awaitable[tuple[Report, str | None] | None]]
"""How the run is now, and the node of the task; None where there is no such run."""


async def follow_log(
    client: RayClient, where: Where, name: RunName, task: int, offset: int, follow: bool
) -> AsyncIterator[bytes]:
    """Bytes from `offset` on; with `follow` until the run ends. The log service counts no bytes: what comes before `offset` is
    read and thrown away. Raises Unreachable."""
    file = f"fed-{name}.{task}.log"
    while (seen := await where()) is not None:
        report, node = seen
        if node is not None and (follow is False or report.state.is_over):
            async for chunk in _read(client, node, file, offset):
                yield chunk
            return
        if node is not None:
            async for chunk in _stream(client, where, node, file, offset):
                offset += len(chunk)
                yield chunk
        elif not follow or report.state.is_over:
            return
        await asyncio.sleep(PAUSE_S)


async def _read(client: RayClient, node: str, file: str, offset: int) -> AsyncIterator[bytes]:
    """All that is there now."""
    query = {"node_id": node, "filename": file, "lines": "-1"}
    skip = offset
    try:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(BEGIN_S):
                reply = await stack.enter_async_context(client.reply("GET", "/api/v0/logs/file", query))
            while True:
                async with asyncio.timeout(BEGIN_S):
                    chunk = await reply.content.readany()
                if not chunk:
                    return
                if len(chunk) > skip:
                    yield chunk[skip:]
                skip = max(skip - len(chunk), 0)
    except Said as said:
        if not is_absent(said):
            raise Unreachable(f"the output is not to be had: {said.message[:200]}") from said
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unreachable(f"the output was cut: {error!r}") from error


async def _stream(client: RayClient, where: Where, node: str, file: str, offset: int) -> AsyncIterator[bytes]:
    """What is there and what comes, until the run is over, or the service lets go of us."""
    query = {"node_id": node, "filename": file, "lines": "-1", "interval": str(FOLLOW_S)}
    skip = offset
    try:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(BEGIN_S):
                reply = await stack.enter_async_context(client.reply("GET", "/api/v0/logs/stream", query))
            while True:
                try:
                    async with asyncio.timeout(1.0):
                        chunk = await reply.content.readany()
                except TimeoutError:
                    seen = await where()
                    if seen is None or seen[0].state.is_over:
                        return
                    continue
                if not chunk:
                    return
                if len(chunk) > skip:
                    yield chunk[skip:]
                skip = max(skip - len(chunk), 0)
    except Said as said:
        if not is_absent(said):
            raise Unreachable(f"the output is not to be had: {said.message[:200]}") from said
    except (aiohttp.ClientError, OSError, TimeoutError):
        return  # asked for again by the caller, from where we are


def is_absent(said: Said) -> bool:
    """Whether there is no such file yet, or no more."""
    return said.code == 404 or "not found" in said.message
