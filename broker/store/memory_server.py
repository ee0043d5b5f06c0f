"""What etcd would be, in memory: the server that the clients of `memory` share.

No threads, no randomness, and no time but the clock's: a lease that ran out is noticed by whoever looks next, be it a request or
a waiting watch.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.clock import Clock
from broker.store.base import (
    Change,
    Compacted,
    Delete,
    Expect,
    Fence,
    Fenced,
    NoSpace,
    Put,
    Record,
    Removed,
    StoreError,
    Written,
)
from broker.store.transactions import first_failed


@dataclass(slots=True)
class _Held:
    """A lease as the server has it."""

    ttl_s: float
    expires: float
    keys: set[str] = field(default_factory=set)


class MemoryServer:
    """Records, their history, leases and watches, with etcd's rules."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.revision = 1
        self.is_full = False
        """Set it, and every write of a value is refused with NoSpace."""
        self.life = 0
        """How often it was restored: watches end with a life."""
        self._compacted = 0
        self._records: dict[str, Record] = {}
        self._leases: dict[int, _Held] = {}
        self._lease_of: dict[str, int] = {}
        self._last_lease = 0
        self._history: list[Written | Removed] = []
        self._revisions: list[int] = []
        self._waiting: dict[asyncio.Future[None], None] = {}  # woken in the order they came: runs repeat

    def records(self, prefix: str = "") -> Sequence[Record]:
        """What is below `prefix` now, by key."""
        self.expire()
        return [self._records[key] for key in sorted(self._records) if key.startswith(prefix)]

    def get(self, keys: Sequence[str]) -> Sequence[Record | None]:
        """Single records."""
        self.expire()
        return [self._records.get(key) for key in keys]

    def transact(self, changes: Sequence[Change], fence: Fence | None) -> int | None:
        """Apply all changes, or none and return None. Raises NoSpace, and Fenced for a lease that is gone."""
        self.expire()
        if fence:
            owner = self._records.get(fence.key)
            if owner is None or owner.created != fence.created:
                return None
        operations = [operation for change in changes for operation in change]
        held = {operation.key: self._records.get(operation.key) for operation in operations}
        if any(first_failed(change, held) is not None for change in changes):
            return None
        self._check_room_and_leases([operation for operation in operations if isinstance(operation, Put)])
        events: list[Written | Removed] = []
        for operation in operations:
            match operation:
                case Put():
                    events.append(self._put(operation, self.revision + 1))
                case Delete(key) if key in self._records:
                    events.append(self._remove(key, self.revision + 1))
                case Delete() | Expect():
                    pass
        self._happened(events)
        return self.revision

    def grant(self, ttl_s: float) -> int:
        """A new lease's id."""
        self.expire()
        self._last_lease += 1
        self._leases[self._last_lease] = _Held(ttl_s, self.clock.boottime() + ttl_s)
        return self._last_lease

    def keep_alive(self, lease: int) -> bool:
        """Renew it; False when it is gone."""
        self.expire()
        held = self._leases.get(lease)
        if held is None:
            return False
        held.expires = self.clock.boottime() + held.ttl_s
        return True

    def revoke(self, lease: int) -> None:
        """End a lease, with its keys. One that is gone is not an error."""
        self.expire()
        self._end(lease)

    def compact(self, revision: int) -> None:
        """Forget what happened before `revision`. Raises StoreError for one that is yet to come."""
        if revision > self.revision:
            raise StoreError(f"revision {revision} is yet to come: the store is at {self.revision}")
        if revision > self._compacted:
            first = bisect_left(self._revisions, revision)
            del self._history[:first], self._revisions[:first]
            self._compacted = revision

    def restore(self, records: Sequence[Record], revision: int) -> None:
        """Go back to a backup: these records at that revision, without history, and without what hung on leases."""
        kept = [record for record in records if record.key not in self._lease_of]
        self._leases.clear()
        self._lease_of.clear()
        self._records = {record.key: record for record in kept}
        self._history, self._revisions, self._compacted = [], [], revision
        self.revision, self.life = revision, self.life + 1
        self._wake()

    def since(self, prefix: str, revision: int) -> Sequence[Written | Removed]:
        """What happened below `prefix` from `revision` on. Raises Compacted."""
        self.expire()
        if revision < self._compacted:
            raise Compacted(f"revision {revision} is gone, the oldest is {self._compacted}", self._compacted)
        found = self._history[bisect_left(self._revisions, revision) :]
        return [event for event in found if key_of(event).startswith(prefix)]

    async def changed(self) -> None:
        """Wait until something was written or removed, by anyone or by a lease that ran out."""
        seen = self.revision
        self.expire()
        while self.revision == seen:
            news = asyncio.get_running_loop().create_future()
            self._waiting[news] = None
            waits: list[asyncio.Future[None]] = [news]
            if self._leases:
                next_end = min(held.expires for held in self._leases.values())
                waits.append(asyncio.ensure_future(self.clock.sleep(max(0.001, next_end - self.clock.boottime()))))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._waiting.pop(news, None)
                for each in waits:
                    each.cancel()
            self.expire()

    def expire(self) -> None:
        """End the leases that ran out."""
        now = self.clock.boottime()
        for lease in [lease for lease, held in self._leases.items() if held.expires <= now]:
            self._end(lease)

    def _end(self, lease: int) -> None:
        held = self._leases.pop(lease, None)
        if held:
            self._happened([self._remove(key, self.revision + 1) for key in sorted(held.keys)])

    def _check_room_and_leases(self, puts: Sequence[Put]) -> None:
        if puts and self.is_full:
            raise NoSpace("the store is over its quota")
        for put in puts:
            if put.lease and put.lease not in self._leases:
                raise Fenced(f"lease {put.lease} of {put.key} is gone")

    def _put(self, put: Put, revision: int) -> Written:
        old = self._records.get(put.key)
        record = Record(put.key, put.value, revision, old.created if old else revision)
        self._records[put.key] = record
        self._detach(put.key)
        if put.lease:
            self._lease_of[put.key] = put.lease
            self._leases[put.lease].keys.add(put.key)
        return Written(record)

    def _remove(self, key: str, revision: int) -> Removed:
        del self._records[key]
        self._detach(key)
        return Removed(key, revision)

    def _detach(self, key: str) -> None:
        lease = self._leases.get(self._lease_of.pop(key, 0))
        if lease:
            lease.keys.discard(key)

    def _happened(self, events: Sequence[Written | Removed]) -> None:
        if not events:
            return
        self.revision += 1
        self._history.extend(events)
        self._revisions.extend([self.revision] * len(events))
        self._wake()

    def _wake(self) -> None:
        for news in self._waiting:
            if not news.done():
                news.set_result(None)


def key_of(event: Written | Removed) -> str:
    """The key that it is about."""
    return event.record.key if isinstance(event, Written) else event.key


def revision_of(event: Written | Removed) -> int:
    """When it happened."""
    return event.record.revision if isinstance(event, Written) else event.revision
