"""The placements of a plan dealt out anew, so that all of them together cost the least.

Who is placed stays as it is: so many of each class, as the order found fair. Where they go is a transport problem of classes and
pools. Its relaxation is solved by HiGHS (Huangfu and Hall, Mathematical Programming Computation 10, 2018), with room by sums;
whole jobs are then placed node by node, and what rounding and broken-up nodes leave over goes to the cheapest room that is left.

Only jobs of one priority, and either those that may be preempted or those that may not, are dealt out together, so that none goes
elsewhere for the sake of a lesser one; and what is kept for those that wait stays kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import highspy
import numpy as np

from broker.jobs.model import Shape
from broker.placement.arrays import Floats, Places
from broker.placement.board import Board, Choices
from broker.placement.memory import Memory
from broker.placement.narrowing import is_bound
from broker.placement.pools import Promises
from broker.placement.view import Placement, Plan

LEAST_REGRET = 0.01
"""A plan is left alone where no deal of the same room could save so large a part of its costs."""
LEAST_GAIN = 1e-3
"""What a new deal must save, as a part of the whole: else nothing moves."""
MOST_OPTIONS = 32
"""Options of a class that are looked at: the cheapest with room."""
RETRIES = 3
"""A deal that leaves some classes without room is tried again so often, with those left where they were."""
ROUNDS = 4
"""The programme is solved so often at most, each time for the jobs that are left."""
TOLERANCE = 0.01
"""An option may have become so much dearer since it was solved for."""
MOST_ITERATIONS = 50_000
"""Of the simplex method: the budget is counted in these and not in seconds, so that the same input gives the same plan."""


@dataclass(slots=True)
class _Hand:
    """One class: how many of its jobs are dealt out, and the options that they may go to."""

    choices: Choices
    count: int
    options: Places
    latest_hours: float
    """When they are to have ended."""

    def in_time(self, options: Places) -> Places:
        """Those of the options by which they have."""
        found: Places = options[self.choices.busy_hours[options] <= self.latest_hours]
        return found


def reassigned(plan: Plan, board: Board, full: Iterable[Choices], memory: Memory) -> Plan:
    """The plan, which was made on `board`, or a better deal of it. `full` are the classes that found no room at all: where a new
    deal has some for them, the plan says that it is cut, and the next one comes at once."""
    promises, made_on = board.pools.promises, board
    for turn in sorted({_turn(placement.shape) for placement in plan.placements}):
        taken = _gathered(board)
        moving = [each for each in taken if _turn(each.choices.shape) == turn and _may_move(each, board)]
        for _ in range(RETRIES):
            if not _is_promising(moving, board):
                break
            anew, moved = Board(board.given, memory), set(map(id, moving))
            stuck = _dealt_anew(moving, [each for each in taken if id(each) not in moved], promises, anew)
            if stuck is None:
                board, promises = anew, anew.pools.promises
                break
            moving = [each for each in moving if each.choices.shape not in stuck] if stuck else []
    if board is made_on:
        return plan
    is_cut = plan.is_cut or any(board.room(board.renewed(choices)).any() for choices in full)
    return replace(plan, placements=tuple(board.placements), bookings=tuple(board.bookings), is_cut=is_cut)


def _turn(shape: Shape) -> tuple[bool, int]:
    """Only what is equal here is dealt out together."""
    return shape.preemptible, -shape.priority


def _may_move(taken: _Taken, board: Board) -> bool:
    """Not what waits in a site's own queue or misses its deadline, and not where a quota, or the class itself, looks at where it
    goes."""
    shape, is_late = taken.choices.shape, taken.choices.busy_hours[taken.option] > taken.choices.left_hours
    return not (taken.is_ahead or is_late or is_bound(shape) or board.quotas.has_scopes(shape.tenant))


@dataclass(slots=True, eq=False)
class _Taken:
    """All placements of a plan by which a class took one of its options."""

    choices: Choices
    option: int
    is_ahead: bool
    """Whether they wait in their site's own queue."""
    placements: list[Placement] = field(default_factory=list)
    count: int = 0
    """Of jobs."""
    cost: float = 0.0
    """Of all of them."""

    @property
    def place(self) -> int:
        """Their pool's."""
        return int(self.choices.options.places[self.option])

    def add(self, placement: Placement) -> None:
        """One more of them."""
        self.placements.append(placement)
        self.count += placement.count
        self.cost += _cost(placement)


def _gathered(board: Board) -> list[_Taken]:
    found: dict[tuple[int, int, bool], _Taken] = {}
    for placement, (choices, option) in zip(board.placements, board.takers, strict=True):
        is_ahead = placement.decision.cost.wait_hours > 0
        key = (id(choices), option, is_ahead)
        if key not in found:
            found[key] = _Taken(choices, option, is_ahead)
        found[key].add(placement)
    return list(found.values())


