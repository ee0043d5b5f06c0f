"""Of what a class may do what its next jobs may do now: where their companions are, in time, and in the order that they prefer.

A deadline counts for the oldest job of those that are left. While some option is expected to end in time the others are out of
question, however cheap; once there is none, only hours count. Of the ranks of sites that jobs prefer, each may go as far as it
has waited for; the first with room wins, and where none has room the first is waited for.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from broker.jobs.model import Shape
from broker.placement import reasons
from broker.placement.arrays import Flags, Floats, Places
from broker.placement.board import Board, Choices
from broker.placement.reasons import Spill
from broker.placement.view import Passed
from broker.placement.waiting import Waits

ROUNDING = 1e-9
"""Of an hour: what is lost in sums is no delay."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What is left. `choices` weigh infinitely much where jobs neither go now nor wait. By option, `allowed` is how many may go
    there, whether there is room or not, and `room` how many would start. `left_hours` is the time until the deadline, where that
    cannot be met any more; negative once it is past."""

    choices: Choices
    allowed: Floats
    room: Floats
    ranks: Places
    wanted: Floats
    """What options weigh that jobs might take if others gave way; infinite for those that they might not."""
    latest_hours: float = math.inf
    """When those that wait are to have ended."""
    left_hours: float | None = None
    spill: Spill | None = None

    def waiting(self, waits: Waits, jobs: Floats, board: Board) -> Floats:
        """Of so many jobs that would wait at each of these options, those that may, and that end in time."""
        options, at = self.choices.options, waits.options
        most = self.allowed[at]
        if math.isfinite(self.latest_hours):
            each = options.run_hours[at] * board.pools.share(options.rows[at], options.places[at])
            spare = self.latest_hours - self.choices.busy_hours[at] - waits.hours
            most = np.minimum(most, np.floor(np.maximum(spare, 0.0) / np.maximum(each, ROUNDING)) + 1)
        return np.minimum(jobs, most)

    def told(self, passed: Passed) -> Passed:
        """Why jobs wait, with what they prefer and what becomes of their deadline."""
        passed = passed if self.spill is None else reasons.prefers(self.spill, passed)
        return passed if self.left_hours is None else reasons.is_late(self.left_hours, passed)

    def tiers(self, most: int) -> Iterator[tuple[Choices, int]]:
        """Where room might be made, rank by rank, and for how many of `most` jobs. Only for one at a time of those that belong
        together: where the others may go depends on it."""
        most = 1 if self.choices.shape.sites.words else most
        for rank in np.unique(self.ranks[np.isfinite(self.wanted)]):
            weighed = np.where(self.ranks == rank, self.wanted, math.inf)
            yield replace(self.choices, weighed=weighed), int(min(most, self.allowed[np.isfinite(weighed)].max()))


def is_bound(shape: Shape) -> bool:
    """Whether it matters where other jobs go, or which sites come first."""
    return bool(shape.sites.prefer or shape.sites.words)


def is_narrowed(shape: Shape) -> bool:
    """Whether it depends on more than room where jobs of a class go now."""
    return is_bound(shape) or shape.deadline_s is not None


def narrowed(choices: Choices, quota: Floats | None, created: Sequence[float], board: Board) -> Narrowed:
    """For jobs that were made at `created` (epoch seconds), the oldest first; `quota` is how many quotas allow, by option."""
    shape, now = choices.shape, board.given.now
    allowed = board.companions.jobs(shape, board.sites)[choices.options.sites]
    allowed = allowed if quota is None else np.minimum(allowed, quota)
    possible = np.isfinite(choices.weighed) & (allowed > 0)
    preference = _Preference.of(choices, board)
    allowed = np.minimum(allowed, preference.old_enough(created, now))
    room = np.minimum(board.room(choices), allowed)
    left_hours = (created[0] + shape.deadline_s - now) / 3600 if shape.deadline_s is not None else math.inf
    more_hours = preference.more_hours(created[0], now)
    in_time = possible & (_until_end(choices, room, more_hours, left_hours, board) <= left_hours + ROUNDING)
    is_late = math.isfinite(left_hours) and not in_time.any()
    may_go = possible if is_late else in_time
    kept = preference.best(may_go & (allowed > 0), room)
    weighed = np.where(kept, choices.busy_hours if is_late else choices.weighed, math.inf)
    room = np.where(kept, room, 0.0)
    wanted = possible & (allowed > 0) & _within(choices.busy_hours, possible, left_hours)
    return Narrowed(
        choices=replace(choices, weighed=weighed, is_by_hours=is_late),
        allowed=allowed,
        room=room,
        ranks=preference.ranks,
        wanted=np.where(wanted, choices.weighed, math.inf),
        latest_hours=math.inf if is_late else left_hours,
        left_hours=left_hours if is_late else None,
        spill=None if room.any() else preference.spill(may_go & (more_hours > 0), created[0], now),
    )


@dataclass(frozen=True, slots=True)
class _Preference:
    """The ranks of a class's options: 0 for the first of the `names`, which may all take it one day, and one more than the last
    for sites that are not named. A job may go to rank k once it has waited for k times `step_s`."""

    ranks: Places
    names: tuple[str, ...]
    step_s: float

    @staticmethod
    def of(choices: Choices, board: Board) -> _Preference:
        """A class's, as its choices are."""
        rules = choices.shape.sites
        names = tuple(site for site in rules.prefer if board.is_ever_open(choices, site))
        ranks = {site: rank for rank, site in enumerate(names)}
        by_site = np.array([ranks.get(site, len(names)) for site in board.sites], dtype=np.intp)
        return _Preference(by_site[choices.options.sites], names, rules.spill_after_s)

    def old_enough(self, created: Sequence[float], now: float) -> Floats:
        """By option, how many of the jobs have waited long enough; infinitely many where none has to."""
        by_rank = [bisect_right(created, now - rank * self.step_s) for rank in range(1, len(self.names) + 1)]
        return np.array([math.inf, *(by_rank if self.step_s else [math.inf] * len(by_rank))])[self.ranks]

    def more_hours(self, created: float, now: float) -> Floats:
        """By option, how long a job has to wait still until it may go there; 0 where it may."""
        steps = self.ranks * self.step_s
        hours: Floats = np.where(steps > 0, np.maximum(created + steps - now, 0.0), 0.0) / 3600
        return hours

    def best(self, may_go: Flags, room: Floats) -> Flags:
        """The options of the lowest rank that has room; where none has, of the lowest."""
        has_room = may_go & (room > 0)
        among = self.ranks[has_room if has_room.any() else may_go]
        found: Flags = may_go & (self.ranks == among.min(initial=len(self.names)))
        return found

    def spill(self, may_later: Flags, created: float, now: float) -> Spill | None:
        """The next of the ranks that a job may go to later only."""
        if not may_later.any():
            return None
        rank = int(self.ranks[may_later].min())
        then = self.names[rank] if rank < len(self.names) else ""
        return Spill((created + rank * self.step_s - now) / 3600, self.names[:rank], then)


def _until_end(choices: Choices, room: Floats, more_hours: Floats, left_hours: float, board: Board) -> Floats:
    """By option, in how many hours a job would be over; where it has no deadline nobody asks."""
    hours = np.zeros(len(room))
    if math.isfinite(left_hours):
        waits = board.waits(choices, room, math.inf)
        hours[waits.options] = waits.hours
    ends: Floats = choices.busy_hours + np.maximum(hours, more_hours)
    return ends


def _within(hours: Floats, possible: Flags, most: float) -> Flags:
    """Where so many hours are enough; everywhere where they are nowhere."""
    enough = hours <= most + ROUNDING
    return enough if (enough & possible).any() else np.ones(len(hours), dtype=bool)
