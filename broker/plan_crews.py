"""Who plans the parts of a big federation side by side: processes of this machine, or actors on Ray, one for each part.

Each keeps its sites and links, and what the last plan of its part worked out. Here is also the desk that divides a world among
them and makes one plan of theirs.
"""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any, Protocol

from broker.config import Planning, SettingsError
from broker.placement.grouping import Groups, grouped
from broker.placement.isolate import plan_around
from broker.placement.memory import Memory
from broker.placement.merging import plan_in_parts
from broker.placement.view import Plan, PlanInput
from broker.plan_desk import Desk, Parcel, Sender, live_with_parent
from topology.graph import Topology

HERE = "local"
"""Ray of our own on this machine, in place of a cluster's address."""


class Crew(Protocol):
    """Makes the plans of several parts at once; of each part always the same member."""

    def plans(self, parts: Sequence[PlanInput]) -> list[Plan]:
        """By part; an empty one for a part without a queue. Raises what `plan_around` raises, and BrokenProcessPool when a member
        is gone: the crew is then of no more use."""
        ...

    def close(self) -> None:
        """Send them home."""
        ...


class Processes:
    """A crew of processes of this machine, started at once."""

    def __init__(self, count: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pools = [ProcessPoolExecutor(1, spawn, _begin) for _ in range(count)]
        self._senders = [Sender() for _ in range(count)]
        for pool in self._pools:
            pool.submit(os.getpid)

    def plans(self, parts: Sequence[PlanInput]) -> list[Plan]:
        """As `Crew.plans`."""
        members = zip(self._pools, self._senders, parts, strict=False)
        waiting: list[Future[Plan] | None] = [
            pool.submit(_plan_there, sender.pack(part)) if part.classes else None for pool, sender, part in members
        ]
        return [each.result() if each else Plan() for each in waiting]

    def close(self) -> None:
        """As `Crew.close`."""
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


class RayActors:
    """A crew of actors on a Ray cluster, or on Ray of our own on this machine. Nodes of a cluster need the same fedbroker."""

    def __init__(self, count: int, address: str) -> None:
        import ray

        self._ray: Any = ray
        own = {"num_cpus": max(count, os.cpu_count() or 1), "include_dashboard": False}
        where = own if address == HERE else {"address": address}
        ray.init(log_to_driver=False, logging_level=logging.WARNING, **where)
        actor = ray.remote(Desk).options(scheduling_strategy="SPREAD")
        self._actors: list[Any] = [actor.remote() for _ in range(count)]
        self._senders = [Sender() for _ in range(count)]

    def plans(self, parts: Sequence[PlanInput]) -> list[Plan]:
        """As `Crew.plans`."""
        members = zip(self._actors, self._senders, parts, strict=False)
        waiting = [actor.plan.remote(sender.pack(part)) if part.classes else None for actor, sender, part in members]
        try:
            return [self._ray.get(each) if each else Plan() for each in waiting]
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise BrokenProcessPool(f"Ray: {error}") from error

    def close(self) -> None:
        """As `Crew.close`."""
        self._ray.shutdown()


class DividingDesk:
    """Where a plan is made in parts. Sites stay in their groups as long as sites and links stand, so that the crew need not learn
    them anew."""

    def __init__(self, planning: Planning) -> None:
        self._count = planning.partitions
        self._crew: Crew = RayActors(self._count, planning.ray) if planning.ray else Processes(self._count)
        self._desk, self._memory = Desk(), Memory()
        self._groups: Groups | None = None
        self._groups_of: Topology | None = None

    def plan(self, parcel: Parcel) -> Plan:
        """The plan. Where dividing fails, which is our fault and told in `faults`, it is the plan of the whole. Raises
        BrokenProcessPool when one of the crew is gone, and what `plan_around` raises."""
        given = self._desk.unpacked(parcel)
        if not given.classes:
            return Plan()
        try:
            return plan_in_parts(given, self._grouped(given), self._crew.plans, self._memory)
        except BrokenProcessPool:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, it is told, and plans go on
            fault = traceback.format_exc()
        made = plan_around(given)
        return replace(made, faults=(*made.faults, fault))

    def close(self) -> None:
        """End the crew."""
        self._crew.close()

    def _grouped(self, given: PlanInput) -> Groups:
        known, topology = self._groups_of, given.topology
        is_same = known is not None and known.sites is topology.sites and known.links is topology.links
        names = tuple(sorted(view.site.name for view in given.sites))
        if self._groups is None or not is_same or self._groups.sites != names:
            self._groups, self._groups_of = grouped(given, self._count), topology
        return self._groups


def opened_desk(planning: Planning) -> Desk | DividingDesk:
    """The desk that the settings ask for."""
    return DividingDesk(planning) if planning.partitions > 1 else Desk()


def check_ray(planning: Planning) -> None:
    """Raises SettingsError where plans are to be made on Ray, and it is not installed."""
    if planning.ray and importlib.util.find_spec("ray") is None:
        raise SettingsError("planning.ray: the extra `ray` is not installed: pip install 'fedbroker[ray]', or set it to null")


_DESKS: list[Desk] = []
"""In a process of the crew: its desk."""


def _begin() -> None:
    live_with_parent()
    _DESKS.append(Desk())


def _plan_there(parcel: Parcel) -> Plan:
    return _DESKS[0].plan(parcel)
