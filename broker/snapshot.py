"""The world as placement sees it, taken on the loop: cheap enough for every turn of the planner."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from adapters.kinds import takes
from broker.jobs.model import Attempt, JobState, Phase, Shape
from broker.placement.view import Attempts, Group, Held, PlanInput, QueuedClass, SiteView
from broker.records import Booking, SiteStatus
from broker.usage import Usage
from broker.world import Job, World
from topology.dataset import DatasetId
from topology.graph import Topology
from topology.resources import Resources
from topology.site import Site

SHOWN = 2000
"""How many jobs of one class a plan is shown."""

MOST_KEPT = 10_000
"""Past this many sizes, or jobs that are no more, they are forgotten and gathered anew."""

STOP_S = 30.0
"""An attempt that was asked to end is expected to take so long for it."""

SOON_S = 60.0
"""The least that a run is taken to last from now on."""

HOLDING = (Phase.STAGING, Phase.PLACED, Phase.QUEUED, Phase.RUNNING)
"""Phases in which an attempt takes room at its site; while it is collected its processes are over."""


@dataclass(frozen=True, slots=True)
class _Size:
    """What equal attempts of one tenant take where."""

    tenant: str
    pool: str
    task: Resources
    tasks: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """What attempts that may give way, or were asked to end, have in common."""

    size: _Size
    priority: int
    checkpoint_s: float | None
    is_ending: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """What was worked out of a job, which a change in the world replaces by another object. `kind` is None for one that stays."""

    job: Job
    size: _Size
    end: float
    kind: _Kind | None = None
    began: float = math.inf
    run_s: float = 0.0
    """How long it is expected to run, start to end; 0 where it was asked to end."""


@dataclass(slots=True)
class Snapshots:
    """Takes snapshots. Keeps what it worked out of each job at a site, so that only what changed costs more than a look."""

    world: World
    usage: Usage
    _known: dict[int, _Known] = field(default_factory=dict)
    _sizes: dict[_Size, _Size] = field(default_factory=dict)
    _graph: Topology | None = None
    _graph_of: tuple[object, ...] = ()
    _holds: dict[str, dict[str, Resources]] = field(default_factory=dict)
    """What each tenant's attempts hold by site, as of the last look at all sites."""

    def take(self, now: float) -> tuple[PlanInput, Mapping[Shape, Sequence[str]]]:
        """The input of a plan, and the ids behind the jobs that it shows, in the same order."""
        queue = self.world.queue(now)
        shown = {shape: tuple(zip(*islice(members, SHOWN), strict=True)) for shape, members in queue.items()}
        classes = tuple(QueuedClass(shape, created, len(queue[shape])) for shape, (created, _) in shown.items())
        ids = {shape: names for shape, (_, names) in shown.items()}
        inputs = {dataset for shape in shown for dataset in shape.inputs}
        sites = self.sites()
        tenants = self.usage.tenants(now, self._holds)
        groups = self.groups(shown)
        return PlanInput(now, self.topology(inputs), sites, classes, self.bookings(), tenants, groups=groups), ids

    def why(self, shape: Shape, now: float) -> PlanInput:
        """The input that explains one shape."""
        sites = self.sites()
        tenants = self.usage.quotas(self._holds)
        return PlanInput(now, self.topology(shape.inputs), sites, (), self.bookings(), tenants, groups=self.groups((shape,)))

    def paced(self, view: SiteView, pace: float, now: float) -> SiteView:
        """A site as it would be seen if each run took `pace` times as long as is expected of it, and nothing were overdue."""
        ends: dict[tuple[str, Resources, int], list[float]] = {}
        for item in self._there(view.site.name):
            size, end = item.size, max(item.end + (pace - 1) * item.run_s, now + SOON_S)
            ends.setdefault((size.pool, size.task, size.tasks), []).append(end)
        held = [Held(*size, tuple(of_size)) for size, of_size in ends.items()]
        return replace(view, held=(*held, *self._unresolved(view.site.name)))

    def topology(self, inputs: Iterable[DatasetId]) -> Topology:
        """Sites and links, with the replicas of `inputs` only: placement asks for no others, and there may be very many.
        Routes found so far are kept while sites and links stand."""
        world = self.world
        known = (*world.sites.values(), *world.links.values())
        if self._graph is None or known != self._graph_of:
            self._graph_of = known
            self._graph = Topology.of(world.sites.values(), world.links.values(), (), ())
        inputs = list(inputs)
        datasets = [world.datasets[each] for each in inputs if each in world.datasets]
        return self._graph.with_replicas(datasets, [r for each in inputs for r in world.replicas.get(each, {}).values()])

    def groups(self, shapes: Iterable[Shape]) -> tuple[Group, ...]:
        """Those that these shapes belong to, as far as any of them are at sites."""
        words = dict.fromkeys((shape.tenant, *word) for shape in shapes for word in shape.sites.words)
        return tuple(Group(*word, dict(at)) for word in words if (at := self.world.together(word)))

    def bookings(self) -> tuple[Booking, ...]:
        """All transfers under way."""
        return tuple(booking for at in self.world.bookings.values() for booking in at.values())

    def sites(self) -> tuple[SiteView, ...]:
        """Every registered site, by name."""
        if len(self._sizes) > MOST_KEPT:
            self._sizes.clear()
        at_sites = sum(self.world.count_at(name, *HOLDING) for name in self.world.sites)
        if len(self._known) > 2 * at_sites + MOST_KEPT:
            self._known.clear()
        self._holds = {}
        return tuple(self._view(site) for _, site in sorted(self.world.sites.items()))

    def _view(self, site: Site) -> SiteView:
        status = self.world.statuses.get(site.name) or SiteStatus(site.name)
        state = (status.health, status.reason, status.is_lost, status.rooms)
        there = self._there(site.name)
        apart = _apart(there)
        return SiteView(
            site,
            *state,
            self._held(site, there),
            ending=tuple(group for kind, group in apart if kind.is_ending),
            preemptible=tuple(group for kind, group in apart if not kind.is_ending),
            takes=takes(site.engine.kind),
        )

    def _there(self, site: str) -> list[_Known]:
        known = self._known
        return [known.get(id(job)) or self._enter(job) for job in self.world.at(site, *HOLDING)]

    def _enter(self, job: Job) -> _Known:
        size = _size(job, job.state.attempt)
        item = self._known[id(job)] = _worked_out(job, self._sizes.setdefault(size, size))
        return item

    def _held(self, site: Site, there: Iterable[_Known]) -> tuple[Held, ...]:
        ends: dict[int, tuple[_Size, list[float]]] = {}
        for item in there:
            group = ends.get(id(item.size))
            if group is None:
                group = ends[id(item.size)] = (item.size, [])
            group[1].append(item.end)
        by_size: dict[tuple[str, Resources, int], list[float]] = {}
        for size, of_size in ends.values():
            by_size.setdefault((size.pool, size.task, size.tasks), []).extend(of_size)
            at_sites = self._holds.setdefault(size.tenant, {})
            at_sites[site.name] = at_sites.get(site.name, Resources()) + size.task * (size.tasks * len(of_size))
        held = [Held(*size, tuple(of_size)) for size, of_size in by_size.items()]
        return (*held, *self._unresolved(site.name))

    def _unresolved(self, site: str) -> list[Held]:
        """Attempts that were given up while the site could not be reached may still run there."""
        sizes = [
            _size(job, attempt)
            for name, number in self.world.unresolved.get(site, {})
            if (job := self.world.jobs.get(name)) and (attempt := job.state.attempt_of(number))
        ]
        return [Held(size.pool, size.task, size.tasks, (math.inf,)) for size in sizes]


