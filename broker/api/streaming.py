"""Answers that come in pieces."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import web

log = logging.getLogger(__name__)


async def stream(
    request: web.Request,
    chunks: AsyncGenerator[bytes, None],
    failures: tuple[type[Exception], ...],
    headers: Mapping[str, str],
    status: int = 200,
) -> web.StreamResponse:
    """Send chunks as they come, as 200 or `status`. What fails before the first is raised. After it, one of `failures` cuts the
    connection, so that nobody takes a part for the whole; a caller who leaves is not an error."""
    response = web.StreamResponse(status=status, headers=headers)
    async with aclosing(chunks):
        first = await anext(chunks, b"")
        try:
            await response.prepare(request)
            await response.write(first)
            async for chunk in chunks:
                await response.write(chunk)
            await response.write_eof()
        except ConnectionError:
            log.debug("the caller of %s left", request.path)
        except failures as error:
            log.warning("%s is cut off: %s", request.path, error)
            if request.transport:
                request.transport.abort()
    return response
