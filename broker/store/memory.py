"""The store's twin in memory: for unit tests, and for simulations under virtual time.

`MemoryServer` is what etcd would be, shared by all; `MemoryStore` is one process's client, with a network between that can fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from broker.store.base import Batch, Behind, Change, Fence, Listing, Record, Result, StoreStatus, StoreUnavailable
from broker.store.memory_server import MemoryServer, revision_of
from broker.store.transactions import RETRY_S, Commit

__all__ = ["MemoryLease", "MemoryServer", "MemoryStore", "Network"]

Network = Callable[[str, str], Awaitable[None]]
"""Awaited with (operation, "send") before a request applies and with (operation, "reply") after. It may wait, on the clock, and
raise StoreUnavailable: at "reply" that means it happened and the client never heard. Operations: read, get, commit (one for each
transaction), watch (a reply for each batch), grant, keepalive, revoke, status, compact."""

VERSION = "memory"

T = TypeVar("T")


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
        life = self._server.life
        self._server.since(prefix, revision)
        if self._server.revision < revision - 1:
            raise Behind(f"the store is at revision {self._server.revision}, and {revision - 1} was seen")
        yield Batch(revision - 1, ())
        while True:
            if self._server.life != life:
                raise StoreUnavailable("the watch ended")
            events = self._server.since(prefix, revision)
            if not events:
                await self._server.changed()
                continue
            await self._network("watch", "reply")
            last = revision_of(events[-1])
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