def _is_promising(moving: Sequence[_Taken], board: Board) -> bool:
    """Whether anything could be saved by another deal: not where each class has the cheapest of all the pools that this plan gave
    something of."""
    is_given = np.zeros(len(board.pools.pools), dtype=bool)
    is_given[[each.place for each in moving]] = True
    regret = 0.0
    for each in moving:
        weighed, places = each.choices.weighed, each.choices.options.places
        regret += each.count * float(weighed[each.option] - weighed[is_given[places]].min())
    return regret > LEAST_REGRET * abs(sum(each.cost for each in moving))


def _dealt_anew(moving: Sequence[_Taken], others: Sequence[_Taken], promises: Promises, board: Board) -> set[Shape] | None:
    """Deal some classes out anew, on a new board where all else is as it was. None where that is better; else the classes for
    which the new deal left no room. Nodes are packed in another order than before: where the others find no room, nothing is
    dealt."""
    for each in sorted(others, key=lambda each: _hardest_first(each.choices.shape)):
        if not board.repeat(each.placements, each.choices, each.option, is_ahead=each.is_ahead):
            return set()
    board.pools.keep(_without(moving, promises, board))
    hands = _hands(moving, board)
    first = len(board.placements)
    _deal(hands, board)
    stuck = {hand.choices.shape for hand in hands if hand.count}
    before = sum(each.cost for each in moving)
    saved = before - sum(map(_cost, board.placements[first:]))
    return None if not stuck and saved >= LEAST_GAIN * abs(before) else stuck


def _without(moving: Sequence[_Taken], promises: Promises, board: Board) -> Promises:
    """What is kept once these are taken back: what they would have held for longer may be held by others."""
    spare = promises.spare.copy()
    for each in moving:
        if each.choices.busy_hours[each.option] > promises.hours[each.place]:
            whole = each.choices.options.tasks[each.option] * (each.choices.shape.tasks * each.count)
            spare[each.place] += board.pools.vector(whole)
    return Promises(promises.hours, spare)


def _cost(placement: Placement) -> float:
    """Of all its jobs, weighed: the first pays for what is brought, the others share it."""
    cost, objective = placement.decision.cost, placement.shape.objective
    return placement.count * cost.weighed(objective) - (placement.count - 1) * objective.money * cost.egress_money


def _hands(moving: Sequence[_Taken], board: Board) -> list[_Hand]:
    counts: dict[Shape, int] = defaultdict(int)
    before: dict[Shape, set[int]] = defaultdict(set)
    latest = {each.choices.shape: each.choices.left_hours for each in moving}
    for each in moving:
        counts[each.choices.shape] += each.count
        before[each.choices.shape].add(each.option)
    hands = []
    for shape, count in counts.items():
        choices = board.choices(shape, 0.0)
        hand = _Hand(choices, count, np.zeros(0, dtype=np.intp), latest[shape])
        best = _open(hand, board)
        is_known = np.isin(best, list(before[shape]))
        hand.options = best[is_known | (np.arange(len(best)) < MOST_OPTIONS)]
        hands.append(hand)
    return hands


def _open(hand: _Hand, board: Board) -> Places:
    """The options with room, cheapest first."""
    free = hand.in_time(np.flatnonzero(board.room(hand.choices) > 0))
    found: Places = free[np.argsort(hand.choices.weighed[free], kind="stable")]
    return found


def _solve(hands: Sequence[_Hand], board: Board) -> list[Floats] | None:
    """How many jobs of each hand go to each of its options: parts of jobs, too. None where there is no deal within the budget.

    Minimise the sum of weighed costs, such that each hand is dealt out whole, each pool gives no more than is free, and what
    holds longer than a promise allows no more than is spare.
    """
    pools = board.pools
    columns = [(hand.choices, hand.options) for hand in hands]
    owner = np.repeat(np.arange(len(hands)), [len(hand.options) for hand in hands])
    places = np.concatenate([choices.options.places[options] for choices, options in columns])
    needs = pools.needs(np.concatenate([choices.options.rows[options] for choices, options in columns]))
    busy_hours = np.concatenate([choices.busy_hours[options] for choices, options in columns])
    promises, room = pools.promises, pools.totals()
    rows = Rows(len(owner))
    counts = np.array([float(hand.count) for hand in hands])
    rows.add(owner, np.ones((len(owner), 1)), counts[:, None], counts[:, None])
    rows.add(places, needs, np.full_like(room, -np.inf), room)
    is_long = busy_hours > promises.hours[places]
    spare = np.where(np.isfinite(promises.hours)[:, None], promises.spare, np.inf)
    rows.add(places, needs * is_long[:, None], np.full_like(room, -np.inf), spare)
    cost = np.concatenate([hand.choices.weighed_among(hand.count)[hand.options] for hand in hands])
    most = np.concatenate([board.room(choices)[options] for choices, options in columns])
    solution = rows.minimise(cost, most)
    return None if solution is None else np.split(solution, np.cumsum([len(hand.options) for hand in hands])[:-1])