def _worked_out(job: Job, size: _Size) -> _Known:
    """An attempt that was asked to end will have ended a little later; where it was to end sooner, then."""
    end, spec, attempt = expected_end(job.state), job.spec, job.state.attempt
    asked = job.wish.cancel or (job.wish.stop.ask if job.wish.stop and job.wish.stop.attempt == attempt.number else None)
    run_s = attempt.decision.cost.run_hours * 3600
    if asked is None and not spec.preemptible:
        return _Known(job, size, end, run_s=run_s)
    end = end if asked is None else min(end, asked.at + STOP_S)
    began = attempt.started_at if attempt.started_at is not None else math.inf
    kind = _Kind(size, spec.priority, spec.checkpoint_s, asked is not None)
    return _Known(job, size, end, kind, began, run_s if asked is None else 0.0)


def _apart(there: Iterable[_Known]) -> list[tuple[_Kind, Attempts]]:
    """What may give way, or is ending, by kind."""
    found: dict[_Kind, list[_Known]] = {}
    for item in there:
        if item.kind is not None:
            found.setdefault(item.kind, []).append(item)
    return [(kind, _attempts(kind, items)) for kind, items in found.items()]


def _attempts(kind: _Kind, items: Sequence[_Known]) -> Attempts:
    size, jobs = kind.size, tuple(item.job.id for item in items)
    began = tuple(item.began for item in items)
    return Attempts(size.tenant, kind.priority, size.pool, size.task, size.tasks, jobs, began, kind.checkpoint_s)


def as_declared(site: Site) -> SiteView:
    """A site of which nothing was seen: what it could run if it were up, open and empty."""
    return SiteView(site, takes=takes(site.engine.kind))


def expected_end(state: JobState) -> float:
    """When the current attempt should be over (epoch seconds): its run time after its start, or after the waiting and staging
    that its decision reckoned with."""
    attempt = state.attempt
    cost = attempt.decision.cost
    started = attempt.started_at or attempt.accepted_at or attempt.staged_at
    if started is None:
        started = attempt.placed_at + (cost.wait_hours + cost.staging_hours) * 3600
    return started + cost.run_hours * 3600


def _size(job: Job, attempt: Attempt) -> _Size:
    tasks, resources = job.spec.pieces
    return _Size(job.spec.tenant, attempt.pool, resources.on(attempt.gpu_type), tasks)
