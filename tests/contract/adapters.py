"""What the contract asks of an engine under test, and the words its claims are written in."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from adapters.base import Call, Capabilities, Layer, Observation, Report, Run, RunRef, SiteAdapter, SiteState
from topology.resources import Resources
from topology.site import Pool

POOLS = (
    Pool("cpu", 2, Resources(4, 8)),
    Pool("gpu", 1, Resources(4, 8, (("a100", 2), ("h100", 1)))),
)
"""What every engine under test has."""
PATIENCE_S = 30.0
PROBE_S = 10.0
"""How long a claim waits for what it says to become so, where a kind does not say."""
CALL = Call(epoch=5, timeout_s=20.0)
IMPATIENT = Call(epoch=5, timeout_s=0.3)
LONG_S = 3600.0


@dataclass(frozen=True)
class Does:
    """What each task of a run does: print, then take a while or wait until it is let go, then exit or end by a signal."""

    seconds: float = 0.0
    waits: bool = False
    exit_code: int = 0
    signal: int | None = None
    output: str = ""


class Kind(Protocol):
    """One engine under test, made with a folder of the test's own. Names are the engine's for the length of one test: where
    engines are shared between tests, `federation` is a new one each time."""

    name: str
    is_real: bool
    """Whether it needs an engine of somebody else's."""
    capabilities: Capabilities
    """What its adapters say: claims that only some engines can keep ask it."""
    keeps_what_it_accepts: bool
    """Whether a run that was accepted survives a kill of the engine at once; true where a kind does not say."""
    time_step_s: float
    """How coarse the engine's clock is; exact where a kind does not say."""
    patience_s: float
    """How long a claim waits for what it says to become so; `PATIENCE_S` where a kind does not say."""
    probe_timeout_s: float
    """How long a probe may take; `PROBE_S` where a kind does not say."""
    runs_programs: bool
    """Whether programs really run, with files of the site's storage."""
    terminates_with: Collection[int | None]
    """Signals that a cancelled run may be reported with."""
    federation: str
    storage: Path
    """The site's storage where that is a folder of this machine."""
    hall: Path
    """Where programs run: a folder of this machine that all tasks see, apart from the site's storage."""

    @staticmethod
    def missing() -> str:
        """What this machine lacks to run it; empty when nothing."""

    def adapter(self, federation: str | None = None) -> SiteAdapter:
        """A new adapter to the same engine, as of another broker; of another federation where one is named."""

    def counted(self) -> tuple[SiteAdapter, Callable[[], int]]:
        """An adapter, and how many requests it has made of the engine so far."""

    def program(self, run: str, does: Does) -> tuple[str, ...]:
        """The command of the run of this name."""

    def let_go(self, run: str) -> None:
        """What waits in the run goes on."""

    def claim(self, path: str) -> None:
        """Take a claim before the run does."""

    def has_claim(self, path: str) -> bool:
        """Whether somebody took it."""

    def put(self, path: str, content: str) -> None:
        """A file of the site's storage, where programs run."""

    def content(self, path: str) -> str:
        """What a file of the site's storage holds, where programs run."""

    async def pause(self) -> None:
        """Let a little of the engine's time pass."""

    async def restart(self) -> None:
        """Kill the engine as a crash would; returns once it is up again."""

    def silent(self) -> AbstractAsyncContextManager[None]:
        """While it lasts the engine answers no call; whether they have their effect, and when, is its own affair."""

    def broken(self, layer: Layer) -> AbstractAsyncContextManager[SiteAdapter]:
        """While it lasts this layer fails for the adapter that is given."""

    async def end(self) -> None:
        """Leave nothing running."""


def a_run(kind: Kind, name: str = "j1", does: Does | None = None, **rest: Any) -> Run:
    """A run of one cpu whose program does nothing, or `does`, or is what `command` or `script` says."""
    federation = rest.pop("federation", kind.federation)
    full = f"{federation}-{name}-a1"
    if not rest.keys() & {"command", "script"}:
        rest["command"] = kind.program(full, does or Does())
    defaults: dict[str, Any] = {
        "tasks": 1,
        "per_task": Resources(1, 0.5),
        "pool": "cpu",
        "command": (),
        "claim": f".fed/claims/{full}",
    }
    return Run(full, federation, name, "default", **{**defaults, **rest})


def sh(body: str) -> tuple[str, ...]:
    """The command that gives `body` to a shell."""
    return ("sh", "-c", body)


async def until(
    kind: Kind, adapter: SiteAdapter, holds: Callable[[Mapping[str, Report]], bool], call: Call = CALL
) -> Observation:
    """The first observation of which it holds; fails when there is none for too long."""
    deadline = time.monotonic() + getattr(kind, "patience_s", PATIENCE_S)
    while True:
        seen = await adapter.observe([], call)
        if holds(seen.reports):
            return seen
        assert time.monotonic() < deadline, seen.reports
        await kind.pause()


async def listed(kind: Kind, adapter: SiteAdapter, *runs: Run) -> Observation:
    """An observation that tells of all of these."""
    return await until(kind, adapter, lambda reports: reports.keys() >= {run.name for run in runs})


async def running(kind: Kind, adapter: SiteAdapter, *runs: Run, call: Call = CALL) -> Observation:
    """An observation in which these run."""

    def holds(reports: Mapping[str, Report]) -> bool:
        return all(run.name in reports and reports[run.name].state is SiteState.RUNNING for run in runs)

    return await until(kind, adapter, holds, call)


async def over(kind: Kind, adapter: SiteAdapter, *runs: Run) -> list[Report]:
    """Reports of these runs once all are over."""

    def holds(reports: Mapping[str, Report]) -> bool:
        return all(run.name in reports and reports[run.name].state.is_over for run in runs)

    seen = await until(kind, adapter, holds)
    return [seen.reports[run.name] for run in runs]


async def finish(kind: Kind, adapter: SiteAdapter, run: Run) -> Report:
    """Submit one, and its report once it is over."""
    await adapter.submit([run], CALL)
    (report,) = await over(kind, adapter, run)
    return report


async def text(adapter: SiteAdapter, run: Run, task: int = 0, offset: int = 0, follow: bool = False) -> str:
    """Output of one task."""
    return b"".join([chunk async for chunk in adapter.logs(ref(run), task, offset, follow)]).decode()


def ref(run: Run) -> RunRef:
    """As a broker knows it that never heard its native id."""
    return RunRef(run.name)


def with_epoch(epoch: int) -> Call:
    """The call of another owner."""
    return replace(CALL, epoch=epoch)
