"""The store of a simulated world: a server watched at every write, and clients behind a network that fails on schedule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from broker.clock import Clock
from broker.store.base import Change, Fence, Put, Record, StoreUnavailable
from broker.store.memory import MemoryStore
from broker.store.memory_server import MemoryServer
from tests.faults.faults import Schedule, Wrong

T = TypeVar("T")

LATENCY_S = 0.004
TIMEOUT_S = 2.0


class Watcher(Protocol):
    """Told of every write, before and after."""

    def about_to_write(self, puts: Sequence[Put]) -> None:
        """They are in one transaction that may yet fail."""

    def has_written(self, puts: Sequence[Put], changes: Sequence[Change], revision: int) -> None:
        """They are in."""


class WatchedServer(MemoryServer):
    """A server whose every write is checked."""

    def __init__(self, clock: Clock, watcher: Watcher) -> None:
        super().__init__(clock)
        self._watcher = watcher

    def transact(self, changes: Sequence[Change], fence: Fence | None) -> int | None:
        """See `MemoryServer.transact`."""
        puts = [operation for change in changes for operation in change if isinstance(operation, Put)]
        self._watcher.about_to_write(puts)
        revision = super().transact(changes, fence)
        if revision is not None:
            self._watcher.has_written(puts, changes, revision)
        return revision

    def held(self, key: str) -> Record | None:
        """What is stored at `key`."""
        return self.get([key])[0]


class FaultyStore(MemoryStore):
    """One broker's client."""

    def __init__(self, server: MemoryServer, name: str, schedule: Schedule) -> None:
        super().__init__(server, self._pass, TIMEOUT_S)
        self._name = name
        self._schedule = schedule

    async def call(self, operation: str, apply: Callable[[], T]) -> T:
        """See `MemoryStore.call`. A request may also arrive when its sender has long given up, or died."""
        if operation in ("commit", "keepalive"):
            loop = asyncio.get_running_loop()
            late = self._schedule.takes(Wrong.STORE_LATE, self._name, loop.time())
            if late:
                loop.call_later(late, apply)
                await asyncio.sleep(TIMEOUT_S)
                raise StoreUnavailable(f"{operation}: no answer")
        return await super().call(operation, apply)

    async def _pass(self, operation: str, stage: str) -> None:
        now = asyncio.get_running_loop().time()
        schedule = self._schedule
        if operation == "watch":
            if schedule.now(Wrong.WATCH_CUT, self._name, now) or schedule.now(Wrong.STORE_AWAY, self._name, now):
                await asyncio.sleep(LATENCY_S)
                raise StoreUnavailable("the watch was cut")
            delay = schedule.takes(Wrong.WATCH_LAGS, self._name, now)
            if stage == "reply":
                await asyncio.sleep(LATENCY_S * schedule.dice.random() + delay)
            return
        away = schedule.now(Wrong.STORE_AWAY, self._name, now)
        if away:
            await asyncio.sleep(away.seconds)
            raise StoreUnavailable(f"{operation}: the store is away")
        await asyncio.sleep(LATENCY_S * schedule.dice.random() / 2 + schedule.takes(Wrong.STORE_SLOW, self._name, now))
        if stage == "reply" and schedule.now(Wrong.STORE_REPLIES_LOST, self._name, now):
            await asyncio.sleep(TIMEOUT_S / 2)
            raise StoreUnavailable(f"{operation}: the answer was lost")