class Rows:
    """Rows of a linear programme, in blocks."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._blocks: list[tuple[Places, Places, Floats]] = []
        self._lower: list[Floats] = []
        self._upper: list[Floats] = []

    def add(self, group: Places, amounts: Floats, lower: Floats, upper: Floats) -> None:
        """A row for each group and resource: the sum of `amounts` (by column and resource) over the columns of the group lies
        between `lower` and `upper` (by group and resource)."""
        column, resource = np.nonzero(amounts)
        first = sum(len(each) for each in self._lower)
        self._blocks.append((column, first + group[column] * amounts.shape[1] + resource, amounts[column, resource]))
        self._lower.append(lower.ravel())
        self._upper.append(upper.ravel())

    def minimise(self, cost: Floats, most: Floats) -> Floats | None:
        """The best amounts of all columns, between 0 and `most`; None where there are none within the budget."""
        column = np.concatenate([block[0] for block in self._blocks])
        order = np.argsort(column, kind="stable")
        problem = highspy.HighsLp()
        problem.num_col_, problem.num_row_ = self._columns, sum(len(each) for each in self._lower)
        problem.col_cost_, problem.col_lower_, problem.col_upper_ = cost, np.zeros(self._columns), most
        problem.row_lower_, problem.row_upper_ = np.concatenate(self._lower), np.concatenate(self._upper)
        problem.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        problem.a_matrix_.start_ = np.concatenate([[0], np.cumsum(np.bincount(column, minlength=self._columns))])
        problem.a_matrix_.index_ = np.concatenate([block[1] for block in self._blocks])[order]
        problem.a_matrix_.value_ = np.concatenate([block[2] for block in self._blocks])[order]
        solver = Quiet()
        solver.setOptionValue("threads", 1)
        solver.setOptionValue("simplex_iteration_limit", MOST_ITERATIONS)
        solver.passModel(problem)
        solver.run()
        is_best = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return np.array(solver.getSolution().col_value) if is_best else None


class Quiet(highspy.Highs):
    """A solver without a word: the usual one greets on the standard output as soon as it is made, before it takes options."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def enableCallbacks(self) -> None:
        """As HiGHS's."""
        self.silent()
        super().enableCallbacks()  # type: ignore[no-untyped-call]


def _deal(hands: Sequence[_Hand], board: Board) -> None:
    """Place whole jobs as the solution says, as long as the links still cost what it took them to; then solve again for the
    others; at last they go where it is cheapest, as long as there is room."""
    for _ in range(ROUNDS):
        left = sorted((hand for hand in hands if hand.count), key=lambda hand: _hardest_first(hand.choices.shape))
        for hand in left:
            hand.choices = board.renewed(hand.choices)
            hand.options = hand.in_time(hand.options[np.isfinite(hand.choices.weighed[hand.options])])
        amounts = _solve(left, board) if left else None
        if amounts is None or not _follow(left, amounts, board):
            break
    for hand in sorted(hands, key=lambda hand: _hardest_first(hand.choices.shape)):
        while hand.count:
            hand.choices = board.renewed(hand.choices)
            found = _open(hand, board)
            if not found.size:
                break
            _take(hand, int(found[0]), hand.count, board)


def _follow(hands: Sequence[_Hand], amounts: Sequence[Floats], board: Board) -> bool:
    """Whether anything was placed."""
    before = len(board.placements)
    for hand, amount in zip(hands, amounts, strict=True):
        as_solved = hand.choices.weighed
        for option, wanted in zip(hand.options.tolist(), np.floor(amount + 1e-6).astype(int).tolist(), strict=True):
            if wanted:
                hand.choices = board.renewed(hand.choices)
                if hand.choices.weighed[option] <= as_solved[option] + TOLERANCE * abs(as_solved[option]):
                    _take(hand, option, wanted, board)
    return len(board.placements) > before


def _take(hand: _Hand, option: int, most: int, board: Board) -> None:
    """Up to so many of a hand's jobs, as there is room; none where they would now be late."""
    if hand.choices.busy_hours[option] > hand.latest_hours:
        return
    count = board.room_at(hand.choices, option, min(most, hand.count))
    if count:
        board.take(hand.choices, option, count)
        hand.count -= count


def _hardest_first(shape: Shape) -> tuple[float, float, float]:
    """Those that find room least easily."""
    each = shape.resources
    return (-each.gpus.count * shape.tasks, -each.cpus * shape.tasks, -each.memory_gib * shape.tasks)
