"""Where a plan is made: in a process of its own, so that the event loop stays free; or here, for tests and simulations."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import wait

from broker.metrics import Metrics
from broker.placement.isolate import plan_around
from broker.placement.memory import Memory
from broker.placement.view import Plan, PlanInput
from topology.dataset import Dataset, Replica
from topology.graph import Topology

log = logging.getLogger(__name__)

Runner = Callable[[PlanInput], Awaitable[Plan]]

_NOWHERE = Topology.of((), (), (), ())
_KEPT: dict[str, Topology] = {}
"""In the process: sites and links as last sent, with the routes found over them so far."""
_MEMORY = Memory()
"""In the process: what the last plan worked out."""


async def plan_here(given: PlanInput) -> Plan:
    """Make the plan in this process."""
    return plan_around(given)


class PlanProcess:
    """Makes plans in one process of its own, which is started again when it dies. Sites and links are sent when they changed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._pool: ProcessPoolExecutor | None = None
        self._sent: Topology = _NOWHERE

    async def start(self) -> None:
        """Start the process ahead of the first plan. Raises BrokenProcessPool when it cannot be."""
        await self._make(PlanInput(0.0, _NOWHERE, ()))

    async def __call__(self, given: PlanInput) -> Plan:
        """The plan. Raises what `plan_around` raises, and BrokenProcessPool when the process died twice over it."""
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
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin)
            self._sent = _NOWHERE
        topology = given.topology
        is_known = topology.sites is self._sent.sites and topology.links is self._sent.links
        inputs = {dataset for queued in given.classes for dataset in queued.shape.inputs}
        datasets = [topology.datasets[each] for each in inputs if each in topology.datasets]
        replicas = [replica for each in inputs for at in topology.replica_sites(each) if (replica := topology.replica(each, at))]
        graph = None if is_known else topology.with_replicas((), ())
        without = replace(given, topology=_NOWHERE)
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._pool, _plan_there, graph, datasets, replicas, without)
        self._sent = topology
        return made


def _begin() -> None:
    """In the process: end with the broker, whatever ends that, and leave its interrupts to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)


def _plan_there(graph: Topology | None, datasets: Sequence[Dataset], replicas: Sequence[Replica], given: PlanInput) -> Plan:
    """In the process: put the topology together again, and plan."""
    if graph is not None:
        _KEPT["graph"] = graph
    return plan_around(replace(given, topology=_KEPT.get("graph", _NOWHERE).with_replicas(datasets, replicas)), _MEMORY)
