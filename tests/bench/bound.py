"""How far plans are from what a linear programme says is the least: `python -m tests.bench.bound`. Prints; asserts nothing.

One queue at one moment over 20 sites: the same jobs as the plan places, dealt out in parts of jobs, with room by sums and each
class with all links to itself, cannot cost less than the bound. Loads are parts of all cpus.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from statistics import fmean

import numpy as np

from broker.jobs.model import Shape, Weights
from broker.placement.assign import plan
from broker.placement.board import Board
from broker.placement.memory import Memory
from broker.placement.reassign import Rows
from broker.placement.view import Plan, PlanInput
from tests.broker.placement.drawn import cost_of, greedy
from tests.broker.placement.worlds import a_link, a_shape, a_view, a_world, waiting
from topology.site import Price

SITES, CLASSES = 20, 60
LOADS = (0.5, 0.8, 0.95, 1.2)
SEEDS = range(10)


def a_moment(load: float, seed: int, reading: float, sites: int = SITES, classes: int = CLASSES) -> PlanInput:
    """Sites of three sizes and four speeds, a third with GPUs; classes of many sizes, some gangs, three objectives; `reading` is
    the part of classes that read a dataset."""
    chance = random.Random(seed)
    views = [
        a_view(
            f"site{number:02}",
            64,
            chance.choice([4, 8, 16]),
            {"a100": 8} if number % 3 == 0 else {},
            speed=chance.choice([0.7, 1, 1.4, 2]),
            price=Price(cpu_hour=chance.uniform(0.01, 0.06), gpu_hour={"a100": chance.uniform(1, 3)}),
        )
        for number in range(sites)
    ]
    names = [view.site.name for view in views]
    links = [a_link(a, b, chance.choice([0.2, 1]), chance.choice([0, 0.02, 0.08])) for a in names for b in names if a != b]
    at = {f"d{number}": " ".join(chance.sample(names, 2)) for number in range(30)}
    shapes = [
        a_shape(
            run_hours=chance.choice([0.5, 1, 2, 4]) + number / 1000,
            tasks=chance.choice([1] * 8 + [4]),
            cpus=chance.choice([1, 2, 4, 8, 16]),
            gpus=chance.choice([0] * 9 + [1]),
            inputs=(f"d{chance.randrange(30)}",) if chance.random() < reading else (),
            objective=chance.choice([Weights(), Weights(1, 0.5, 0), Weights(0.2, 1, 0)]),
        )
        for number in range(classes)
    ]
    counts = [chance.randint(1, 10) for _ in shapes]
    whole = sum(view.rooms["cpu"].total.cpus for view in views)
    asked = sum(count * shape.tasks * shape.resources.cpus for count, shape in zip(counts, shapes, strict=True))
    jobs = [max(round(count * load * whole / asked), 1) for count in counts]
    queue = [waiting(shape, count, chance.randint(0, 100)) for shape, count in zip(shapes, jobs, strict=True)]
    sizes = {name: chance.uniform(10, 400) for name in at}
    return a_world(*views, classes=queue, links=links, at=at, sizes=sizes, most=10**9)


def bound_of(given: PlanInput, made: Plan) -> float:
    """The least that the placed jobs can cost."""
    counts: Counter[Shape] = Counter()
    for placement in made.placements:
        counts[placement.shape] += placement.count
    board = Board(given, Memory())
    classes = [(board.choices(shape, 0.0), count) for shape, count in counts.items()]
    finite = [np.flatnonzero(np.isfinite(choices.weighed)) for choices, _ in classes]
    owner = np.repeat(np.arange(len(classes)), [len(each) for each in finite])
    places = np.concatenate([choices.options.places[each] for (choices, _), each in zip(classes, finite, strict=True)])
    needs = np.concatenate([choices.options.rows[each] for (choices, _), each in zip(classes, finite, strict=True)])
    cost = []
    for (choices, count), each in zip(classes, finite, strict=True):
        cost.append(choices.weighed_among(count)[each])
    room = board.pools.totals()
    wanted = np.array([[float(count)] for _, count in classes])
    rows = Rows(len(owner))
    rows.add(owner, np.ones((len(owner), 1)), wanted, wanted)
    rows.add(places, board.pools.needs(needs), np.full_like(room, -np.inf), room)
    solution = rows.minimise(np.concatenate(cost), np.full(len(owner), np.inf))
    assert solution is not None
    return float(np.concatenate(cost) @ solution)


def main() -> None:
    """For each load the mean over seeds, without and with data."""
    for reading in (0.0, 0.5):
        for load in LOADS:
            plain, dealt, seconds = [], [], []
            for seed in SEEDS:
                given = a_moment(load, seed, reading)
                began = time.process_time()
                made = plan(given)
                seconds.append(time.process_time() - began)
                bound = bound_of(given, made)
                plain.append(cost_of(greedy(given)) / bound - 1)
                dealt.append(cost_of(made) / bound - 1)
            print(
                f"load {load:.0%}, {reading:.0%} of classes with data: greedy {fmean(plain):.1%} above the bound "
                f"({min(plain):.1%} to {max(plain):.1%}), dealt anew {fmean(dealt):.2%} ({min(dealt):.2%} to {max(dealt):.2%}), "
                f"{fmean(seconds) * 1000:.0f} ms a plan"
            )


if __name__ == "__main__":
    main()
