"""A world on its way to where it is planned: sites and links are sent when they changed; what a plan worked out stays there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait

from broker.placement.isolate import plan_around
from broker.placement.memory import Memory
from broker.placement.view import Plan, PlanInput
from topology.dataset import Dataset, Replica
from topology.graph import Topology

NOWHERE = Topology.of((), (), (), ())


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent of a world. `graph` is its sites and links; None where they are as they were sent before."""

    given: PlanInput
    graph: Topology | None
    datasets: Sequence[Dataset]
    replicas: Sequence[Replica]


class Sender:
    """Packs worlds for one desk, which gets all of them."""

    def __init__(self) -> None:
        self._sent = NOWHERE

    def pack(self, given: PlanInput) -> Parcel:
        """The next world, with the datasets that its queue reads and no others."""
        topology, sent = given.topology, self._sent
        is_known = topology.sites is sent.sites and topology.links is sent.links
        inputs = {dataset for queued in given.classes for dataset in queued.shape.inputs}
        datasets = [topology.datasets[each] for each in inputs if each in topology.datasets]
        replicas = [replica for each in inputs for at in topology.replica_sites(each) if (replica := topology.replica(each, at))]
        graph = None if is_known else topology.with_replicas((), ())
        self._sent = topology
        return Parcel(replace(given, topology=NOWHERE), graph, datasets, replicas)


class Desk:
    """Where plans are made. Keeps the routes found over sites and links, and what the last plan worked out."""

    def __init__(self) -> None:
        self._graph = NOWHERE
        self._memory = Memory()

    def plan(self, parcel: Parcel) -> Plan:
        """The plan. Raises what `plan_around` raises."""
        return plan_around(self.unpacked(parcel), self._memory)

    def close(self) -> None:
        """Nothing to end."""

    def unpacked(self, parcel: Parcel) -> PlanInput:
        """The world, put together again."""
        if parcel.graph is not None:
            self._graph = parcel.graph
        return replace(parcel.given, topology=self._graph.with_replicas(parcel.datasets, parcel.replicas))


def live_with_parent() -> None:
    """In a process that plans: end with the one that started it, whatever ends that, and leave its interrupts to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)
