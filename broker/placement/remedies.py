"""What change to a job, or to the federation, would let it start sooner: each is tried on a copy, by the same rules.

A change is judged for this job alone: what waits before it keeps its place, and what others would make of the change is not
followed. Where sites change, only those that do are looked at again, so that all trials together cost about as much as a few
looks at the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from broker.jobs.model import Shape
from broker.placement.board import Board, Choices
from broker.placement.changes import Change, of_admission, of_data, of_job, of_nodes
from broker.placement.filters import Kind
from broker.placement.memory import Memory
from broker.placement.narrowing import is_narrowed, narrowed
from broker.placement.order import Rank
from broker.placement.view import Awaited, PlanInput, SiteView
from broker.placement.words import span

MOST_TOLD = 3
LEAST_GAIN = 1 / 60
"""Hours: what helps by less is not told."""
SAFELY = 0.95
"""The part of the time until a promised start that a run may take."""
LEAST_RUN = 0.1
"""The part of its run time that a shorter one has to be at the least to be told."""


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


@dataclass(frozen=True, slots=True)
class _Best:
    """The best option of a class: where, in how many hours it starts there, what it weighs with that, and how many of its tasks
    would start now."""

    site: str
    pool: str
    hours: float
    weighed: float
    fit: int


def remedies(
    shape: Shape,
    given: PlanInput,
    waited_hours: float = 0.0,
    awaited: tuple[Awaited, ...] = (),
    memory: Memory | None = None,
) -> tuple[Remedy, ...]:
    """The changes that help most, best first, those of the job before equal ones, and at most one of a kind; none for a job that
    would start now. `awaited` is what waits before it."""
    found = (remedy for _, remedy in tried(shape, given, waited_hours, awaited, memory))
    return tuple(sorted(found, key=_starts)[:MOST_TOLD])


def tried(
    shape: Shape,
    given: PlanInput,
    waited_hours: float = 0.0,
    awaited: tuple[Awaited, ...] = (),
    memory: Memory | None = None,
) -> list[tuple[Change, Remedy]]:
    """All that would help: of each kind of change the best, and what would come of it."""
    trials = _Trials(replace(given, classes=()), waited_hours, awaited, memory or Memory())
    choices = trials.board.choices(shape, waited_hours)
    now = _best(trials.board, choices)
    starts = now.hours if now else math.inf
    if starts < LEAST_GAIN:
        return []
    best: dict[str, tuple[Change, Remedy]] = {}
    for change in chain(of_job(shape, trials.kept_hours(choices)), trials.of_federation(choices, now)):
        remedy = trials.judged(change, now)
        if remedy is None or starts - remedy.starts_in_hours <= LEAST_GAIN:
            continue
        if change.kind not in best or _starts(remedy) < _starts(best[change.kind][1]):
            best[change.kind] = (change, remedy)
    return list(best.values())


class _Trials:
    """Judges changes from where a job stands."""

    def __init__(self, given: PlanInput, waited_hours: float, awaited: tuple[Awaited, ...], memory: Memory) -> None:
        self.board = Board(given, memory)
        self.board.stand_behind(awaited)
        self._given, self._waited_hours = given, waited_hours
        self._awaited = {(each.site, each.pool): each for each in awaited}

    def kept_hours(self, choices: Choices) -> float:
        """The longest run time, on a pool of speed 1, of jobs that could start at once in room that is kept for a later start of
        an earlier one; 0 where there is none."""
        board, options = self.board, choices.options
        staging_hours = choices.busy_hours - options.run_hours
        has_room = board.pools.jobs(options.rows, options.places, staging_hours) >= 1
        promised = board.pools.promises.hours[options.places]
        speed = choices.shape.run_time_s / 3600 / options.run_hours
        hours = np.where(has_room & np.isfinite(promised), SAFELY * (promised - staging_hours) * speed, 0.0)
        longest, now = float(np.max(hours, initial=0.0)), choices.shape.run_time_s / 3600
        return longest if LEAST_RUN * now < longest < now else 0.0

    def of_federation(self, choices: Choices, now: _Best | None) -> Iterator[Change]:
        """Changes to sites, links and data."""
        shape, sites = choices.shape, self._given.sites
        yield from of_admission(shape, self._given)
        if now is not None:
            (view,) = (view for view in sites if view.site.name == now.site)
            yield from of_nodes(shape, view, now.pool, now.fit, is_behind=self._behind_hours(now.site, now.pool) > 0)
        kinds = {site: {each.kind for each in said} for site, said in self.board.objections(choices).items()}
        for view in (view for view in sites if kinds.get(view.site.name) == {Kind.POOL_SIZE}):
            for pool in view.site.pools:
                yield from of_nodes(shape, view, pool.name, None, is_behind=False)
        if shape.inputs:
            yield from of_data(shape, self._given, self._wanting(choices, kinds), kinds)

    def judged(self, change: Change, now: _Best | None) -> Remedy | None:
        """What would come of a change; None where the job would not run there, or would rather go where it goes anyway."""
        if change.view is None:
            found = _best(self.board, self.board.choices(change.shape, self._waited_hours))
        else:
            found = self._at_one(change, change.view.site.name)
            if found and now and found.weighed > now.weighed:
                return None
        if found is None:
            return None
        return Remedy(change.text, found.site, found.hours, now.hours - found.hours if now else math.inf)

    def _at_one(self, change: Change, site: str) -> _Best | None:
        """The best at the one site that changes. In a pool that grows, what waits before the job is worked off so much faster;
        it does not start before that."""
        assert change.view is not None
        sites: tuple[SiteView, ...] = (change.view,)
        if is_narrowed(change.shape):
            sites = tuple(change.view if view.site.name == site else view for view in self._given.sites)
        world = replace(self._given, sites=sites, topology=change.topology or self._given.topology)
        board = Board(world, Memory())
        if change.growth is None:
            board.stand_behind(self._awaited.values())
            return _best(board, board.choices(change.shape, self._waited_hours))
        pool, factor = change.growth
        board.stand_behind(each for at, each in self._awaited.items() if at != (site, pool))
        found = _best(board, board.choices(change.shape, self._waited_hours))
        if found is None or found.pool != pool:
            return found
        behind_hours = self._behind_hours(site, pool) / factor
        later = max(behind_hours - found.hours, 0.0)
        return replace(found, hours=found.hours + later, weighed=found.weighed + later * change.shape.objective.hours)

    def _behind_hours(self, site: str, pool: str) -> float:
        each = self._awaited.get((site, pool))
        return each.backlog_hours if each else 0.0

    def _wanting(self, choices: Choices, kinds: Mapping[str, set[Kind]]) -> list[str]:
        """The sites that only lack inputs: those to which none can be brought, then those where bringing them takes long, the
        cheapest without that first."""
        barred = [site for site, said in kinds.items() if said <= {Kind.NO_SOURCE, Kind.LINK_BUSY}]
        staging_hours = choices.busy_hours - choices.options.run_hours
        slow = np.flatnonzero(np.isfinite(choices.weighed) & (staging_hours > LEAST_GAIN))
        without = choices.weighed - choices.shape.objective.hours * staging_hours
        by_cost = slow[np.argsort(without[slow], kind="stable")]
        return list(dict.fromkeys((*barred, *(self.board.site(choices, int(option)) for option in by_cost))))


def _best(board: Board, choices: Choices) -> _Best | None:
    """None where no site takes it."""
    if not np.isfinite(choices.weighed).any():
        return None
    allowance, room = board.allowance(choices), board.room(choices)
    allowed = allowance.jobs(Rank.SPARE if choices.shape.preemptible else Rank.FIRM) if allowance else None
    room = room if allowed is None else np.minimum(room, allowed)
    if is_narrowed(choices.shape):
        narrow = narrowed(choices, allowed, (board.given.now - choices.waited_hours * 3600,), board)
        choices, room, allowed = narrow.choices, narrow.room, narrow.allowed
    waits = board.waits(choices, room, math.inf, allowed)
    if not room.any() and not len(waits.options):
        return None
    hours, total = np.zeros(len(choices.weighed)), choices.weighed.copy()
    total[room == 0] = math.inf
    hours[waits.options], total[waits.options] = waits.hours, waits.totals
    best = int(total.argmin())
    options, place = choices.options, int(choices.options.places[best])
    starts = float(hours[best] + choices.busy_hours[best] - options.run_hours[best])
    fit = board.pools.fit(int(options.rows[best]), place)
    return _Best(board.site(choices, best), board.pools.pools[place].name, starts, float(total[best]), fit)


def _starts(remedy: Remedy) -> float:
    return remedy.starts_in_hours
