"""Who may decide in a simulation: the planner itself, and what others do.

All are given the same: health, rooms, what is held and queued, prices, links, and run times as users expect them. All keep the
hard rules, take jobs in the same order (priority, deadline, age) and place what they prefer among the sites with room. Where none
has room, up to `queue_ahead` of a pool's size may wait in its site's own queue, by the same preference; the rest waits with the
broker. Their transfers are not booked: the simulator brings missing inputs from the quickest replica.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from broker.jobs.model import Decision, Shape
from broker.placement.assign import plan
from broker.placement.board import Board, Choices
from broker.placement.memory import Memory
from broker.placement.order import ByPriorityAndAge
from broker.placement.pools import Floats
from broker.placement.routes import HOURS_AT_ONE_GBPS
from broker.placement.view import Placement, Plan, PlanInput, QueuedClass
from broker.simulator.policy import Policy
from topology.link import GIB
from topology.room import Room

QUEUES = (0.0, 0.5, 2.0)
"""What `queue_ahead` is tuned over, for every baseline."""
GUESS_HOURS = 1.0
GUESS_GBPS = 10.0
"""What SkyPilot's optimiser takes for a task that does not say better: an hour, and data at 10 Gbps."""


class Ours:
    """The planner, with its memory between turns."""

    name = "ours"

    def __init__(self) -> None:
        self._memory = Memory()

    def plan(self, given: PlanInput) -> Plan:
        """As `Policy.plan`."""
        return plan(given, memory=self._memory)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a preference is asked of: one class on a board, by option. `load` is what is held or queued of each option's pool, as
    a part of it; `local_gib` what its site has of the inputs, `remote_gib` what it lacks."""

    board: Board
    choices: Choices
    load: Floats
    local_gib: Floats
    remote_gib: Floats
    waited_s: float

    @property
    def staging_hours(self) -> Floats:
        """As the planner sees it, over what is free on the links now; a day where nothing is."""
        stagings, sites = self.choices.stagings, self.choices.options.sites
        if stagings is None:
            return np.zeros(len(sites))
        return np.where(stagings.is_possible[sites], stagings.hours[sites], 24.0)

    @property
    def egress_money(self) -> Floats:
        """Of one job that pays for all its missing inputs."""
        stagings, sites = self.choices.stagings, self.choices.options.sites
        return np.zeros(len(sites)) if stagings is None else stagings.money[sites]


Preference = Callable[[Scene], Floats]
"""A number for each option, the smallest for the best; infinity for one that is not taken now."""


def least_loaded(scene: Scene) -> Floats:
    """YARN Federation's load-based router: the sub-cluster with the most headroom (`LoadBasedRouterPolicy`). Simplified: headroom
    is of the largest resource in use, as a part, and what waits counts as used."""
    return scene.load


def race(scene: Scene) -> Floats:
    """MultiKueue's default: a job is offered to all clusters, the first that admits it keeps it. Simplified: the one that would
    start it first by the planner's own prediction, which flatters it; offers cost nothing, and only the winner is sent data."""
    options = scene.choices.options
    wait = scene.board.pools.wait_hours(options.rows, options.places, options.run_hours, 0.0)
    room = scene.board.pools.jobs(options.rows, options.places, options.run_hours)
    started: Floats = np.where(room > 0, 0.0, wait) + scene.staging_hours
    return started


def panda(scene: Scene) -> Floats:
    """PanDA's brokerage: weight = running / (1 + queued), more with the inputs there and with a wide link to them. Simplified:
    parts of pools stand for counts of jobs, and the link's weight is 1 / (1 + hours to bring what is missing)."""
    whole = scene.local_gib + scene.remote_gib
    local = np.where(whole > 0, scene.local_gib / np.maximum(whole, 1e-9), 1.0)
    queued = np.maximum(scene.load - 1.0, 0.0)
    running = np.minimum(scene.load, 1.0)
    weight: Floats = (1.0 - 0.5 * running) / (1.0 + queued) * (1.0 + local) / (1.0 + scene.staging_hours)
    return -weight


