"""Output of tasks, from the node managers:
https://hadoop.apache.org/docs/stable/hadoop-yarn/hadoop-yarn-site/NodeManagerRest.html

They give a log's last bytes, not those from an offset on, between a header that tells its whole length and a footer.
Node managers keep logs for a while after the end (`yarn.nodemanager.log.retain-seconds`, or where log aggregation puts them).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from adapters.base import Unreachable
from adapters.calls import within
from adapters.yarn.client import Opened, Web
from adapters.yarn.listing import App
from adapters.yarn.master.application import OUTPUT, PLACES

Find = Callable[[], Awaitable[App | None]]
BEGIN_S = 10.0
PAUSE_S = 0.3
MOST_HEADER = 4096
_FIRST = re.compile(r"^(https?)://([^/]+)/node/containerlogs/([^/]+)/")
_LENGTH = re.compile(rb"^LogLength:(\d+)$", re.MULTILINE)
_CONTENTS = b"LogContents:\n"


@dataclass(frozen=True, slots=True)
class _Place:
    """A container at a node manager."""

    url: str

    def log(self, name: str) -> str:
        return f"{self.url}/logs/{name}"


async def output(web: Web, find: Find, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
    """What a task has printed from `offset` on; with `follow` until its run is over. A run that is nowhere has printed nothing.
    Raises Unreachable."""
    place: _Place | None = None
    while True:
        async with within(BEGIN_S):
            app = await find()
            if app is None:
                return
            is_over = app.finished_ms > 0
            place = place or await _place(web, app, task)
        if place is not None:
            async for chunk in _tail(web, place.log(OUTPUT), offset):
                offset += len(chunk)
                yield chunk
        if is_over or not follow:
            return
        await asyncio.sleep(PAUSE_S)


async def _place(web: Web, app: App, task: int) -> _Place | None:
    """Where a task's container is, or was: the first one's is listed, and the application master wrote down the others'."""
    first = _FIRST.match(app.logs)
    if not first:
        return None
    scheme, node, container = first.groups()
    master = _Place(f"{scheme}://{node}/ws/v1/node/containers/{container}")
    if task == 0:
        return master
    told = b"".join([chunk async for chunk in _tail(web, master.log(PLACES), 0)])
    if not told:
        return None
    try:
        place = json.loads(told).get(str(task))
        return _Place(f"{scheme}://{place['web']}/ws/v1/node/containers/{place['container']}") if place else None
    except (ValueError, KeyError, TypeError) as error:
        raise Unreachable(f"the application master's list of tasks makes no sense: {error!r}") from error


async def _tail(web: Web, url: str, offset: int) -> AsyncIterator[bytes]:
    """A log from `offset` on; nothing where there is no such log, or not yet."""
    if offset:
        length = await _length(web, url)
        if length <= offset:
            return
        # it may grow until we ask, and then its last bytes begin later than ours: those are asked for next time
        async for chunk in _contents(web, url, offset, str(offset - length)):
            yield chunk
        return
    async for chunk in _contents(web, url, 0, ""):
        yield chunk


async def _length(web: Web, url: str) -> int:
    async with within(BEGIN_S), web.opened("GET", url, accept="text/plain", size="-1") as reply:
        return (await _header(reply))[0] if reply.is_ok else 0


async def _contents(web: Web, url: str, offset: int, size: str) -> AsyncIterator[bytes]:
    async with AsyncExitStack() as stack:
        async with within(BEGIN_S):
            request = web.opened("GET", url, accept="text/plain", **({"size": size} if size else {}))
            reply = await stack.enter_async_context(request)
            if not reply.is_ok:
                return
            length, rest = await _header(reply)
        asked = min(-int(size), length) if size else length
        skip = offset - (length - asked)
        if skip < 0:
            return
        left = asked - skip
        chunk = rest
        while left > 0:
            if skip:
                chunk, skip = chunk[skip:], max(0, skip - len(chunk))
            if chunk:
                yield chunk[:left]
                left -= len(chunk)
            if left > 0:
                async with within(BEGIN_S):
                    chunk = await reply.read()
                if not chunk:
                    raise Unreachable(f"{url}: the log ended before its length")


async def _header(reply: Opened) -> tuple[int, bytes]:
    """The length of a whole log, and what of it came with the header."""
    head = b""
    while _CONTENTS not in head:
        chunk = await reply.read()
        head += chunk
        if not chunk or len(head) > MOST_HEADER + (1 << 16):
            raise Unreachable(f"{reply.url}: no log, but {head[:80]!r}")
    header, _, rest = head.partition(_CONTENTS)
    found = _LENGTH.search(header)
    if not found:
        raise Unreachable(f"{reply.url}: a log without a length")
    return int(found[1]), rest
