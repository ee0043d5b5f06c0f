"""A simulated operating system process: its tasks run until it is killed, cancelled, stopped or paused at its n-th await.

Killed is what `kill -9` does: no task of it ever takes another step, no `finally` runs. Cancelled is what a second SIGINT does:
every task gets a CancelledError where it waits. Stopped is a SIGTERM, answered in order. Paused is a SIGSTOP: for a while nothing
of it runs, then all goes on. Which process a task belongs to is inherited by the tasks it makes, through the context.
"""

from __future__ import annotations

import asyncio
import collections.abc
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = str(Path(__file__).parents[2]) + "/"
OURS = ("broker/", "adapters/", "topology/")


class Blow(StrEnum):
    """What happens to a process at an await."""

    KILL = "kill"
    CANCEL = "cancel"
    STOP = "stop"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Strike:
    """A blow at the process's `at`-th await; with `is_new`, when it waits for the first time at a place that is new to it, the
    `at`-th such place: so rare ones are hit as often as others. A pause lasts `seconds`."""

    blow: Blow
    at: int
    seconds: float = 0.0
    is_new: bool = False

    def __str__(self) -> str:
        return f"{self.blow} at {'new place' if self.is_new else 'await'} {self.at}"


class Process:
    """What shares one life. `on_strike` hears of each blow and where it hit."""

    def __init__(self, name: str, strikes: tuple[Strike, ...], on_strike: Callable[[Process, Strike, list[str]], None]) -> None:
        self.name = name
        self.awaits = 0
        self.is_dead = False
        self.is_paused = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.resumed: list[asyncio.Future[None]] = []
        self.places: set[str] = set()
        """Where it has waited, as far as that was looked at."""
        self._strikes = sorted((strike for strike in strikes if not strike.is_new), key=lambda strike: strike.at)
        self._at_new = sorted((strike for strike in strikes if strike.is_new), key=lambda strike: strike.at)
        self._on_strike = on_strike
        self._next = self._strikes[0].at if self._strikes else 0

    def suspended(self, coro: Any) -> None:
        """One of its tasks came to an await that has to wait."""
        self.awaits += 1
        if self.awaits == self._next:
            strike = self._strikes.pop(0)
            self._next = max(self._strikes[0].at, self.awaits + 1) if self._strikes else 0
            self._on_strike(self, strike, places_of(coro))
        if self._at_new:
            self._strike_at_new(coro)

    def _strike_at_new(self, coro: Any) -> None:
        places = places_of(coro)
        if self.places.issuperset(places):
            return
        self.places.update(places)
        if len(self.places) >= self._at_new[0].at:
            self._on_strike(self, self._at_new.pop(0), places)

    def disarm(self) -> None:
        """Nothing more happens to it."""
        self._next, self._strikes, self._at_new = 0, [], []

    def cancel(self) -> None:
        """Every task of it."""
        for task in self.tasks:
            if not task.done():
                task.cancel()

    def resume(self) -> None:
        """After a pause: everything that was held goes on, in the order in which it was held."""
        self.is_paused = False
        held, self.resumed = self.resumed, []
        for future in held:
            if not future.done():
                future.set_result(None)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


def current() -> str:
    """The name of the process that runs now; empty for the world around."""
    process = PROCESS.get()
    return process.name if process else ""


def wrap(coro: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    """A task's coroutine, held to the fate of the process that makes the task."""
    process = PROCESS.get()
    return Held(coro, process) if process else coro


def enrol(task: asyncio.Task[Any]) -> None:
    """A task was made: it is its process's."""
    process = PROCESS.get()
    if process:
        process.tasks.append(task)


class Held(collections.abc.Coroutine[Any, Any, Any]):
    """Takes each step of a coroutine, unless its process is dead or paused."""

    __slots__ = ("__name__", "__qualname__", "_coro", "_owed", "_process")

    def __init__(self, coro: Coroutine[Any, Any, Any], process: Process) -> None:
        self._coro = coro
        self._process = process
        self._owed: tuple[Any, ...] = ()
        """What was thrown in while paused."""
        self.__name__ = getattr(coro, "__name__", "")
        self.__qualname__ = getattr(coro, "__qualname__", "")

    def send(self, value: Any) -> Any:
        """One step."""
        process = self._process
        if process.is_dead or process.is_paused:
            return self._hold()
        if self._owed:
            owed, self._owed = self._owed, ()
            yielded = self._coro.throw(*owed)
        else:
            yielded = self._coro.send(value)
        process.suspended(self._coro)
        return yielded

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None) -> Any:
        """One step that begins with an error."""
        process = self._process
        if process.is_dead or process.is_paused:
            self._owed = (kind,) if value is None else (kind, value, traceback)
            return self._hold()
        yielded = self._coro.throw(kind) if value is None else self._coro.throw(kind, value, traceback)
        process.suspended(self._coro)
        return yielded

    def close(self) -> None:
        """A coroutine that never ran is closed with its task."""
        self._coro.close()

    def __await__(self) -> Any:
        return self._coro.__await__()

    def _hold(self) -> asyncio.Future[None]:
        """For ever, or until the process goes on."""
        future = asyncio.get_running_loop().create_future()
        future._asyncio_future_blocking = True  # what `await future` sets before it yields
        if self._process.is_paused and not self._process.is_dead:
            self._process.resumed.append(future)
        return future


def places_of(coro: Any) -> list[str]:
    """Where a suspended coroutine waits: `file:line function` of each frame that is ours, outermost first."""
    found = []
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is not None:
            name = frame.f_code.co_filename.removeprefix(ROOT)
            if name.startswith(OURS):
                found.append(f"{name}:{frame.f_lineno} {frame.f_code.co_qualname}")
        inner = getattr(coro, "cr_await", None)
        if inner is None:
            inner = getattr(coro, "gi_yieldfrom", None)
        if inner is None:
            inner = getattr(coro, "ag_await", None)
        coro = inner
    return found
