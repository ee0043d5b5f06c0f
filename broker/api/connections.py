"""The endpoint's connections. What is no HTTP at all never reaches a handler: it is answered here, as a problem document too."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from broker.api.errors import problem
from broker.errors import FedError

log = logging.getLogger(__name__)

WAITING = 128
"""Connections that the system holds until they are taken."""
MOST_WORDS = 200


@asynccontextmanager
async def listening(
    app: web.Application, listener: socket.socket, tls: ssl.SSLContext | None, drain_s: float
) -> AsyncIterator[None]:
    """The application on a socket: on leaving, no new requests, and those under way have `drain_s`."""
    runner = web.AppRunner(app, shutdown_timeout=drain_s, handler_cancellation=True)
    await runner.setup()
    loop, server = asyncio.get_running_loop(), runner.server
    assert server is not None

    def connection() -> Connection:
        return Connection(server, loop=loop, access_log=None)  # type: ignore[arg-type]  # None: there is none, as everywhere else

    listens = await loop.create_server(connection, sock=listener, ssl=tls, backlog=WAITING)
    try:
        yield
    finally:
        listens.close()
        await runner.cleanup()


class Connection(web.RequestHandler):
    """One caller's, with our words for a request that cannot be parsed."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what no handler has seen. The connection ends with it: where the next request begins cannot be known."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.info("%s sent what is no HTTP: %s", request.remote, type(exc).__name__)  # its words may quote a secret
        words = " ".join(exc.message.split())[:MOST_WORDS]
        answer = problem(FedError(f"this is no HTTP that can be read: {words}"), status)
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """A body that cannot be read was answered as that, and is nothing for us to mend."""
        if not isinstance(kwargs.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kwargs)