def iridium(scene: Scene) -> Floats:
    """Iridium (Pu et al., SIGCOMM 2015) places tasks so that the slowest transfer is as quick as it can be. Simplified: a job is
    one piece, so that this is the site with the quickest transfer, and of those the least loaded."""
    return scene.staging_hours + 1e-3 * scene.load


class Baseline:
    """Places by one preference; see the module."""

    def __init__(self, name: str, prefer: Preference, queue_ahead: float = 0.0) -> None:
        self.name = name
        self._prefer, self._queue_ahead = prefer, queue_ahead
        self._memory = Memory()
        self._rooms: list[Mapping[str, Room]] = []
        self._wholes = np.zeros((0, 0))

    def plan(self, given: PlanInput) -> Plan:
        """As `Policy.plan`."""
        board = Board(given, self._memory)
        rooms = [view.rooms for view in given.sites]
        if rooms != self._rooms:
            self._rooms, self._wholes = rooms, board.pools.wholes()
        return _Turn(board, self._wholes, self._prefer, self._queue_ahead).run()


class _Turn:
    """One plan. `wholes` is all that may be used, by pool and resource."""

    def __init__(self, board: Board, wholes: Floats, prefer: Preference, queue_ahead: float) -> None:
        self._given, self._board, self._prefer, self._queue_ahead = board.given, board, prefer, queue_ahead
        self._whole = np.maximum(wholes, 1e-9)
        self._used = wholes - board.pools.totals() + _waiting(board, wholes)
        self._scenes: dict[int, Scene] = {}
        self._placements: list[Placement] = []

    def run(self) -> Plan:
        order = ByPriorityAndAge(self._given.classes, self._given.now)
        is_cut = False
        while turn := order.turn():
            queued, most = turn
            count = self._place(queued, most)
            if not count:
                order.drop()
                continue
            order.took(count)
            is_cut |= len(queued.created) < queued.count
        return Plan(tuple(self._placements), is_cut=is_cut)

    def _place(self, queued: QueuedClass, most: int) -> int:
        scene = self._scene(queued)
        options, pools, tasks = scene.choices.options, self._board.pools, queued.shape.tasks
        if not len(options):
            return 0
        scores = self._prefer(scene)
        room = pools.jobs(options.rows, options.places, np.zeros(len(options)))
        option = _best(scores, room > 0)
        needs = pools.needs(options.rows)
        if option >= 0:
            count = int(min(most, room[option]))
            pools.take(options.tasks[option], tasks, count, int(options.places[option]), 0.0)
        else:
            ahead = self._queue_ahead * self._whole[options.places] + self._whole[options.places] - self._used[options.places]
            jobs = np.where(needs > 0, ahead / np.where(needs > 0, needs, 1.0), math.inf).min(axis=1)
            option = _best(scores, (jobs >= 1) & (self._queue_ahead > 0))
            if option < 0:
                return 0
            count = int(min(most, jobs[option]))
        self._used[options.places[option]] += needs[option] * count
        self._record(queued.shape, scene, option, count)
        return count

    def _record(self, shape: Shape, scene: Scene, option: int, count: int) -> None:
        options = scene.choices.options
        site, pool = self._board.site(scene.choices, option), self._board.pools.pools[options.places[option]].name
        decision = Decision(options.cost(option, scene.choices.stagings))
        self._placements.append(Placement(shape, count, site, pool, options.gpu_types[option], decision))

    def _scene(self, queued: QueuedClass) -> Scene:
        shape, board = queued.shape, self._board
        found = self._scenes.get(id(queued))
        waited_s = self._given.now - queued.created[0]
        if found is None:
            choices = board.choices(shape, waited_s / 3600)
            local, remote = _held_inputs(shape, choices, self._given, board)
            found = self._scenes[id(queued)] = Scene(board, choices, np.zeros(0), local, remote, waited_s)
        places = found.choices.options.places
        load = (self._used[places] / self._whole[places]).max(axis=1, initial=0.0)
        return Scene(board, found.choices, load, found.local_gib, found.remote_gib, waited_s)


def _best(scores: Floats, is_open: np.ndarray) -> int:
    """The first of the smallest scores; -1 where none is open and finite."""
    open_scores = np.where(is_open, scores, math.inf)
    best = int(open_scores.argmin())
    return best if math.isfinite(open_scores[best]) else -1


