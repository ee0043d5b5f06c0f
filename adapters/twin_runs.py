"""What the engine twin knows of one run: how it goes, where it is, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.base import NativeId, Report, Run, RunName, SiteState
from topology.resources import Resources


class TwinClock(Protocol):
    """What the twin asks of a clock; any of the broker's will do."""

    def now(self) -> float:
        """Epoch seconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a run goes: how long it takes once started, how it exits, what it prints, and whether the site will have it."""

    seconds: float = 0.0
    exit_code: int = 0
    signal: int | None = None
    output: bytes = b""
    refusal: str = ""
    arrives_after: float | None = None
    """Not None: the caller is told Unknown, and the run is there only so many seconds later."""


@dataclass(frozen=True, slots=True)
class Start:
    """A program that was started: its claim was free."""

    name: RunName
    native_id: NativeId
    at: float


@dataclass(slots=True)
class Held:
    """A run as the engine has it. `ends` is when it will, once started."""

    run: Run
    native_id: NativeId
    behaviour: Behaviour
    accepted: float
    report: Report
    ends: float = float("inf")
    nodes: tuple[tuple[int, int], ...] = ()
    """Where its tasks are while it runs: (number of the node in its pool, tasks there)."""


def packed(run: Run, nodes: Sequence[Resources]) -> tuple[tuple[int, int], ...] | None:
    """A place for every task of a run, first fit; None when not all have one."""
    left, placed = run.tasks, []
    for number, free in enumerate(nodes):
        tasks = min(left, run.per_task.times_in(free))
        if tasks:
            placed.append((number, tasks))
            left -= tasks
        if not left:
            return tuple(placed)
    return None


def rank(report: Report) -> int:
    """Of several runs of one name that which matters most is the highest: running, over, queued."""
    return 2 if report.state is SiteState.RUNNING else 1 if report.state.is_over else 0
