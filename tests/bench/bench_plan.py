"""How long one plan takes: `python -m tests.bench.bench_plan`. Prints figures; asserts nothing."""

from __future__ import annotations

import pickle
import random
import resource
import sys
import time

from broker.jobs.model import Weights
from broker.placement.assign import plan
from broker.placement.memory import Memory
from broker.placement.view import Held, PlanInput, QueuedClass, SiteView
from tests.broker.placement.worlds import NOW, a_link, a_shape, a_view, a_world
from topology.resources import Resources

CLASSES = 500
JOBS = 100_000


def sites(count: int, nodes: int, is_full: bool) -> list[SiteView]:
    """Sites of 64-cpu nodes, a third with GPUs. A full one holds 500 attempts of 1 to 8 cpus that leave a few cpus free."""
    chance = random.Random(1)
    views = []
    for number in range(count):
        gpus = {"a100": 8} if number % 3 == 0 else {}
        ends = [[NOW + chance.uniform(0, 7200) for _ in range(125)] for _ in range(4)]
        held = tuple(Held("cpu", Resources(cpus), 1, tuple(some)) for cpus, some in zip((1, 2, 4, 8), ends, strict=True))
        free = [32 if node < 62 else 0 for node in range(nodes)] if is_full else None
        views.append(a_view(f"site{number:02}", 64, nodes, gpus, free, held if is_full else (), speed=1 + number % 4 / 4))
    return views


def classes(jobs: int, is_interleaved: bool, count: int = CLASSES) -> list[QueuedClass]:
    """Classes of many sizes; a tenth are gangs, a fifth want GPUs, a third read a dataset."""
    chance = random.Random(2)
    made = []
    for number in range(count):
        shape = a_shape(
            run_hours=chance.choice([0.1, 0.5, 1, 4]) + number / 1000,
            tasks=chance.choice([1] * 9 + [8]),
            cpus=chance.choice([1, 2, 4, 8, 16]),
            gpus=chance.choice([0, 0, 0, 0, 1]),
            inputs=(f"d{number % 60}",) if number % 3 == 0 else (),
            priority=chance.choice([50, 50, 50, 80]),
            objective=chance.choice([Weights(), Weights(1, 0.5, 0)]),
        )
        each = jobs // count
        ages = sorted((chance.uniform(0, 1e5) for _ in range(each)), reverse=True) if is_interleaved else [1e5 - number] * each
        made.append(QueuedClass(shape, tuple(NOW - age for age in ages), each))
    return made


def a_case(
    sites_count: int, nodes: int, is_full: bool, is_interleaved: bool, jobs: int = JOBS, classes_count: int = CLASSES
) -> PlanInput:
    """One input; every site is linked to its three neighbours both ways."""
    views = sites(sites_count, nodes, is_full)
    names = [view.site.name for view in views]
    near = [(names[i], names[(i + step) % len(names)]) for i in range(len(names)) for step in (1, 2, 3)]
    links = [a_link(a, b, 1.25) for pair in near for a, b in (pair, pair[::-1])]
    at = {f"d{number}": names[number % len(names)] for number in range(60)}
    queue = classes(jobs, is_interleaved, classes_count)
    return a_world(*views, classes=queue, links=links, at=at, sizes=dict.fromkeys(at, 10.0), most=10**9)


def main() -> None:
    """Every combination that matters, one line each; with `huge`, a million jobs over a thousand sites."""
    if sys.argv[1:] == ["huge"]:
        _time(a_case(1000, 100, True, False, jobs=1_000_000), "1,000 sites, little room, class by class")
        return
    for sites_count in (20, 63):
        for is_full, is_interleaved in ((True, True), (True, False), (False, True), (False, False)):
            words = f"{'little' if is_full else 'much'} room, {'interleaved' if is_interleaved else 'class by class'}"
            _time(a_case(sites_count, 400, is_full, is_interleaved), f"{sites_count} sites, {words}")


def _time(given: PlanInput, words: str) -> None:
    """The first plan of a process, and the next of the same world, which has a memory."""
    raw, memory = pickle.dumps(given, pickle.HIGHEST_PROTOCOL), Memory()
    seconds = []
    for _ in range(2):
        fresh = pickle.loads(raw)
        began = time.process_time()
        made = plan(fresh, memory=memory)
        seconds.append(time.process_time() - began)
    placed = sum(placement.count for placement in made.placements)
    jobs, peak = sum(queued.count for queued in given.classes), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{jobs} jobs of {len(given.classes)} classes over {words}: {seconds[0]:.2f} s of CPU, then {seconds[1]:.2f} s, "
        f"{placed} placed, {len(made.passed)} classes passed over, {len(made.bookings)} bookings, "
        f"input {len(raw) / 1e6:.1f} MB, peak {peak:.0f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    main()
