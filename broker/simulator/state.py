"""What a simulation keeps of each job and each site while it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from adapters.kinds import takes
from broker.jobs.model import Shape
from broker.placement.view import Attempts, SiteView
from broker.records import Health
from broker.simulator.outcome import Ran
from broker.simulator.scenario import Arrival
from broker.simulator.scheduler import PoolScheduler, Stay
from broker.simulator.transfers import Key
from topology.resources import Resources
from topology.room import Room
from topology.site import Admission, Site


@dataclass(slots=True, eq=False)
class Job:
    """A job on its way. `attempts` numbers its placements, so that what was meant for an earlier one is known as such."""

    index: int
    arrival: Arrival
    site: str = ""
    pool: str = ""
    stay: Stay | None = None
    missing: set[Key] = field(default_factory=set)
    started_at: float | None = None
    ended_at: float | None = None
    compute_money: float = 0.0
    egress_money: float = 0.0
    carbon_kg: float = 0.0
    wan_gib: float = 0.0
    attempts: int = 0

    def ran(self) -> Ran:
        """What came of it."""
        is_over = self.ended_at is not None
        return Ran(
            name=self.arrival.name,
            tenant=self.arrival.shape.tenant,
            arrived_at=self.arrival.at,
            site=self.site if is_over else None,
            pool=self.pool if is_over else None,
            started_at=self.started_at if is_over else None,
            ended_at=self.ended_at,
            compute_money=self.compute_money,
            egress_money=self.egress_money,
            carbon_kg=self.carbon_kg,
            wan_gib=self.wan_gib,
            attempts=self.attempts,
            deadline_at=None if self.arrival.shape.deadline_s is None else self.arrival.at + self.arrival.shape.deadline_s,
            objective=self.arrival.shape.objective,
        )


@dataclass(slots=True)
class SiteNow:
    """A site as it is now. `view` is what plans see of it, made anew after a change."""

    site: Site
    pools: dict[str, PoolScheduler]
    jobs: dict[Job, None] = field(default_factory=dict)
    best_effort: int = 0
    """How many of them may be made to give way."""
    lost: int = 0
    cordoned: int = 0
    view: SiteView | None = None

    def seen(self) -> SiteView:
        """As a plan sees it, with jobs under their numbers."""
        if self.view is None:
            self.view = SiteView(
                site=replace(self.site, admission=Admission.CORDONED) if self.cordoned else self.site,
                health=Health.DOWN if self.lost else Health.UP,
                is_lost=bool(self.lost),
                rooms={name: pool.usable for name, pool in self.pools.items()},
                held=tuple(held for pool in self.pools.values() for held in pool.held()),
                queued=tuple(held for pool in self.pools.values() for held in pool.waiting()),
                preemptible=tuple(self._preemptible()),
                takes=takes(self.site.engine.kind),
            )
        return self.view

    def _preemptible(self) -> Iterator[Attempts]:
        """What may be made to give way, one by one."""
        found: dict[tuple[Shape, str, Resources], list[Job]] = {}
        for job in self.jobs if self.best_effort else ():
            shape = job.arrival.shape
            if shape.preemptible and job.stay is not None:
                found.setdefault((shape, job.pool, job.stay.task), []).append(job)
        for (shape, pool, task), jobs in found.items():
            numbers = tuple(str(job.index) for job in jobs)
            began = tuple(math.inf if job.started_at is None else job.started_at for job in jobs)
            yield Attempts(shape.tenant, shape.priority, pool, task, shape.tasks, numbers, began)


def opened(site: Site, rooms: Mapping[tuple[str, str], Room]) -> SiteNow:
    """An empty site. `rooms` is what may be used of a pool, by site and name; of others all of it."""
    return SiteNow(site, {pool.name: PoolScheduler(pool, rooms.get((site.name, pool.name))) for pool in site.pools})
