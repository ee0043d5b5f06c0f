"""The engine's twin in memory: for contract tests, for the seeded simulation, and for measuring the broker alone.

All time is the given clock's, and states are worked out when somebody looks; there are no tasks and no chance in it. What real
engines do to us can be switched on: names that are not unique, submissions that arrive late, forgetting, restarts that lose and
use ids again, a second start by the engine itself, and listings that are not whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence

from adapters.base import Call, Check, Layer, NativeId, Observation, Outcome, Run, RunName, RunRef, Unreachable
from adapters.twin_engine import EngineTwin
from adapters.twin_runs import Behaviour, Start, TwinClock

__all__ = ["Behaviour", "EngineTwin", "Network", "Start", "TwinAdapter", "TwinClock"]

LOOK_S = 0.02
"""How often output is looked for that is followed."""

Network = Callable[[str, str], Awaitable[None]]
"""Awaited with (call, "send") before a call has its effect and with (call, "reply") after; may wait and raise Unreachable."""


async def _no_faults(call: str, stage: str) -> None:
    """A network that never fails."""


class TwinAdapter:
    """The adapter to a twin, for one federation."""

    def __init__(self, twin: EngineTwin, federation: str, network: Network = _no_faults) -> None:
        self.capabilities = twin.capabilities
        self.calls: dict[str, int] = {}
        """How often each call was made."""
        self._twin = twin
        self._federation = federation
        self._network = network

    async def reserve(self, names: Collection[RunName], call: Call) -> Mapping[RunName, NativeId]:
        """See `SiteAdapter.reserve`."""
        if not self.capabilities.reserves:
            return {}
        await self._begin("reserve", call.epoch)
        ids = {name: self._twin.reserve() for name in names}
        await self._network("reserve", "reply")
        return ids

    async def submit(self, runs: Sequence[Run], call: Call) -> Mapping[RunName, Outcome]:
        """See `SiteAdapter.submit`."""
        await self._begin("submit", call.epoch)
        self._twin.advance()
        outcomes = {run.name: self._twin.submit(run) for run in runs}
        await self._network("submit", "reply")
        return outcomes

    async def observe(self, known: Collection[RunRef], call: Call) -> Observation:
        """See `SiteAdapter.observe`."""
        began = self._twin.clock.now()
        await self._begin("observe", call.epoch)
        twin = self._twin
        reports = twin.reports(self._federation)
        if not twin.is_whole:
            reports = dict(list(reports.items())[: len(reports) // 2])
        rooms, foreign = twin.rooms(self._federation), twin.foreign(self._federation)
        seen = Observation(began, twin.is_whole, str(twin.life), reports, rooms, foreign)
        await self._network("observe", "reply")
        return seen

    async def cancel(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.cancel`."""
        await self._begin("cancel", call.epoch)
        for run in runs:
            self._twin.cancel(run.name, self._federation)
        await self._network("cancel", "reply")

    async def forget(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.forget`."""
        await self._begin("forget", call.epoch)
        self._twin.advance()
        for run in runs:
            self._twin.forget(run.name, self._federation)
        await self._network("forget", "reply")

    async def logs(self, run: RunRef, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        """See `SiteAdapter.logs`; what a run prints is there as soon as it runs."""
        await self._begin("logs", None)
        while True:
            is_live = follow and self._twin.is_live(run.name)
            if chunk := self._twin.output(run.name)[offset:]:
                offset += len(chunk)
                yield chunk
            if not is_live:
                break
            await self._twin.clock.sleep(LOOK_S)

    async def probe(self, timeout_s: float) -> Sequence[Check]:
        """See `SiteAdapter.probe`."""
        checks = []
        try:
            await self._begin("probe", None)
            await self._network("probe", "reply")
        except Unreachable as error:
            return [Check(Layer.REACH, False, 0.0, str(error))]
        for layer in Layer:
            is_ok = layer not in self._twin.failing
            checks.append(Check(layer, is_ok, 0.0, "" if is_ok else "it fails"))
            if not is_ok:
                break
        return checks

    async def close(self) -> None:
        """See `SiteAdapter.close`."""

    async def _begin(self, call: str, epoch: int | None) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1
        await self._network(call, "send")
        if call != "probe" and self._twin.failing & {Layer.REACH, Layer.LOGIN}:
            raise Unreachable(f"{call}: nobody answers us")
        if epoch is not None:
            self._twin.guard(epoch, self._federation)
