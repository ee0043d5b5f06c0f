"""The store's twin in memory: for unit tests, and for simulations under virtual time.

`MemoryServer` is what etcd would be, shared by all; `MemoryStore` is one process's client. No threads, no randomness, and no time
but the clock's: a lease that ran out is noticed by whoever looks next, be it a request or a waiting watch.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from broker.clock import Clock
from broker.store.base import (
    Batch,
    Change,
    Compacted,
    Delete,
    Expect,
    Fence,
    Fenced,
    Listing,
    NoSpace,
    Put,
    Record,
    Removed,
    Result,
    StoreError,
    StoreStatus,
    StoreUnavailable,
    Written,
)
from broker.store.transactions import RETRY_S, Commit, first_failed

Network = Callable[[str, str], Awaitable[None]]
"""Awaited with (operation, "send") before a request applies and with (operation, "reply") after. It may wait, on the clock, and
raise StoreUnavailable: at "reply" that means it happened and the client never heard. Operations: read, get, commit (one for each
transaction), watch (a reply for each batch), grant, keepalive, revoke, status, compact."""

VERSION = "memory"

T = TypeVar("T")


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
        self._compacted = 0
        self._records: dict[str, Record] = {}
        self._leases: dict[int, _Held] = {}
        self._lease_of: dict[str, int] = {}
        self._last_lease = 0
        self._history: list[Written | Removed] = []
        self._revisions: list[int] = []
        self._waiting: set[asyncio.Future[None]] = set()

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

    def since(self, prefix: str, revision: int) -> Sequence[Written | Removed]:
        """What happened below `prefix` from `revision` on. Raises Compacted."""
        self.expire()
        if revision < self._compacted:
            raise Compacted(f"revision {revision} is gone, the oldest is {self._compacted}", self._compacted)
        found = self._history[bisect_left(self._revisions, revision) :]
        return [event for event in found if _key(event).startswith(prefix)]

    async def changed(self) -> None:
        """Wait until something was written or removed, by anyone or by a lease that ran out."""
        seen = self.revision
        self.expire()
        while self.revision == seen:
            news = asyncio.get_running_loop().create_future()
            self._waiting.add(news)
            waits: list[asyncio.Future[None]] = [news]
            if self._leases:
                next_end = min(held.expires for held in self._leases.values())
                waits.append(asyncio.ensure_future(self.clock.sleep(max(0.001, next_end - self.clock.boottime()))))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._waiting.discard(news)
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
        for news in self._waiting:
            if not news.done():
                news.set_result(None)


async def _no_faults(operation: str, stage: str) -> None:
    """A network that never fails."""


class MemoryStore:
    """One process's client of a `MemoryServer`: a `Store`."""

    def __init__(self, server: MemoryServer, network: Network | None = None, timeout_s: float = 5.0) -> None:
        self._server = server
        self._network = network or _no_faults
        self._timeout_s = timeout_s
        self._leases: list[MemoryLease] = []

    async def read(self, prefix: str) -> Listing:
        """See `Store.read`."""
        return await self.ask("read", lambda: Listing(self._server.revision, self._server.records(prefix)))

    async def get(self, keys: Sequence[str]) -> Sequence[Record | None]:
        """See `Store.get`."""
        return await self.ask("get", lambda: self._server.get(keys))

    async def commit(self, changes: Sequence[Change], fence: Fence | None = None) -> Sequence[Result]:
        """See `Store.commit`."""
        return await Commit(self, self._server.clock, self._timeout_s, fence).run(changes)

    async def transact(self, changes: Sequence[Change], fence: Fence | None) -> int | None:
        """See `Transactor.transact`."""
        return await self.call("commit", lambda: self._server.transact(changes, fence))

    async def watch(self, prefix: str, revision: int) -> AsyncIterator[Batch]:
        """See `Store.watch`."""
        await self._network("watch", "send")
        self._server.since(prefix, revision)
        yield Batch(revision - 1, ())
        while True:
            events = self._server.since(prefix, revision)
            if not events:
                await self._server.changed()
                continue
            await self._network("watch", "reply")
            last = _revision(events[-1])
            yield Batch(last, events)
            revision = last + 1

    async def lease(self, ttl_s: float) -> MemoryLease:
        """See `Store.lease`."""
        sent = self._server.clock.boottime()
        number = await self.ask("grant", lambda: self._server.grant(ttl_s))
        lease = MemoryLease(number, ttl_s, sent, self, self._server)
        self._leases.append(lease)
        return lease

    async def status(self) -> StoreStatus:
        """See `Store.status`."""
        return await self.ask("status", self._status)

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        await self.ask("compact", lambda: self._server.compact(revision))

    async def close(self) -> None:
        """Stop renewing; leases not closed run out."""
        for lease in self._leases:
            await lease.stop()

    def die(self) -> None:
        """The process is gone: from now on nothing is renewed."""
        for lease in self._leases:
            lease.die()

    async def ask(self, operation: str, apply: Callable[[], T]) -> T:
        """A request that does no harm when made twice: again until the time is up. Raises StoreError."""
        deadline = self._server.clock.boottime() + self._timeout_s
        while True:
            try:
                return await self.call(operation, apply)
            except StoreUnavailable:
                if self._server.clock.boottime() + RETRY_S >= deadline:
                    raise
            await self._server.clock.sleep(RETRY_S)

    async def call(self, operation: str, apply: Callable[[], T]) -> T:
        """One try. Raises StoreUnavailable when the network says so or takes too long: it may have happened."""
        sent = self._server.clock.boottime()
        await self._network(operation, "send")
        answer = apply()
        await self._network(operation, "reply")
        if self._server.clock.boottime() - sent > self._timeout_s:
            raise StoreUnavailable(f"{operation}: no answer within {self._timeout_s} s")
        return answer

    def _status(self) -> StoreStatus:
        records = self._server.records()
        size = sum(len(record.key) + len(record.value) for record in records)
        return StoreStatus(VERSION, size, 0, self._server.is_full, 1)


