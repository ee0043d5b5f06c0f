"""What requests carry."""

from __future__ import annotations

import hashlib
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from broker.documents import parse_json
from broker.errors import Fault, Invalid

B = TypeVar("B", bound=BaseModel)

JSON = "application/json"


async def raw_of(request: web.Request) -> bytes:
    """The body. Only what says that it is JSON is taken: a browser sends nothing of the kind for a foreign page unasked."""
    if request.content_type != JSON:
        raise web.HTTPUnsupportedMediaType(reason=f"send Content-Type: {JSON}")
    return await request.read()


async def body_of_request(request: web.Request, model: type[B]) -> B:
    """The body as `model` reads it. Raises DocumentError."""
    return parse_json(model, await raw_of(request))


def check_name(request: web.Request, name: str) -> None:
    """Raise Invalid when path and body name different things."""
    if request.match_info["name"] != name:
        raise Invalid(faults=[Fault("name", f"{name} in the body, {request.match_info['name']} in the path: make them one")])


def hash_of(raw: bytes) -> str:
    """What tells one body from another."""
    return hashlib.sha256(raw).hexdigest()
