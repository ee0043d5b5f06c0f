"""Who changed what: an entry for each change by a caller, to be written in the same transaction."""

from __future__ import annotations

from hashlib import sha256

from broker.context import Context
from broker.records import Audit
from broker.store import codec
from broker.store import keys as kinds
from broker.store.ledger import Save

MOST_BYTES = 64 << 10
"""Of a record before and after; with both, and the record itself, a change stays below what a store takes."""


def entry(context: Context, who: str, what: str, key: str, before: object | None, after: object | None) -> Save:
    """The entry of one change of the record at `key`; bytes are of a record that could not be read. Ids sort as a process wrote
    them, also within a millisecond; two processes do not make the same id of two changes that are both written."""
    keys, now = context.world.mirror.keys, context.clock.now()
    made = Audit(now, who, what, key.removeprefix(keys.prefix), _text(before), _text(after))
    distinct = sha256(codec.encode(made)).hexdigest()[:8]
    return Save(keys.of(kinds.AUDIT, f"{int(now * 1000):013d}-{next(context.order) % 1_000_000:06d}-{distinct}"), made, 0)


def _text(value: object | None) -> str | None:
    """Cut where it is so long that a change might not fit the store with it, with what tells the whole from others."""
    if value is None:
        return None
    raw = value if isinstance(value, bytes) else codec.encode(value)
    if len(raw) <= MOST_BYTES:
        return raw.decode(errors="replace")
    return f"{raw[:MOST_BYTES].decode(errors='replace')}... cut: {len(raw)} bytes, sha256 {sha256(raw).hexdigest()}"
