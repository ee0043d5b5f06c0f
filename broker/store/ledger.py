"""Typed writes: values in, guarded changes to the store, and the mirror knows of them at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.store import codec
from broker.store.base import Change, Delete, Expect, Fence, Operation, Put, Record, Rejected, Result, Saved, Store
from broker.store.mirror import Mirror
from broker.tracing.tracer import OFF, Kind, Tracer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Save:
    """Write `value` at `key` if its revision is `expect` (0: absent); whatever it is when `expect` is None."""

    key: str
    value: object
    expect: int | None
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Erase:
    """Remove `key` if its revision is `expect`."""

    key: str
    expect: int


Draft = Sequence[Save | Erase | Expect]
"""What happens together or not at all."""


class Ledger:
    """The one way by which the broker writes."""

    def __init__(self, store: Store, mirror: Mirror, tracer: Tracer = OFF) -> None:
        self._store = store
        self._mirror = mirror
        self._tracer = tracer
        self._span_name = f"commit {mirror.keys.prefix}"
        self._span_of = {"db.system.name": "etcd", "db.operation.name": "commit", "db.namespace": mirror.keys.prefix}
        self.rejected: dict[str, str] = {}
        """Records that cannot be written, since the change is too large for any store, and why; by the change's first key, until
        that is written. What they tell of stays as it is, and everything else goes on."""

    async def commit(self, drafts: Sequence[Draft], fence: Fence | None = None) -> Sequence[Result]:
        """Results in the order of `drafts`; raises what `Store.commit` raises. Saved drafts are in the mirror on return,
        rejected ones in `rejected`."""
        over = await self._over(drafts)
        changes = [[_operation(part, over) for part in draft] for draft in drafts]
        with self._tracer.span(self._span_name, self._span_of, Kind.CLIENT) as span:
            if len(changes) > 1:
                span.tell("db.operation.batch.size", len(changes))
            results = await self._store.commit(changes, fence)
        for draft, change, result in zip(drafts, changes, results, strict=True):
            if isinstance(result, Saved):
                self._enter(draft, change, result.revision, over)
            elif isinstance(result, Rejected):
                self._report(draft[0].key, result.reason)
        self._mirror.settled()
        return results

    async def _over(self, drafts: Sequence[Draft]) -> Mapping[str, bytes]:
        """By key, the records to be replaced that hold more than we know. One that the mirror is yet to see is asked for: whoever
        has read it from the store knows its revision, and we do not know its bytes."""
        entries = self._mirror.entries
        over, unseen = {}, []
        for draft in drafts:
            for part in draft:
                if not isinstance(part, Save) or not part.expect:
                    continue
                entry = entries.get(part.key)
                if entry is None or entry.revision < part.expect:
                    unseen.append(part.key)
                elif entry.has_more:
                    over[part.key] = entry.raw
        for record in await self._store.get(unseen) if unseen else ():
            if record is not None and _has_more(self._mirror.keys.split(record.key)[0], record.value):
                over[record.key] = record.value
        return over

    def _report(self, key: str, reason: str) -> None:
        if self.rejected.get(key) != reason:
            log.error("%s cannot be written: %s", key, reason)
            self.rejected[key] = reason

    def _enter(self, draft: Draft, change: Change, revision: int, over: Mapping[str, bytes]) -> None:
        if self.rejected:
            self.rejected.pop(draft[0].key, None)
        for part, operation in zip(draft, change, strict=True):
            if isinstance(part, Save) and isinstance(operation, Put):
                created = revision if part.expect == 0 else 0
                self._mirror.enter(Record(part.key, operation.value, revision, created), part.value, part.key in over)
            elif isinstance(part, Erase):
                self._mirror.erase(part.key, revision)


def _operation(part: Save | Erase | Expect, over: Mapping[str, bytes]) -> Operation:
    match part:
        case Save(key, value, expect, lease):
            return Put(key, codec.encode(value, over.get(key)), expect, lease)
        case Erase(key, expect):
            return Delete(key, expect)
        case Expect():
            return part


def _has_more(kind: str, raw: bytes) -> bool:
    try:
        return codec.read(kind, raw)[1]
    except codec.Unreadable:
        return False
