"""A queue onto sites: greedy, in order.

Each class takes its cheapest option that has room. It waits instead where waiting for room elsewhere costs less, all things
weighed; then the pool it waits for keeps room for it (`pools.py`). Where an admin lets work wait in the site's own queue, as much
of it goes there first, so that short jobs follow each other without a turn of ours. Room only shrinks while a plan is made, so a
class that finds none, or would rather wait, is left out of the rest of it as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from broker.jobs.model import Shape
from broker.placement import reasons
from broker.placement.arrays import Floats
from broker.placement.board import Board, Choices, cheapest
from broker.placement.fair import ByFairShare
from broker.placement.memory import Memory
from broker.placement.narrowing import Narrowed, is_narrowed, narrowed
from broker.placement.order import MakeOrder, Rank
from broker.placement.preempt import Preemption
from broker.placement.quotas import Allowance, over_quota
from broker.placement.reassign import reassigned
from broker.placement.view import Passed, Plan, PlanInput, QueuedClass
from broker.placement.waiting import Waits, together


@dataclass(slots=True)
class _Class:
    """One class on its way through a plan. `chosen` is the option that its next jobs take as well, as long as that has room and
    `left` is not used up."""

    choices: Choices
    allowance: Allowance | None
    created: Sequence[float]
    remaining: int
    shown: int
    chosen: int = -1
    left: int = 0
    is_making_room: bool = False
    """Whether others give way to its jobs."""

    @property
    def waiting(self) -> Sequence[float]:
        """When the jobs that are left and shown were made, oldest first."""
        return self.created[len(self.created) - self.shown :]


def plan(given: PlanInput, make_order: MakeOrder = ByFairShare, memory: Memory | None = None) -> Plan:
    """Placements, bookings and reasons for one queue at one moment. The same input always gives the same plan, whatever `memory`
    keeps from earlier ones."""
    memory = memory or Memory()
    board = Board(given, memory)
    greedy = _Greedy(board)
    return reassigned(greedy.run(make_order), board, greedy.full, memory)


class _Greedy:
    """One plan in the making."""

    def __init__(self, board: Board) -> None:
        self._board, self._given = board, board.given
        self._classes: dict[int, _Class] = {}
        """By the identity of what was queued: to hash a shape costs more than all else in a turn."""
        self._passed: dict[Shape, Passed] = {}
        self._placed = 0
        self._preemption = Preemption(board)
        self.full: list[Choices] = []
        """Of the classes that wait since no option has room."""

    def run(self, make_order: MakeOrder) -> Plan:
        """Turn by turn until the order ends, or a limit is met."""
        order = make_order(self._given)
        is_cut = False
        while not is_cut and (turn := order.turn()):
            queued, in_a_row = turn
            of_class = self._class(queued)
            count = self._place(of_class, min(in_a_row, self._given.most - self._placed), order.rank)
            if count:
                order.took(count)
                is_cut = self._placed >= self._given.most or 0 == of_class.shown < of_class.remaining
            elif order.rank is Rank.OWN and not of_class.is_making_room:
                of_class.left = 0
                order.set_aside()
            else:
                order.drop()
        board, evictions = self._board, tuple(self._preemption.evictions)
        awaited = board.awaited()
        return Plan(tuple(board.placements), tuple(board.bookings), self._passed, evictions, is_cut, awaited=awaited)

    def _class(self, queued: QueuedClass) -> _Class:
        """A class with its choices as they are now."""
        found = self._classes.get(id(queued))
        if found is None:
            waited = max(self._given.now - queued.created[0], 0.0) / 3600
            choices = self._board.choices(queued.shape, waited)
            allowance = self._board.allowance(choices)
            found = _Class(choices, allowance, queued.created, queued.count, len(queued.created))
            self._classes[id(queued)] = found
        renewed = self._board.renewed(found.choices)
        if renewed is not found.choices:
            found.choices, found.left = renewed, 0
        return found

    def _place(self, of_class: _Class, most: int, rank: Rank) -> int:
        """Place up to `most` jobs of a class by its best option; 0 when the rest of it waits."""
        board = self._board
        count = self._room_as_before(of_class, most, rank)
        if count:
            of_class.left -= count
            return self._take(of_class, of_class.chosen, count)
        choices = of_class.choices = board.recounted(of_class.choices)
        if not np.isfinite(choices.weighed).any():
            self._passed[choices.shape] = reasons.objected(board.objections(choices))
            return 0
        allowed = of_class.allowance.jobs(rank) if of_class.allowance else None
        narrow = narrowed(choices, allowed, of_class.waiting, board) if is_narrowed(choices.shape) else None
        if narrow:
            choices, allowed, room = narrow.choices, narrow.allowed, narrow.room
        else:
            room = board.room(choices) if allowed is None else np.minimum(board.room(choices), allowed)
        option, part, cap = cheapest(choices, room)
        if option < 0 and (self._make_room(of_class, narrow, rank) or rank is Rank.OWN):
            return 0  # others give way to it, or its turn comes again, with what it may borrow
        waits = board.waits(choices, room, cap, allowed)
        if option < 0 and not len(waits.options):
            self._passed[choices.shape] = self._barred(of_class, narrow, rank)
            return 0
        jobs = waits.absorbed(of_class.remaining, cap)
        jobs = narrow.waiting(waits, jobs, board) if narrow else jobs
        rather_wait = math.ceil(float(jobs.sum()) - 1e-9)
        count = min(most, part, of_class.remaining - rather_wait)
        if option < 0 or count <= 0:
            if rank is Rank.OWN:
                return 0
            count = self._hand_ahead(of_class, waits, jobs, most, allowed)
            if not count:
                self._wait(choices, waits, jobs, option, narrow)
                self.full += [choices] if option < 0 and narrow is None else []
            return count
        of_class.chosen, of_class.left = option, 0 if rather_wait else part - count
        return self._take(of_class, option, count)

    def _make_room(self, of_class: _Class, narrow: Narrowed | None, rank: Rank) -> bool:
        """Whether others give way to some jobs of a class that finds no room; it then waits for them."""
        tiers = narrow.tiers(of_class.remaining) if narrow else [(of_class.choices, of_class.remaining)]
        tries = (self._preemption.make_room(choices, of_class.allowance, rank, most) for choices, most in tiers)
        made = next(filter(None, tries), None)
        if made is None:
            return False
        of_class.is_making_room = True
        at = self._board.waiting_at(of_class.choices, made.option)
        self._passed[of_class.choices.shape] = reasons.gives_way(at, made.evictions)
        return True

    def _barred(self, of_class: _Class, narrow: Narrowed | None, rank: Rank) -> Passed:
        """Why a class neither starts nor waits for room anywhere: quotas, or what it asks for itself."""
        choices, allowance = of_class.choices, of_class.allowance
        if allowance and not (allowance.jobs(rank)[np.isfinite(choices.weighed)] > 0).any():
            return over_quota(choices.shape, allowance, choices.weighed, rank)
        if narrow and narrow.spill:
            return narrow.told(Passed(""))
        return reasons.objected(self._board.objections(choices))

    def _room_as_before(self, of_class: _Class, most: int, rank: Rank) -> int:
        """How many jobs may go where the last of their class went. Room only shrinks, and waits only grow: where nothing cheaper
        was worth a wait then, nothing is now."""
        if not of_class.left:
            return 0
        most = min(most, of_class.left)
        if of_class.allowance:
            most = int(min(most, of_class.allowance.jobs(rank)[of_class.chosen]))
        if of_class.choices.shape.sites.words:
            site = self._board.site(of_class.choices, of_class.chosen)
            most = int(min(most, self._board.companions.jobs(of_class.choices.shape, [site])[0]))
        return self._board.room_at(of_class.choices, of_class.chosen, most)

    def _take(self, of_class: _Class, option: int, count: int) -> int:
        self._board.take(of_class.choices, option, count)
        self._count(of_class, count)
        return count

    def _hand_ahead(self, of_class: _Class, waits: Waits, jobs: Floats, most: int, allowed: Floats | None) -> int:
        """Place up to `most` of those that would wait at the first site whose own queue takes some; 0 where none does."""
        board, choices = self._board, of_class.choices
        for number in np.flatnonzero(board.pools.has_ahead[choices.options.places[waits.options]]):
            option = int(waits.options[number])
            count = min(most, of_class.remaining, math.ceil(float(jobs[number])), board.ahead(choices, option))
            count = count if allowed is None else int(min(count, allowed[option]))
            if count > 0:
                board.hand_ahead(choices, option, count, float(waits.hours[number]))
                self._count(of_class, count)
                return count
        return 0

    def _count(self, of_class: _Class, count: int) -> None:
        self._placed += count
        of_class.remaining -= count
        of_class.shown -= count

    def _wait(self, choices: Choices, waits: Waits, jobs: Floats, here: int, narrow: Narrowed | None) -> None:
        """The rest of a class waits: the pools know, and the best of them keeps room for it."""
        board, options, best = self._board, choices.options, int(waits.options[0])
        board.pools.promise(int(options.rows[best]), int(options.places[best]))
        here_site = board.site(choices, here) if here >= 0 else ""
        some = np.flatnonzero(jobs)
        chosen = waits.options[some]
        share = board.pools.share(options.rows[chosen], options.places[chosen])
        behind_hours = float(board.pools.backlog[options.places[best]])
        each_hours = together(options.run_hours[chosen] * share)
        at, hours = board.waiting_at(choices, best), float(waits.hours[0])
        passed = reasons.waits(at, hours, here_site, behind_hours, each_hours)
        self._passed[choices.shape] = narrow.told(passed) if narrow and here < 0 else passed
        np.add.at(board.pools.backlog, options.places[chosen], jobs[some] * options.run_hours[chosen] * share)
