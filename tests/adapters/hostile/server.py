"""What may answer at an engine's address instead of the engine: each way to go wrong is a handler of requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Wrong = Callable[["Server", web.Request], Awaitable[web.StreamResponse]]
HTML = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome to the portal</body></html>"
CHUNK = b" " * 2**18


class Server:
    """An engine that goes wrong in one way. Counts what it was asked and what it sent."""

    def __init__(self, wrong: Wrong) -> None:
        self._wrong = wrong
        self.requests = 0
        self.longest_reply = 0
        """Bytes of it that were taken."""
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Whatever was asked."""
        self.requests += 1
        await request.read()
        return await self._wrong(self, request)


@asynccontextmanager
async def serving(wrong: Wrong) -> AsyncIterator[Server]:
    """The server, on a free port of loopback, for as long as it lasts."""
    server = Server(wrong)
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{any:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def saying(status: int, text: str, headers: Mapping[str, str] | None = None, kind: str = "text/plain") -> Wrong:
    """The same words to all."""

    async def say(server: Server, request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers, content_type=kind)

    return say


def saying_json(value: Any, status: int = 200) -> Wrong:
    """The same JSON to all."""
    return saying(status, json.dumps(value), kind="application/json")


async def never(server: Server, request: web.Request) -> web.StreamResponse:
    """Takes the request and does not answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def endless(server: Server, request: web.Request) -> web.StreamResponse:
    """JSON that begins well and does not end, as fast as it is read."""
    reply = await _begun(request, b'{"jobs": [')
    sent = 0
    while True:
        await reply.write(CHUNK)
        sent += len(CHUNK)
        server.longest_reply = max(server.longest_reply, sent)


async def dripping(server: Server, request: web.Request) -> web.StreamResponse:
    """A byte now and then, so that no pause is long."""
    reply = await _begun(request, b"[")
    while True:
        await reply.write(b" ")
        await asyncio.sleep(0.05)


async def truncated(server: Server, request: web.Request) -> web.StreamResponse:
    """Says how long it is, and hangs up before."""
    reply = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await reply.prepare(request)
    await reply.write(b'{"kind": "List", "items": [{"a')
    assert request.transport is not None
    request.transport.close()
    return reply


async def hanging_up(server: Server, request: web.Request) -> web.StreamResponse:
    """Hangs up without a word."""
    assert request.transport is not None
    request.transport.close()
    raise ConnectionResetError


async def garbled(server: Server, request: web.Request) -> web.StreamResponse:
    """Says that it is packed, and is not."""
    return web.Response(body=b"{}", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})


async def _begun(request: web.Request, first: bytes) -> web.StreamResponse:
    reply = web.StreamResponse(headers={"Content-Type": "application/json"})
    await reply.prepare(request)
    await reply.write(first)
    return reply


WRONG: Mapping[str, Wrong] = {
    "html": saying(200, HTML, kind="text/html"),
    "html-502": saying(502, HTML, kind="text/html"),
    "empty": saying(200, ""),
    "cut-json": saying(200, '{"jobs": [{"id": 1}, {"id"', kind="application/json"),
    "deep-json": saying(200, "[" * 100_000, kind="application/json"),
    "null": saying_json(None),
    "number": saying_json(7),
    "text": saying_json("ok"),
    "list-of-numbers": saying_json([1, 2]),
    "empty-object": saying_json({}),
    "wrong-types": saying_json(
        {
            **dict.fromkeys(("items", "jobs", "apps", "nodes", "data", "clusterInfo", "clusterMetrics", "metadata", "errors"), 7),
            **{key: [{}] for key in ("application-id", "job_id", "kind", "status", "ray_version", "session_name", "version")},
        }
    ),
    "nulls": saying_json(
        dict.fromkeys(("items", "jobs", "apps", "nodes", "data", "clusterInfo", "metadata", "application-id", "job_id", "meta"))
    ),
    "no-text": saying(200, "\ufffd\x00\x01", kind="application/json"),
    "401": saying(401, "who are you?"),
    "403": saying(403, "not you"),
    "404": saying(404, "no such page"),
    "429": saying(429, "slow down", {"Retry-After": "17"}),
    "500": saying(500, "Internal Server Error"),
    "503": saying(503, "maintenance", {"Retry-After": "600"}),
    "elsewhere": saying(302, "", {"Location": "/again"}),
    "never": never,
    "endless": endless,
    "dripping": dripping,
    "truncated": truncated,
    "hanging-up": hanging_up,
    "garbled": garbled,
}
