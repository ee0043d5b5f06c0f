"""What endpoints answer: problem documents as our errors, server-sent events taken apart, and why there is no answer."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientConnectorError, ClientResponse, ServerDisconnectedError

from broker.errors import BY_STATUS, Fault, FedError, TooMany

LONGEST_RETRY_S = 60.0
"""An endpoint that asks for more patience than this is asked again after it all the same."""


async def server_sent(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, dict[str, Any], int | None]]:
    """Kind (empty where there is only an id), data and id of each event."""
    rest = b""
    async for chunk in chunks:
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line and not line.startswith(b":"))
            at = int(fields[b"id"]) if b"id" in fields else None
            if fields:
                yield fields.get(b"event", b"").decode(), json.loads(fields.get(b"data", b"{}")), at


async def check_answer(response: ClientResponse) -> None:
    """Raise what a problem document tells."""
    if response.status < 400:
        return
    raw = await response.read()
    try:
        body = json.loads(raw)
        detail = str(body.get("detail") or body.get("title") or "")
        faults = [Fault(each["field"], each["message"], each["document"], each["line"]) for each in body.get("faults", ())]
    except (ValueError, AttributeError, KeyError):
        detail, faults = f"{response.status} {response.reason}", []
    if response.status == TooMany.status:
        raise TooMany(detail, faults, after_s=_seconds(response.headers.get("Retry-After", "")))
    raise BY_STATUS.get(response.status, FedError)(detail, faults)


def cause_of(error: Exception) -> str:
    """Why a call got no answer, in few words."""
    if isinstance(error, ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno)
    if isinstance(error, ServerDisconnectedError):
        return "it hung up: an https:// endpoint does so when asked over http://"
    return str(error) or type(error).__name__


def _seconds(text: str) -> float:
    return min(float(text), LONGEST_RETRY_S) if text.isdecimal() else 1.0
