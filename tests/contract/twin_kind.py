"""The twins under the contract: one that promises all it can, and one that promises nothing."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.base import Capabilities, Layer, Run, SiteAdapter, Unreachable
from adapters.twin import Behaviour, EngineTwin, TwinAdapter
from tests.contract.adapters import POOLS, Does

WAITS_S = 60.0
"""What waits until it is let go takes so long; letting go lets so long pass."""


class TwinKind:
    """The twin. Its time is a number."""

    name = "twin"
    is_real = False
    capabilities = Capabilities(unique_names=True, refuses_stale_epochs=True, settling_s=0.0)
    runs_programs = False
    terminates_with = (signal.SIGTERM, None)
    federation = "fed"

    @staticmethod
    def missing() -> str:
        return ""

    def __init__(self, folder: Path) -> None:
        self.storage = folder
        self.twin = EngineTwin(self, POOLS, self.capabilities, self._behave)
        self._now = 1_700_000_000.0
        self._does: dict[str, Does] = {}
        self._is_silent = False

    def now(self) -> float:
        """The clock of the twin."""
        return self._now

    def adapter(self, federation: str | None = None) -> TwinAdapter:
        return TwinAdapter(self.twin, federation or self.federation, self._pass)

    def counted(self) -> tuple[SiteAdapter, Callable[[], int]]:
        adapter = self.adapter()
        return adapter, lambda: sum(adapter.calls.values())

    def program(self, run: str, does: Does) -> tuple[str, ...]:
        self._does[run] = does
        return ("does", run)

    def let_go(self, run: str) -> None:
        self._now += WAITS_S

    def claim(self, path: str) -> None:
        self.twin.claims[path] = "given up"

    def has_claim(self, path: str) -> bool:
        return path in self.twin.claims

    async def pause(self) -> None:
        self._now += 0.05

    async def restart(self) -> None:
        self.twin.restart()

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        self._is_silent = True
        yield
        self._is_silent = False

    @asynccontextmanager
    async def broken(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        self.twin.failing = frozenset({layer})
        yield self.adapter()

    async def end(self) -> None:
        """Nothing runs."""

    async def _pass(self, call: str, stage: str) -> None:
        if self._is_silent and stage == "reply":
            raise Unreachable(f"{call}: no answer")

    def _behave(self, run: Run) -> Behaviour:
        does = self._does[run.command[1]]
        return Behaviour(WAITS_S if does.waits else does.seconds, does.exit_code, does.signal, does.output.encode())


class WeakTwinKind(TwinKind):
    """A twin of engines that take any name twice and know nothing of owners: claims alone keep a run from starting twice."""

    name = "weak-twin"
    capabilities = Capabilities(unique_names=False, refuses_stale_epochs=False, settling_s=0.0)