class MemoryLease:
    """A lease, renewed by a task on the loop while its heartbeat is fresh."""

    def __init__(self, number: int, ttl_s: float, sent: float, store: MemoryStore, server: MemoryServer) -> None:
        self.id = number
        self._ttl_s = ttl_s
        self._valid_until = sent + ttl_s
        self._beat = sent
        self._store = store
        self._server = server
        self._renewals = asyncio.ensure_future(self._renew())

    def valid_until(self) -> float:
        """See `Lease.valid_until`."""
        return self._valid_until

    def heartbeat(self) -> None:
        """See `Lease.heartbeat`."""
        self._beat = self._server.clock.boottime()

    def die(self) -> None:
        """Renew no more, from this moment."""
        self._renewals.cancel()

    async def stop(self) -> None:
        """Renew no more."""
        self.die()
        await asyncio.wait([self._renewals])

    async def close(self) -> None:
        """See `Lease.close`."""
        await self.stop()
        self._valid_until = 0.0
        await self._store.ask("revoke", lambda: self._server.revoke(self.id))

    async def _renew(self) -> None:
        """Until it lapsed: a lease that lapsed here is never renewed, since others may have been told that it did."""
        clock = self._server.clock
        while True:
            await clock.sleep(self._ttl_s / 4)
            sent = clock.boottime()
            if sent >= self._valid_until:
                return
            if sent - self._beat >= self._ttl_s / 2:
                continue
            try:
                is_held = await self._store.call("keepalive", lambda: self._server.keep_alive(self.id))
            except StoreUnavailable:
                continue  # it may still be renewed before it lapses
            if not is_held:
                return
            self._valid_until = sent + self._ttl_s


def _key(event: Written | Removed) -> str:
    return event.record.key if isinstance(event, Written) else event.key


def _revision(event: Written | Removed) -> int:
    return event.record.revision if isinstance(event, Written) else event.revision
