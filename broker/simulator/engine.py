"""A scenario under a policy, event by event in virtual time. No chance in it: the same input gives the same outcome."""

from __future__ import annotations

import heapq
import math
import time
from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from itertools import count, islice

from broker.jobs.model import Shape
from broker.placement.companions import Companions
from broker.placement.view import Passed, Placement, Plan, PlanInput, QueuedClass
from broker.simulator.outcome import Outcome, Sample
from broker.simulator.policy import Policy
from broker.simulator.scenario import Bandwidth, Carbon, Change, Maintenance, NodesLost, Scenario, SiteLost, Underway
from broker.simulator.scheduler import PoolScheduler, Stay
from broker.simulator.state import Job, SiteNow, opened
from broker.simulator.tenants import Tenants
from broker.simulator.transfers import Begun, Key, Transfers
from broker.snapshot import SHOWN
from topology.dataset import DatasetId, Replica
from topology.graph import Topology

TURN_S = (10.0, 60.0)
TURN_PART = 1 / 200
"""Plans are at least this part of the mean run time apart, between these bounds: a plan for each job alone would say nothing new,
and what a job waits for its turn is little beside how long it runs."""
AGAIN_S = 300.0
"""A queue that nothing has changed is planned again after this long: guesses about waits grow with time."""
SAMPLES = 400
"""So many are taken while jobs arrive."""
RARER = 1.05
"""After that each is so much further from the one before: a few jobs may run on for long."""


def simulate(scenario: Scenario, policy: Policy, *, turn_s: float | None = None) -> Outcome:
    """Run it to the end: until all jobs are over, or nothing happens any more and the policy places no more of them. Plans are at
    least `turn_s` apart; `TURN_PART` says how far if that is not given. Raises ValueError for a policy that places what is not
    queued, or where there is no such pool."""
    if turn_s is None:
        mean = sum(job.run_time_s for job in scenario.arrivals) / max(len(scenario.arrivals), 1)
        turn_s = min(max(mean * TURN_PART, TURN_S[0]), TURN_S[1])
    return _Simulation(scenario, policy, turn_s).run()


