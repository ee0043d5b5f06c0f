"""A broker's part in engines that hand out ids first: what `reserve` gave is stored, and goes with every submit of the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapters.base import Call, Check, NativeId, Observation, Outcome, Run, RunName, RunRef, SiteAdapter

BATCH = 100
"""A broker asks for no more at once."""


@dataclass
class Ids:
    """What a store would keep, for all brokers of a test."""

    of: dict[RunName, NativeId] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ReservingAdapter:
    """An adapter whose runs get the ids that are stored for them, and new ones where there are none."""

    def __init__(self, adapter: SiteAdapter, ids: Ids) -> None:
        self.capabilities = adapter.capabilities
        self._adapter = adapter
        self._ids = ids

    async def reserve(self, names: Collection[RunName], call: Call) -> Mapping[RunName, NativeId]:
        async with self._ids.lock:
            new = [name for name in names if name not in self._ids.of]
            for at in range(0, len(new), BATCH):
                self._ids.of.update(await self._adapter.reserve(new[at : at + BATCH], call))
        return {name: self._ids.of[name] for name in names}

    async def submit(self, runs: Sequence[Run], call: Call) -> Mapping[RunName, Outcome]:
        ids = await self.reserve([run.name for run in runs], call)
        return await self._adapter.submit([replace(run, native_id=ids[run.name]) for run in runs], call)

    async def observe(self, known: Collection[RunRef], call: Call) -> Observation:
        return await self._adapter.observe(known, call)

    async def cancel(self, runs: Collection[RunRef], call: Call) -> None:
        await self._adapter.cancel(runs, call)

    async def forget(self, runs: Collection[RunRef], call: Call) -> None:
        """The record of what is forgotten is removed, and its id with it."""
        await self._adapter.forget(runs, call)
        for run in runs:
            self._ids.of.pop(run.name, None)

    def logs(self, run: RunRef, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        return self._adapter.logs(run, task, offset, follow)

    async def probe(self, timeout_s: float) -> Sequence[Check]:
        return await self._adapter.probe(timeout_s)

    async def close(self) -> None:
        await self._adapter.close()
