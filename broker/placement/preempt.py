"""Who gives way, so that jobs of a better rank start soon.

A run that may be preempted gives way to jobs of a better rank (`order.Rank`), and to those of its own tenant at the same rank
with a higher priority: an order in which nothing ever comes round again. What is chosen loses the least work: the hours since
it started, or since it last saved its work, by the part of its pool that it holds. Nothing is kept between plans: what was asked
to end is seen ending, and its room goes to whoever comes first.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from broker.jobs.model import Shape
from broker.placement.board import Board, Choices
from broker.placement.order import Rank
from broker.placement.quotas import Allowance, Quotas
from broker.placement.view import Attempts, Eviction, SiteView
from topology.resources import Resources

SOON_S = 60.0
"""What ends by itself within so many seconds need not be made to."""
MOST_LOOKED_AT = 8
"""Pools in which a class may make room that are weighed against each other: the cheapest."""
MOST_SPARED = 64
"""Of those chosen so many are looked at again, whether it goes without them: those that lose the most."""
MOST_EVICTIONS = 1_000
"""In one plan, or a few more."""
LEAST_WEIGHT = 1e-6
"""Of an hour of lost work, for jobs that do not weigh hours."""

Size = tuple[Resources, int]
"""A task, and how many of them an attempt has."""


@dataclass(frozen=True, slots=True, eq=False)
class _Victim:
    """One attempt that may give way. `lost` is the work that it would lose: hours, times the part of its pool that it holds."""

    job: str
    site: str
    place: int
    of: Attempts
    lost: float

    @property
    def whole(self) -> Resources:
        """All that it holds."""
        return self.of.task * self.of.tasks


@dataclass(slots=True)
class _Place:
    """One pool: what may still give way there, least loss first, what will be gone soon, whether any of that was asked to end,
    and what was promised of that room."""

    victims: list[_Victim]
    gone: Counter[Size]
    is_asked: bool
    claims: list[Size] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Deal:
    """So many jobs of a class would start by an option once these have given way. `weighed` is what one of them costs, with the
    work that is lost for it."""

    option: int
    jobs: int
    victims: tuple[_Victim, ...]
    weighed: float


@dataclass(frozen=True, slots=True)
class MadeRoom:
    """For how many jobs of a class there will soon be room: at `option`, the first of them; `evictions` more give way for it."""

    jobs: int
    option: int
    evictions: int


class Preemption:
    """What gives way in one plan."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._places: dict[int, _Place] = {}
        self._struck: set[str] = set()
        self.evictions: list[Eviction] = []
        if not any(view.preemptible or view.ending for view in board.given.sites):
            return
        views = sorted(board.given.sites, key=lambda view: view.site.name)
        for place, (site, pool) in enumerate(zip(board.pools.sites, board.pools.pools, strict=True)):
            view = views[int(site)]
            asked = [each for each in view.ending if each.pool == pool.name]
            victims = sorted(self._victims(view, pool.name, place), key=_least_lost)
            self._places[place] = _Place(victims, _gone_soon(view, pool.name, asked, board.given.now), bool(asked))

    def make_room(self, choices: Choices, allowance: Allowance | None, rank: Rank, jobs: int) -> MadeRoom | None:
        """Let others give way so that up to `jobs` jobs of a class, which has no room now, start soon; nobody where those do that
        were asked before. None where nothing helps, or nothing need be done since enough will be over in a moment."""
        made = MadeRoom(0, -1, 0)
        while self._places and made.jobs < jobs and len(self.evictions) < MOST_EVICTIONS:
            deals = self._deals(choices, allowance, rank, jobs - made.jobs)
            best = min(deals, key=lambda deal: (deal.weighed, deal.option), default=None)
            if best is None or not (best.victims or self._place(choices, best.option).is_asked):
                break
            self._strike(best, choices, rank)
            first = best.option if made.option < 0 else made.option
            made = MadeRoom(made.jobs + best.jobs, first, made.evictions + len(best.victims))
        return made if made.jobs else None

    def _place(self, choices: Choices, option: int) -> _Place:
        return self._places[int(choices.options.places[option])]

    def _victims(self, view: SiteView, pool: str, place: int) -> Iterator[_Victim]:
        for group in view.preemptible if view.site.allows_preemption else ():
            if group.pool != pool:
                continue
            part = self._board.pools.part(group.task * group.tasks, place)
            for job, began in zip(group.jobs, group.began, strict=True):
                hours = max(self._board.given.now - began, 0.0) / 3600 if math.isfinite(began) else 0.0
                unsaved = hours % (group.checkpoint_s / 3600) if group.checkpoint_s else hours
                yield _Victim(job, view.site.name, place, group, unsaved * part)

    def _deals(self, choices: Choices, allowance: Allowance | None, rank: Rank, jobs: int) -> Iterator[_Deal]:
        """One for each of the cheapest options where something can be done."""
        places, looked_at = choices.options.places, 0
        for option in np.argsort(choices.weighed, kind="stable").tolist():
            place = int(places[option])
            if looked_at == MOST_LOOKED_AT or not math.isfinite(choices.weighed[option]):
                return
            here = self._places[place]
            is_promising = here.victims or here.gone or (allowance and any(allowance.shortages(option, 1)))
            if not is_promising or not self._board.pools.may_make_room(place):
                continue
            looked_at += 1
            most = jobs if allowance is None else int(min(allowance.entitled(rank)[option], jobs))
            while most:
                deal = self._deal(choices, allowance, rank, most, option)
                if deal is not None and deal.jobs == most:
                    yield deal
                    break
                most = deal.jobs if deal is not None else most // 2

    def _deal(self, choices: Choices, allowance: Allowance | None, rank: Rank, jobs: int, option: int) -> _Deal | None:
        """How many of so many jobs would start by an option, and the fewest that have to give way for it: those whose quota is
        needed, then those whose room is."""
        asks = _Asks(choices.shape, rank, option)
        with _Trial(self._board.quotas) as trial:
            if allowance is not None and not self._free_quotas(asks, allowance, jobs, trial):
                return None
            started = self._free_room(asks, choices, jobs, trial)
            victims = tuple(trial.struck)
        if not started or not (victims or self._place(choices, option).gone):
            return None
        hours = sum(victim.lost for victim in victims) / started
        weighed = float(choices.weighed[option]) + max(choices.shape.objective.hours, LEAST_WEIGHT) * hours
        return _Deal(option, started, victims, weighed)

    def _free_quotas(self, asks: _Asks, allowance: Allowance, jobs: int, trial: _Trial) -> bool:
        """Strike, wherever they are, those that hold what the quotas lack; whether that is enough."""
        quotas = self._board.quotas
        for line, _ in list(allowance.shortages(asks.option, jobs)):
            for victim in sorted((each for place in self._places.values() for each in place.victims), key=_least_lost):
                if not any(short is line for short, _ in allowance.shortages(asks.option, jobs)):
                    break
                counts = quotas.is_below(victim.of.tenant, line) and line.of(victim.site, victim.whole)
                if counts and self._gives_way(victim, asks, trial):
                    trial.strike(victim)
        return not any(allowance.shortages(asks.option, jobs))

    def _free_room(self, asks: _Asks, choices: Choices, jobs: int, trial: _Trial) -> int:
        """Strike, in an option's pool, the fewest for so many jobs, or for as many as will fit; how many fit."""
        at, task, tasks = int(choices.options.places[asks.option]), choices.options.tasks[asks.option], choices.shape.tasks
        place = self._places[at]
        gone = place.gone + Counter(_size(each) for each in trial.struck if each.place == at)

        def fit(more: Iterable[_Victim]) -> int:
            room = self._board.pools.freed(at, gone + Counter(map(_size, more)), place.claims)
            return min(room.fit(task, tasks * jobs) // tasks, jobs) if room else 0

        if fit(()) == jobs:
            return jobs
        may = []
        for victim in place.victims:
            if self._gives_way(victim, asks, trial):
                trial.strike(victim)
                may.append(victim)
        started = fit(may)
        enough = bisect_left(range(len(may)), started, key=lambda count: fit(may[:count])) if started else 0
        chosen = _spared(may[:enough], lambda some: fit(some) >= started)
        for victim in may:
            if victim not in chosen:
                trial.spare(victim)
        return started

    def _gives_way(self, victim: _Victim, asks: _Asks, trial: _Trial) -> bool:
        """Whether it has to, as things are on trial."""
        if victim.job in self._struck or victim in trial.struck:
            return False
        theirs = self._board.quotas.rank_of(victim.of.tenant, victim.site, victim.whole)
        is_lesser = victim.of.tenant == asks.shape.tenant and victim.of.priority < asks.shape.priority
        return asks.rank < theirs or (asks.rank == theirs and is_lesser)

    def _strike(self, deal: _Deal, choices: Choices, rank: Rank) -> None:
        """It is done: what gives way does, and its room is promised."""
        board, shape, options = self._board, choices.shape, choices.options
        site, at, task = board.site(choices, deal.option), int(options.places[deal.option]), options.tasks[deal.option]
        for victim in deal.victims:
            self._struck.add(victim.job)
            self._places[victim.place].gone[_size(victim)] += 1
            board.quotas.add(victim.of.tenant, victim.site, victim.whole, is_firm=False, sign=-1)
            self.evictions.append(Eviction(victim.job, victim.site, _why(victim, shape, rank)))
        board.quotas.add(shape.tenant, site, task * (shape.tasks * deal.jobs), is_firm=not shape.preemptible)
        place = self._places[at]
        place.claims.append((task, shape.tasks * deal.jobs))
        left_over = board.pools.freed(at, place.gone, place.claims)
        board.pools.keep_made(at, left_over.total if left_over else Resources())


@dataclass(frozen=True, slots=True)
class _Asks:
    """Who asks for room: jobs of a shape, at a rank, for one of their options."""

    shape: Shape
    rank: Rank
    option: int


class _Trial:
    """Victims struck on trial: the quotas take them for gone until it is over."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self.struck: dict[_Victim, None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for victim in list(self.struck):
            self.spare(victim)

    def strike(self, victim: _Victim) -> None:
        """It gives way."""
        self._quotas.add(victim.of.tenant, victim.site, victim.whole, is_firm=False, sign=-1)
        self.struck[victim] = None

    def spare(self, victim: _Victim) -> None:
        """It does not, after all."""
        self._quotas.add(victim.of.tenant, victim.site, victim.whole, is_firm=False)
        del self.struck[victim]


def _gone_soon(view: SiteView, pool: str, ending: Iterable[Attempts], now: float) -> Counter[Size]:
    """What was asked to end in a pool, or will be over in a moment."""
    asked, by_itself = Counter[Size](), Counter[Size]()
    for each in ending:
        asked[each.task, each.tasks] += len(each.jobs)
    for held in view.held:
        if held.pool == pool:
            by_itself[held.task, held.tasks] += sum(end <= now + SOON_S for end in held.ends)
    return +(asked | by_itself)


def _spared(chosen: Sequence[_Victim], is_enough: Callable[[Sequence[_Victim]], bool]) -> set[_Victim]:
    """Those without which it does not go: each that loses much is tried to be left out."""
    kept = list(chosen)
    for victim in sorted(chosen, key=_least_lost, reverse=True)[:MOST_SPARED]:
        without = [each for each in kept if each is not victim]
        if is_enough(without):
            kept = without
    return set(kept)


def _why(victim: _Victim, shape: Shape, rank: Rank) -> str:
    if rank is Rank.OWN and victim.of.tenant != shape.tenant:
        return f"gives back what it borrowed to tenant {shape.tenant}"
    if rank is Rank.FIRM:
        return f"gives way to a job of tenant {shape.tenant} that may not be preempted"
    return f"gives way to a job of its tenant that comes first, by its quota or by priority {shape.priority}"


def _size(victim: _Victim) -> Size:
    return victim.of.task, victim.of.tasks


def _least_lost(victim: _Victim) -> tuple[float, str]:
    return victim.lost, victim.job