def _waiting(board: Board, wholes: Floats) -> Floats:
    """What is held beyond a pool's room, and so waits there: `SiteView.queued`, by pool and resource."""
    pools = board.pools
    waiting = np.zeros_like(wholes)
    if not any(view.queued for view in board.given.sites):
        return waiting
    pairs = zip(pools.sites, pools.pools, strict=True)
    places = {(board.judge.views[site].site.name, pool.name): place for place, (site, pool) in enumerate(pairs)}
    for view in board.given.sites:
        for held in view.queued:
            place = places[view.site.name, held.pool]
            waiting[place] += pools.vector(held.task * (held.tasks * len(held.ends)))
    return waiting


def _held_inputs(shape: Shape, choices: Choices, given: PlanInput, board: Board) -> tuple[Floats, Floats]:
    """GiB of the inputs that each option's site has, and lacks."""
    local = np.zeros(len(board.judge.views))
    names = {view.site.name: number for number, view in enumerate(board.judge.views)}
    whole = 0.0
    for dataset in shape.inputs:
        known = given.topology.datasets.get(dataset)
        gib = (known.size_bytes if known and known.size_bytes is not None else GIB) / GIB
        whole += gib
        for site in given.topology.replica_sites(dataset):
            local[names[site]] += gib
    return local[choices.options.sites], whole - local[choices.options.sites]


def random_choice(seed: int) -> Preference:
    """Any site that takes the class, seeded."""
    chance = np.random.default_rng(seed)
    return lambda scene: chance.random(len(scene.choices.options))


def locality(delay_s: float) -> Preference:
    """Where most of the input is, then the least loaded; for `delay_s` only there (delay scheduling: Zaharia et al., EuroSys
    2010)."""

    def prefer(scene: Scene) -> Floats:
        score: Floats = scene.remote_gib + 1e-3 * scene.load
        if scene.waited_s < delay_s and len(score):
            score = np.where(scene.remote_gib <= scene.remote_gib.min() + 1e-9, score, math.inf)
        return score

    return prefer


def price_and_egress(hours_price: float) -> Preference:
    """SkyPilot's optimiser: the money of an hour's compute and of egress, and with `hours_price` what an hour until the end costs
    beside it: run times are guessed as an hour for a pool of speed 1, and data comes at 10 Gbps."""

    def prefer(scene: Scene) -> Floats:
        options = scene.choices.options
        money = options.compute_money / np.maximum(options.run_hours, 1e-9) * GUESS_HOURS + scene.egress_money
        hours = GUESS_HOURS + scene.remote_gib * HOURS_AT_ONE_GBPS / GUESS_GBPS
        score: Floats = money + hours_price * hours
        return score

    return prefer


@dataclass(frozen=True, slots=True)
class Kind:
    """A baseline that can be named: how it is made, and the grid that its parameters are tuned over."""

    make: Callable[..., Preference]
    grid: Mapping[str, Sequence[float]]


KINDS: Mapping[str, Kind] = {
    "random": Kind(lambda: random_choice(1), {}),
    "least-loaded": Kind(lambda: least_loaded, {}),
    "locality": Kind(locality, {"delay_s": (0.0, 600.0, 3600.0)}),
    "race": Kind(lambda: race, {}),
    "price-egress": Kind(price_and_egress, {"hours_price": (0.0, 0.1, 1.0)}),
    "panda": Kind(lambda: panda, {}),
    "iridium": Kind(lambda: iridium, {}),
}
"""All baselines; `ours` is not among them."""


def named(name: str, queue_ahead: float = 0.0, **parameters: float) -> Policy:
    """A policy by its name. Raises KeyError for one that is not known, TypeError for a parameter that it does not have."""
    if name == Ours.name:
        return Ours()
    kind = KINDS[name]
    chosen = {each: values[0] for each, values in kind.grid.items()} | parameters
    return Baseline(name, kind.make(**chosen), queue_ahead)


def grid_of(name: str) -> list[dict[str, float]]:
    """All settings that a baseline is tuned over; one, without any, for `ours`."""
    if name == Ours.name:
        return [{}]
    axes = {"queue_ahead": QUEUES, **KINDS[name].grid}
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