class _Simulation:
    """The state of one run. Time is in seconds from the start."""

    def __init__(self, scenario: Scenario, policy: Policy, turn_s: float) -> None:
        self._scenario, self._policy, self._turn_s = scenario, policy, turn_s
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        graph = scenario.topology
        self._graph = graph
        self._sites = {name: opened(site, scenario.rooms) for name, site in graph.sites.items()}
        self._tenants, self._companions = Tenants(scenario), Companions(())
        self._jobs = [Job(index, arrival) for index, arrival in enumerate(scenario.arrivals)]
        begun = enumerate(scenario.begun, len(self._jobs))
        self._begun = [(Job(index, each.arrival), each) for index, each in begun]
        self._replicas = {of: {at: _known(graph, of, at) for at in graph.replica_sites(of)} for of in graph.datasets}
        self._transfers = Transfers(graph, lambda of: self._seen((of,)), self._at, self._charge, self._arrived)
        self._coming: dict[Key, dict[Job, None]] = {}
        self._queue: dict[Shape, list[tuple[float, int]]] = {}
        self._classes: dict[Shape, QueuedClass] = {}
        self._is_stale = False
        self._next_turn = math.inf
        self._last_turn = -turn_s
        self._left = len(self._jobs) + len(self._begun)
        self._samples: list[Sample] = []
        self._sample_s = max(scenario.arrivals[-1].at, 60.0) / SAMPLES if scenario.arrivals else 60.0
        self._plans, self._plan_s = 0, 0.0
        self._passed: Mapping[Shape, Passed] = {}

    def run(self) -> Outcome:
        """See `simulate`."""
        began = time.perf_counter()
        for change in self._scenario.changes:
            self._at(change.at, lambda change=change: self._change(change))  # type: ignore[misc]
        self._at(0.0, self._sample)
        self._begin()
        arriving = iter(self._jobs)
        following = next(arriving, None)
        while self._left:
            self._now = max(min(self._events[0][0], self._next_turn, following.arrival.at if following else math.inf), 0.0)
            while following and following.arrival.at <= self._now:
                self._enqueue(following)
                following = next(arriving, None)
            while self._events and self._events[0][0] <= self._now:
                heapq.heappop(self._events)[2]()
            if self._queue and self._is_stale:
                self._next_turn = min(self._next_turn, max(self._now, self._last_turn + self._turn_s))
            if self._next_turn <= self._now:
                placed = self._turn()
                if not placed and not following and self._is_quiet():
                    self._next_turn = self._opens_next()
                    if math.isinf(self._next_turn):
                        break
            elif self._left and not self._queue and not following and self._is_quiet():
                raise RuntimeError(f"{self._left} jobs neither wait nor run: a fault of the simulator")
        took_s = time.perf_counter() - began
        ran = tuple(job.ran() for job in (*self._jobs, *(job for job, _ in self._begun)))
        return Outcome(
            scenario=self._scenario.name,
            policy=self._policy.name,
            jobs=ran,
            samples=tuple(self._samples),
            plans=self._plans,
            plan_s=self._plan_s,
            took_s=took_s,
            passed={shape: self._passed[shape].reason for shape in self._queue if shape in self._passed},
        )

    def _at(self, when: float, what: Callable[[], None]) -> None:
        """What never happens is left out."""
        if math.isinf(when):
            return
        heapq.heappush(self._events, (when, next(self._number), what))

    def _is_quiet(self) -> bool:
        """Whether nothing is left to happen but samples."""
        return len(self._events) <= 1

    def _opens_next(self) -> float:
        """When the next that waits may go beyond a site that it prefers, but no sooner than a queue that nothing has changed is
        planned again; infinity where none will."""
        found = math.inf
        for shape, members in self._queue.items():
            steps = [rank * shape.sites.spill_after_s for rank in range(1, len(shape.sites.prefer) + 1)]
            later = (at + step for at, _ in members for step in steps if at + step > self._now)
            found = min(found, min(later, default=math.inf))
        return max(found + 1.0, self._now + AGAIN_S)  # a second later, when no rounding hides it

    def _enqueue(self, job: Job) -> None:
        shape = job.arrival.shape
        insort(self._queue.setdefault(shape, []), (job.arrival.at, job.index))
        self._classes.pop(shape, None)
        self._is_stale = True

    def _turn(self) -> int:
        """Plan until no limit cuts it short; how many were placed."""
        placed, is_cut = 0, True
        while is_cut and self._queue:
            self._is_stale = False
            given = self._given()
            began = time.perf_counter()
            plan = self._policy.plan(given)
            self._plan_s += time.perf_counter() - began
            self._plans += 1
            if self._is_quiet():  # else it is not the last, and nobody asks for its reasons
                self._passed = plan.passed
            count = self._apply(plan)
            placed += count
            is_cut = plan.is_cut and count > 0
        self._last_turn = self._now
        self._next_turn = self._now + AGAIN_S if self._queue else math.inf
        return placed

    def _given(self) -> PlanInput:
        for shape, members in self._queue.items():
            if shape not in self._classes:
                created = tuple(at for at, _ in islice(members, SHOWN))
                self._classes[shape] = QueuedClass(shape, created, len(members))
        classes = tuple(self._classes[shape] for shape in self._queue)
        views = tuple(at.seen() for at in self._sites.values())
        topology = self._seen({of for shape in self._queue for of in shape.inputs})
        tenants, groups = self._tenants.views(self._now), self._companions.groups()
        return PlanInput(self._now, topology, views, classes, self._transfers.bookings, tenants, groups=groups)

    def _seen(self, datasets: Iterable[DatasetId]) -> Topology:
        """The topology with the replicas of these; those at lost sites are of no use."""
        datasets = tuple(datasets)
        lost = {name for name, at in self._sites.items() if at.lost}
        replicas = (replica for of in datasets for at, replica in self._replicas.get(of, {}).items() if at not in lost)
        known = self._scenario.topology.datasets
        return self._graph.with_replicas([known[of] for of in datasets if of in known], replicas)

    def _apply(self, plan: Plan) -> int:
        asked: dict[Key, None] = {}
        ready: list[Job] = []
        for placement in plan.placements:
            for job in self._dequeue(placement):
                self._place(job, placement)
                asked |= dict.fromkeys(job.missing)
                if not job.missing:
                    ready.append(job)
        for eviction in plan.evictions:
            self._requeue(self._job(int(eviction.job)))
        self._transfers.book(plan.bookings, self._now)
        for key in asked:
            self._transfers.ask(key, self._now)
        for job in ready:
            self._submit(job)
        return sum(placement.count for placement in plan.placements)

    def _dequeue(self, placement: Placement) -> list[Job]:
        members = self._queue.get(placement.shape, [])
        if not 0 < placement.count <= len(members):
            raise ValueError(f"{self._policy.name} places {placement.count} jobs of a class that has {len(members)} queued")
        chosen = [self._job(index) for _, index in members[: placement.count]]
        del members[: placement.count]
        if not members:
            del self._queue[placement.shape]
        self._classes.pop(placement.shape, None)
        return chosen

    def _place(self, job: Job, placement: Placement) -> None:
        at = self._sites[placement.site]
        if placement.pool not in at.pools:
            raise ValueError(f"{self._policy.name} places a job in pool {placement.pool!r}, which {placement.site} does not have")
        self._expect(job, at, placement.pool, placement.gpu_type, placement.decision.cost.staging_hours * 3600)

    def _expect(self, job: Job, at: SiteNow, pool_name: str, gpu_type: str | None, staging_s: float) -> None:
        """It is to run there when its inputs have come."""
        pool, shape = at.pools[pool_name], job.arrival.shape
        job.site, job.pool = at.site.name, pool_name
        job.attempts += 1
        job.missing = {(of, job.site) for of in shape.inputs if job.site not in self._replicas.get(of, {})}
        expected_s = shape.run_time_s / pool.pool.speed
        job.stay = Stay(
            task=shape.resources.on(gpu_type),
            tasks=shape.tasks,
            expected_s=expected_s,
            on_start=lambda: self._start(job),
            expected_end=self._now + staging_s + expected_s,
        )
        pool.expect(job.stay)
        self._hold(job, at)
        for key in job.missing:
            self._coming.setdefault(key, {})[job] = None

    def _begin(self) -> None:
        """What is at sites and on links as the simulation begins. What runs has its room before what waits for some."""
        self._transfers.go_on(self._scenario.bookings)
        for job, each in self._begun:
            if each.ends_at is not None:
                self._go_on(job, each, max(each.ends_at, 0.0))
        for job, each in self._begun:
            if each.ends_at is None:
                self._expect(job, self._sites[each.site], each.pool, each.gpu_type, 0.0)
                if not job.missing:
                    self._submit(job)
        for key in list(self._coming):
            self._transfers.ask(key, self._now)
        self._take_back()

    def _go_on(self, job: Job, begun: Underway, left: float) -> None:
        """It runs there. What it costs counts from now on."""
        at, shape = self._sites[begun.site], job.arrival.shape
        job.site, job.pool, job.started_at, job.attempts = begun.site, begun.pool, 0.0, 1
        task = shape.resources.on(begun.gpu_type)
        job.stay = Stay(task, shape.tasks, left, lambda: None, left)
        at.pools[begun.pool].go_on(job.stay)
        self._hold(job, at)
        self._at(left, lambda: self._end(job, 1))

    def _hold(self, job: Job, at: SiteNow) -> None:
        assert job.stay is not None
        at.jobs[job] = None
        at.best_effort += job.arrival.shape.preemptible
        at.view = None
        self._tenants.hold(job.arrival.shape.tenant, job.site, job.stay.task * job.stay.tasks)
        self._companions.placed(job.arrival.shape, job.site, 1)

    def _job(self, index: int) -> Job:
        return self._jobs[index] if index < len(self._jobs) else self._begun[index - len(self._jobs)][0]

    def _submit(self, job: Job) -> None:
        at = self._sites[job.site]
        at.view = None
        assert job.stay is not None
        at.pools[job.pool].submit(job.stay, self._now)

    def _start(self, job: Job) -> None:
        job.started_at, attempt = self._now, job.attempts
        run_s = job.arrival.run_time_s / self._sites[job.site].pools[job.pool].pool.speed
        self._at(self._now + run_s, lambda: self._end(job, attempt))

    def _end(self, job: Job, attempt: int) -> None:
        if job.attempts != attempt or job.stay is None:
            return
        at = self._sites[job.site]
        self._leave(job, at)
        job.ended_at = self._now
        self._left -= 1
        at.pools[job.pool].schedule(self._now)

    def _leave(self, job: Job, at: SiteNow) -> None:
        """It is no longer at its site; what it used there is counted."""
        assert job.stay is not None
        if job.started_at is not None:
            self._bill(job, at, (self._now - job.started_at) / 3600)
        at.pools[job.pool].leave(job.stay)
        self._tenants.let_go(job.arrival.shape.tenant, job.site, job.stay.task * job.stay.tasks)
        self._companions.placed(job.arrival.shape, job.site, -1)
        at.best_effort -= job.arrival.shape.preemptible
        job.stay = None
        del at.jobs[job]
        at.view = None
        self._is_stale = True

    def _bill(self, job: Job, at: SiteNow, hours: float) -> None:
        """Money and carbon, by the formulas of `broker/placement/judge.py`."""
        assert job.stay is not None
        whole, price, power = job.stay.task * job.stay.tasks, at.site.price, at.pools[job.pool].pool.power
        gpu_price = sum(count * price.gpu_hour.get(kind, 0.0) for kind, count in whole.gpus)
        job.compute_money += hours * (whole.cpus * price.cpu_hour + gpu_price)
        watts = whole.cpus * power.cpu_w + whole.gpu_count * power.gpu_w
        job.carbon_kg += watts * hours / 1000 * at.site.carbon_g_per_kwh / 1000

    def _requeue(self, job: Job) -> None:
        for key in job.missing:
            self._coming.get(key, {}).pop(job, None)
        job.missing = set()
        self._leave(job, self._sites[job.site])
        job.started_at = None
        self._enqueue(job)

    def _charge(self, begun: Begun) -> None:
        """The first job that waits for a dataset pays for it."""
        payer = next(iter(self._coming[begun.key]), None)
        if payer is not None:
            payer.egress_money += begun.money
            payer.wan_gib += begun.wan_gib

    def _arrived(self, key: Key) -> None:
        """A dataset has come."""
        dataset, site = key
        self._replicas[dataset][site] = Replica(dataset, site, "")
        self._is_stale = True
        for job in self._coming.pop(key, {}):
            job.missing.discard(key)
            if not job.missing:
                self._submit(job)

    def _change(self, change: Change) -> None:
        self._is_stale = True
        match change:
            case SiteLost():
                self._lose_site(change)
            case NodesLost():
                self._lose_nodes(change)
            case Maintenance():
                at = self._sites[change.site]
                at.cordoned += 1
                at.view = None
                self._at(change.until, lambda: self._open(at))
            case Bandwidth():
                links = dict(self._graph.links)
                links[change.link] = replace(links[change.link], bandwidth_gbps=change.gbps)
                self._graph = Topology.of(self._graph.sites.values(), links.values(), (), ())
                self._transfers.change(self._graph, self._now)
            case Carbon():
                at = self._sites[change.site]
                at.site = replace(at.site, carbon_g_per_kwh=change.g_per_kwh)
                at.view = None

    def _lose_site(self, change: SiteLost) -> None:
        at = self._sites[change.site]
        at.lost += 1
        at.view = None
        for job in list(at.jobs):
            self._requeue(job)
        for key in self._transfers.cancel(change.site, self._now):
            for job in list(self._coming.pop(key, {})):
                self._requeue(job)
        if math.isinf(change.until):
            self._take_back()
        self._at(change.until, lambda: self._find_site(at))

    def _find_site(self, at: SiteNow) -> None:
        at.lost -= 1
        at.view = None
        self._is_stale = True
        for key in self._coming:  # what only this site has could not be asked for while it was lost
            self._transfers.ask(key, self._now)

    def _open(self, at: SiteNow) -> None:
        at.cordoned -= 1
        at.view = None
        self._is_stale = True

    def _lose_nodes(self, change: NodesLost) -> None:
        at = self._sites[change.site]
        pool = at.pools[change.pool]
        gone = pool.nodes.lose(change.nodes)
        at.view = None
        for job in list(at.jobs):
            stay = job.stay
            if job.pool == change.pool and stay and stay.allocation and gone & {node for node, _ in stay.allocation}:
                self._requeue(job)
        if math.isinf(change.until):
            self._take_back()
        pool.schedule(self._now)
        self._at(change.until, lambda: self._find_nodes(at, pool, gone))

    def _take_back(self) -> None:
        """What waits at a site for room or data that it can never have there is queued again."""
        can_come = cache(self._transfers.can_come)
        for at in self._sites.values():
            usable = {name: pool.usable for name, pool in at.pools.items()}
            for job in list(at.jobs):
                if job.started_at is None and job.stay is not None:
                    fits = usable[job.pool].fit(job.stay.task, job.stay.tasks) == job.stay.tasks
                    if not fits or not all(can_come(key) for key in job.missing):
                        self._requeue(job)

    def _find_nodes(self, at: SiteNow, pool: PoolScheduler, gone: set[int]) -> None:
        pool.nodes.find_again(gone)
        at.view = None
        self._is_stale = True
        pool.schedule(self._now)

    def _sample(self) -> None:
        pending = sum(len(members) for members in self._queue.values())
        busy = {name: [pool.busy() for pool in at.pools.values()] for name, at in self._sites.items()}
        cpus = {name: _part(cpus for cpus, _ in found) for name, found in busy.items()}
        gpus = {name: _part(gpus for _, gpus in found) for name, found in busy.items()}
        self._samples.append(Sample(self._now, pending, cpus, gpus))
        if len(self._samples) > SAMPLES:
            self._sample_s *= RARER
        self._at(self._now + self._sample_s, self._sample)


def _known(graph: Topology, of: DatasetId, at: str) -> Replica:
    return graph.replica(of, at) or Replica(of, at, "")


def _part(parts: Iterable[tuple[float, float]]) -> float:
    """Of (busy, whole) pairs, the busy part."""
    busy = whole = 0.0
    for some, every in parts:
        busy += some
        whole += every
    return busy / whole if whole else 0.0
