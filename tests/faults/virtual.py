"""An event loop whose time is a number: when nothing is ready, it jumps to the next timer. No IO, no threads, one fixed order.

Tasks and futures hash by the order of their making, so that sets of them are walked alike in every run of one seed. Sets of
strings are walked alike only under a fixed PYTHONHASHSEED: `run.py` sees to it.
"""

from __future__ import annotations

import asyncio
import collections.abc
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

EPOCH = 1_700_000_000.0
"""The simulated clock's now at loop time 0."""


class Stuck(Exception):
    """Nothing is ready and no timer is set: everybody waits for somebody else."""


class NumberedFuture(asyncio.Future[Any]):
    """A future that hashes by its number."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class NumberedTask(asyncio.Task[Any]):
    """A task that hashes by its number."""

    def __init__(self, coro: Any, loop: VirtualLoop, **rest: Any) -> None:
        self.number = loop.next_number()
        super().__init__(coro, loop=loop, **rest)

    def __hash__(self) -> int:
        return self.number


class _NoSelector:
    """Stands where the base loop selects on file descriptors: instead of waiting, time moves."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Stuck("nothing is ready and no timer is set")
        if timeout > 0:
            self._loop.jump()
        return []

    def close(self) -> None:
        """Nothing is held."""


Wrap = Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]
Made = Callable[[asyncio.Task[Any]], None]


class VirtualLoop(asyncio.base_events.BaseEventLoop):
    """`time()` is virtual. `wrap` sees each coroutine that becomes a task, `made` each task."""

    def __init__(self, wrap: Wrap, made: Made) -> None:
        super().__init__()
        self._virtual = 0.0
        self._numbers = 0
        self._wrap = wrap
        self._made = made
        self._selector = _NoSelector(self)
        self._clock_resolution = 1e-9
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def jump(self) -> None:
        """To the next timer."""
        self._virtual = max(self._virtual, self._scheduled[0].when())  # type: ignore[attr-defined]

    def next_number(self) -> int:
        """Counts what is made."""
        self._numbers += 1
        return self._numbers

    def create_future(self) -> asyncio.Future[Any]:
        """One that hashes by its number."""
        return NumberedFuture(self)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, context: Context | None = None, **rest: Any
    ) -> asyncio.Task[Any]:
        assert isinstance(coro, collections.abc.Coroutine)
        task = NumberedTask(self._wrap(coro), self, context=context, **rest)
        self._made(task)
        return task

    def _process_events(self, event_list: list[object]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """No other thread has to wake this loop."""


class SimClock:
    """The loop's time as the broker's three clocks."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """Epoch seconds."""
        return EPOCH + self._loop.time()

    def boottime(self) -> float:
        """Loop time, plus a constant so that 0 means nothing here either."""
        return 1000.0 + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Virtually."""
        await asyncio.sleep(seconds)
