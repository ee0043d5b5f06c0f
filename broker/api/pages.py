"""Pages of a list, and the tokens that say where it goes on: signed and bound to the filters, so that one made up or moved is
told apart."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from aiohttp import web

from broker.api.changes import fresh
from broker.api.finding import whole_number
from broker.api.services import SERVICES, Services
from broker.errors import Fault, Invalid, Unavailable
from broker.records import PageKey
from broker.store import keys as kinds
from broker.store.ledger import Save

SIGNATURE_BYTES = 16
PAGE, LONGEST_PAGE = 100, 1_000

T = TypeVar("T")


async def page_of(
    request: web.Request, filters: Mapping[str, str], items: Callable[[str | None], Iterator[T]], name_of: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """The page that a query asks for by `limit` and `cursor`, and the token of the next one; None behind the last. `items` gives
    what comes after one of that name, or all. Raises Invalid."""
    services = request.app[SERVICES]
    limit = whole_number(request, "limit", PAGE, 1, LONGEST_PAGE)
    cursor = request.query.get("cursor")
    found = list(islice(items(await _last_of(services, cursor, filters) if cursor is not None else None), limit + 1))
    is_last = len(found) <= limit
    return found[:limit], None if is_last else await _token_of(services, name_of(found[limit - 1]), filters)


async def _token_of(services: Services, last: str, filters: Mapping[str, str]) -> str:
    """The token of the page behind `last`."""
    body = last.encode()
    return _text(_signature(await _secret(services), body, filters) + body)


async def _last_of(services: Services, token: str, filters: Mapping[str, str]) -> str:
    """What the page before ended with. Raises Invalid for a token that no list with these filters has given."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        signature, body = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
        if hmac.compare_digest(signature, _signature(await _secret(services), body, filters)):
            return body.decode()
    except ValueError:
        pass
    raise Invalid(faults=[Fault("cursor", "is no token of this list: take `next` of the page before, with the same filters")])


async def _secret(services: Services) -> bytes:
    key = services.context.world.mirror.keys.of(kinds.PAGE_KEY)
    entry = services.context.world.mirror.entries.get(key)
    if entry is None:
        await services.context.ledger.commit([[Save(key, PageKey(secrets.token_hex(32)), 0)]])
    value = entry.value if entry else (await fresh(services, key))[0]
    if value is None:
        raise Unavailable("the key that page tokens are signed with is not there yet: try again")
    return bytes.fromhex(value.secret)


def _signature(secret: bytes, body: bytes, filters: Mapping[str, str]) -> bytes:
    said = json.dumps([body.decode(), sorted(filters.items())]).encode()
    return hmac.new(secret, said, hashlib.sha256).digest()[:SIGNATURE_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
