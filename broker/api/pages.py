"""Page tokens: where a list goes on. They are signed and bound to the filters, so that one made up or moved is told apart."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping

from broker.api.changes import fresh
from broker.api.services import Services
from broker.errors import Fault, Invalid, Unavailable
from broker.records import PageKey
from broker.store import keys as kinds
from broker.store.ledger import Save

SIGNATURE_BYTES = 16


async def token_of(services: Services, last: str, filters: Mapping[str, str]) -> str:
    """The token of the page behind `last`."""
    body = last.encode()
    return _text(_signature(await _secret(services), body, filters) + body)


async def last_of(services: Services, token: str, filters: Mapping[str, str]) -> str:
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
