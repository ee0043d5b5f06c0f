"""Calls to one site: inside the lease, under the owner's epoch, timed and counted. And the pauses after those that failed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from adapters.base import AdapterError, Call, Unreachable
from broker.context import Context
from broker.members import Right
from broker.tracing.tracer import Kind

T = TypeVar("T")

ADAPTERS_SHARE = 0.9
"""Of the time of a call: the adapter's own deadline comes first, so that it can tell what it knows by then."""


class Rights(Protocol):
    """What site work asks of `Members`."""

    def call_timeout_s(self, most: float) -> float:
        """How long a call to a site may take, inside the lease."""

    def report_loss(self, right: Right) -> None:
        """The right is another's."""


class Calls:
    """One way for all calls to a site. Raises `Unreachable` when there is no answer in time."""

    def __init__(self, context: Context, rights: Rights, right: Right, kind: str) -> None:
        self._context = context
        self._rights = rights
        self._right = right
        self._span_of = {"fed.site": right.site, "fed.site.kind": kind}

    async def make(self, name: str, call: Callable[[Call], Awaitable[T]]) -> T:
        """The answer to one call. One for which the lease leaves no time is not made."""
        with self._context.tracer.span(f"site {name}", self._span_of, Kind.CLIENT):
            return await self._make(name, call)

    async def _make(self, name: str, call: Callable[[Call], Awaitable[T]]) -> T:
        timeout_s = self._rights.call_timeout_s(self._context.settings.call_timeout_s)
        if timeout_s <= 0:
            raise Unreachable(f"{name}: not asked, since our lease is about to end")
        began, outcome = self._context.clock.boottime(), "failed"
        try:
            async with asyncio.timeout(timeout_s):
                answer = await call(Call(self._right.epoch, timeout_s * ADAPTERS_SHARE))
            outcome = "ok"
            return answer
        except TimeoutError as error:
            outcome = "timeout"
            raise Unreachable(f"{name}: no answer within {timeout_s:.1f} s") from error
        except AdapterError as error:
            outcome = type(error).__name__.lower()
            raise
        finally:
            took = self._context.clock.boottime() - began
            self._context.metrics.site_calls.labels(self._right.site, name, outcome).observe(took)


class Backoff:
    """Pauses that double with each failure in a row, each shortened by up to a half so that many do not come back at once."""

    def __init__(self, chance: random.Random, first_s: float = 0.25, most_s: float = 5.0) -> None:
        self._chance = chance
        self._first_s = first_s
        self._most_s = most_s
        self._failures = 0

    def failed(self) -> float:
        """Seconds to wait after one more failure."""
        pause = min(self._first_s * 2.0**self._failures, self._most_s)
        self._failures = min(self._failures + 1, 30)
        return pause * self._chance.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Begin anew."""
        self._failures = 0
