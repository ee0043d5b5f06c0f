"""Where a plan is made: in a process of its own, so that the event loop stays free; or here, for tests and simulations."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.util import Finalize

from broker.config import Planning
from broker.metrics import Metrics
from broker.placement.isolate import plan_around
from broker.placement.view import Plan, PlanInput
from broker.plan_crews import DividingDesk, opened_desk
from broker.plan_desk import NOWHERE, Desk, Parcel, Sender, live_with_parent

log = logging.getLogger(__name__)

Runner = Callable[[PlanInput], Awaitable[Plan]]

_DESKS: list[Desk | DividingDesk] = []
"""In the process: its desk."""


async def plan_here(given: PlanInput) -> Plan:
    """Make the plan in this process."""
    return plan_around(given)


class PlanProcess:
    """Makes plans in one process of its own, which is started again when it dies. Where the settings say so, that one divides
    them among others."""

    def __init__(self, metrics: Metrics, planning: Planning | None = None) -> None:
        self._metrics, self._planning = metrics, planning or Planning()
        self._pool: ProcessPoolExecutor | None = None
        self._sender = Sender()

    async def start(self) -> None:
        """Start the process ahead of the first plan. Raises BrokenProcessPool when it cannot be."""
        await self._make(PlanInput(0.0, NOWHERE, ()))

    async def __call__(self, given: PlanInput) -> Plan:
        """The plan. Raises what `plan_around` raises, and BrokenProcessPool when the process, or one that it shares the work
        with, died twice over it."""
        began = time.perf_counter()
        try:
            made = await self._make(given)
        except BrokenProcessPool:
            log.exception("the process that plans has died and is started again")
            self._metrics.bugs.labels("plan process").inc()
            await self.close()
            made = await self._make(given)
        self._metrics.plan_seconds.observe(time.perf_counter() - began)
        return made

    async def close(self) -> None:
        """End the process."""
        pool, self._pool = self._pool, None
        if pool:
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    async def _make(self, given: PlanInput) -> Plan:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (self._planning,))
            self._sender = Sender()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _plan_there, self._sender.pack(given))


def _begin(planning: Planning) -> None:
    """A crew is sent home before anything else as the process ends: that closes queues (at 10), and then waits for its own
    processes, which would wait for work for ever."""
    live_with_parent()
    desk = opened_desk(planning)
    Finalize(None, desk.close, exitpriority=100)
    _DESKS.append(desk)


def _plan_there(parcel: Parcel) -> Plan:
    return _DESKS[0].plan(parcel)
