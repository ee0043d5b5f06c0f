"""What change to a job, or to the federation, would let it start sooner: each is tried on a copy, by the same rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from broker.jobs.model import GpuRequest, Shape, TaskResources
from broker.placement.board import Board
from broker.placement.memory import Memory
from broker.placement.narrowing import is_narrowed, narrowed
from broker.placement.view import PlanInput, SiteView
from broker.placement.words import span
from broker.records import Health
from topology.room import Room
from topology.site import Admission

MOST_TOLD = 3
LEAST_GAIN = 1 / 60
"""Hours: what helps by less is not told."""
MOST_SITES = 5
"""Sites of which it is tried what would come of them."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change in words, where the job would then start and in how many hours, and by how many that is sooner (infinity: it could
    not run at all)."""

    change: str
    site: str
    starts_in_hours: float
    gain_hours: float

    @property
    def text(self) -> str:
        """For people."""
        when = "now" if self.starts_in_hours < LEAST_GAIN else f"in {span(self.starts_in_hours)}"
        sooner = "" if math.isinf(self.gain_hours) else f", {span(self.gain_hours)} sooner"
        return f"{self.change}: it would start {when} at {self.site}{sooner}"


def remedies(shape: Shape, given: PlanInput, waited_hours: float) -> tuple[Remedy, ...]:
    """The changes that help most, best first; none for a job that would start now."""
    memory = Memory()
    found = _best(shape, given, waited_hours, memory)
    now = found[1] if found else math.inf
    if now < LEAST_GAIN:
        return ()
    tried: list[Remedy] = []
    for change, other in _other_shapes(shape):
        tried += _tried(change, _best(other, given, waited_hours, memory), now)
    for change, world in _other_worlds(shape, given, found[0] if found else ""):
        tried += _tried(change, _best(shape, world, waited_hours, Memory()), now)
    return tuple(sorted(tried, key=lambda remedy: (remedy.starts_in_hours, remedy.change))[:MOST_TOLD])


def _tried(change: str, found: tuple[str, float] | None, before: float) -> Iterator[Remedy]:
    if found is not None and before - found[1] > LEAST_GAIN:
        yield Remedy(change, found[0], found[1], before - found[1])


def _best(shape: Shape, given: PlanInput, waited_hours: float, memory: Memory) -> tuple[str, float] | None:
    """Where a job of this shape would go, and in how many hours it would start; None where no site takes it."""
    board = Board(given, memory)
    choices = board.choices(shape, waited_hours)
    if is_narrowed(shape):
        choices = narrowed(choices, None, (given.now - waited_hours * 3600,), board).choices
    if not np.isfinite(choices.weighed).any():
        return None
    if is_narrowed(shape):
        choices = narrowed(choices, None, (given.now - waited_hours * 3600,), board).choices
        if not np.isfinite(choices.weighed).any():
            return None
    waits = board.waits(choices, board.room(choices), math.inf)
    hours, total = np.zeros(len(choices.weighed)), choices.weighed.copy()
    hours[waits.options], total[waits.options] = waits.hours, waits.totals
    best = int(total.argmin())
    staging = choices.busy_hours[best] - choices.options.run_hours[best]
    return board.site(choices, best), float(hours[best] + staging)


def _other_shapes(shape: Shape) -> Iterator[tuple[str, Shape]]:
    rules, each = shape.sites, shape.resources
    if rules.regions:
        yield "any region", replace(shape, sites=replace(rules, regions=()))
    if rules.names:
        yield "any site", replace(shape, sites=replace(rules, names=()))
    if rules.exclude:
        yield f"without excluding {' and '.join(rules.exclude)}", replace(shape, sites=replace(rules, exclude=()))
    if rules.fabric:
        yield f"without fabric {rules.fabric}", replace(shape, sites=replace(rules, fabric=None))
    if rules.file_system:
        yield f"without file system {rules.file_system}", replace(shape, sites=replace(rules, file_system=None))
    if rules.prefer:
        yield "without preferring any site", replace(shape, sites=replace(rules, prefer=()))
    if rules.affinity is not None:
        yield f"without affinity {rules.affinity}", replace(shape, sites=replace(rules, affinity=None))
    if rules.spread is not None:
        yield f"without spread {rules.spread.word}", replace(shape, sites=replace(rules, spread=None))
    if shape.max_cost is not None:
        yield "without max_cost", replace(shape, max_cost=None)
    if each.gpus.types:
        yield "GPUs of any type", _with_resources(shape, replace(each, gpus=GpuRequest(each.gpus.count)))
    if each.gpus.count > 1:
        half = replace(each.gpus, count=each.gpus.count // 2)
        yield f"{half.count} GPUs a task", _with_resources(shape, replace(each, gpus=half))
    if shape.tasks > 1:
        yield f"{shape.tasks // 2} tasks", replace(shape, tasks=shape.tasks // 2)
    if not each.gpus.count and each.cpus > 1:
        yield f"{each.cpus / 2:g} cpus a task", _with_resources(shape, replace(each, cpus=each.cpus / 2))
    yield f"a run time of {span(shape.run_time_s / 7200)}", replace(shape, run_time_s=shape.run_time_s / 2)


def _with_resources(shape: Shape, resources: TaskResources) -> Shape:
    return replace(shape, resources=resources)


def _other_worlds(shape: Shape, given: PlanInput, waits_at: str) -> Iterator[tuple[str, PlanInput]]:
    closed = [view for view in given.sites if view.site.admission is not Admission.OPEN]
    down = [view for view in given.sites if view.is_lost or not view.health.takes_jobs]
    for view in closed[:MOST_SITES]:
        opened = replace(view, site=replace(view.site, admission=Admission.OPEN))
        yield f"uncordon {view.site.name}", _with(given, opened)
    for view in down[:MOST_SITES]:
        up = replace(view, health=Health.UP, is_lost=False, rooms=view.rooms or {p.name: p.empty for p in view.site.pools})
        yield f"{view.site.name} up again", _with(given, up)
    for view in (view for view in given.sites if view.site.name == waits_at):
        yield from (_with_node(given, view, pool.name) for pool in view.site.pools)


def _with_node(given: PlanInput, view: SiteView, name: str) -> tuple[str, PlanInput]:
    pools = tuple(replace(pool, nodes=pool.nodes + (pool.name == name)) for pool in view.site.pools)
    (per_node,) = (pool.per_node for pool in view.site.pools if pool.name == name)
    room = Room.of((*view.rooms.get(name, Room()).groups, (per_node, 1)))
    more = replace(view, site=replace(view.site, pools=pools), rooms={**view.rooms, name: room})
    return f"one more node in {view.site.name}/{name}", _with(given, more)


def _with(given: PlanInput, changed: SiteView) -> PlanInput:
    views: Iterable[SiteView] = (changed if view.site.name == changed.site.name else view for view in given.sites)
    return replace(given, sites=tuple(views))
