"""What a plan in parts loses against the plan of the whole, and what time it saves: `python -m tests.bench.partitions`.

`loss` (one moment of `bound.py`, over 20 and over 63 sites) and `time` (a million jobs over a thousand sites; with `--ray` also
on Ray of this machine) do one of the two. Prints figures; asserts nothing.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import time
from collections.abc import Sequence
from statistics import fmean

from broker.config import Planning
from broker.placement.assign import plan
from broker.placement.grouping import grouped
from broker.placement.memory import Memory
from broker.placement.merging import plan_in_parts
from broker.placement.view import Plan, PlanInput
from broker.plan_crews import HERE, DividingDesk, opened_desk
from broker.plan_desk import Desk, Sender
from tests.bench.bench_plan import a_case
from tests.bench.bound import LOADS, a_moment, bound_of
from tests.bench.memory import peak_mib
from tests.broker.placement.drawn import cost_of

PARTS = (2, 4, 8)
SIZES = ((20, 60), (63, 500))
"""Sites and classes."""
SEEDS = range(4)
PLANS = 3
"""So many, one after the other, of the same world: the first pays for processes that begin."""


def loss() -> None:
    """For each size, kind and load: jobs placed, and how far what they cost is above the least that they can cost."""
    for sites, classes in SIZES:
        for reading in (0.0, 0.5):
            for load in LOADS:
                worlds = [a_moment(load, seed, reading, sites, classes) for seed in SEEDS]
                _loss(worlds, f"{sites} sites, {classes} classes, {reading:.0%} with data, load {load:.0%}")


def _loss(worlds: Sequence[PlanInput], words: str) -> None:
    whole = [plan(world) for world in worlds]
    print(f"{words}: whole {_above(worlds, whole)}", end="", flush=True)
    for count in PARTS:
        made = [plan_in_parts(world, grouped(world, count), _one_by_one) for world in worlds]
        jobs = fmean(_jobs(each) / _jobs(all_) - 1 for each, all_ in zip(made, whole, strict=True))
        print(f"; {count} parts {_above(worlds, made)}, {jobs:+.1%} jobs", end="", flush=True)
    print()


def _above(worlds: Sequence[PlanInput], made: Sequence[Plan]) -> str:
    return f"{fmean(cost_of(each) / bound_of(world, each) - 1 for world, each in zip(worlds, made, strict=True)):.1%}"


def _one_by_one(parts: Sequence[PlanInput]) -> list[Plan]:
    return [plan(part) for part in parts]


def _jobs(made: Plan) -> int:
    return sum(placement.count for placement in made.placements)


def times(on_ray: bool) -> None:
    """CPU by who spends it; then real time, from the packed world to the plan, on the cores that this machine has."""
    raw = pickle.dumps(a_case(1000, 100, True, False, jobs=1_000_000), pickle.HIGHEST_PROTOCOL)
    for count in PARTS:
        _cpu(raw, count)
    _time(Desk(), raw, "the whole in one process")
    for count in PARTS:
        _time(opened_desk(Planning(partitions=count)), raw, f"{count} parts in processes")
    for count in PARTS if on_ray else ():
        _time(opened_desk(Planning(partitions=count, ray=HERE)), raw, f"{count} parts on Ray")


def _time(desk: Desk | DividingDesk, raw: bytes, words: str) -> None:
    sender, given = Sender(), pickle.loads(raw)
    seconds = []
    for _ in range(PLANS):
        parcel = sender.pack(given)
        began = time.perf_counter()
        made = desk.plan(parcel)
        seconds.append(time.perf_counter() - began)
    told = ", ".join(f"{each:.2f}" for each in seconds)
    parts = max((peak_mib(child.pid) for child in multiprocessing.active_children()), default=0.0)
    desk.close()
    peaks = f"peak {peak_mib():.0f} MiB here" + (f", {parts:.0f} MiB in a part" if parts else "")
    print(f"{words}: {told} s, {_jobs(made)} jobs placed, {peaks}", flush=True)


def _cpu(raw: bytes, count: int) -> None:
    """What dividing and merging takes, and the parts, each with its memory, one after the other."""
    given, spent = pickle.loads(raw), list[float]()
    memory, memories = Memory(), [Memory() for _ in range(count)]
    began = time.process_time()
    groups = grouped(given, count)
    grouping = time.process_time() - began

    def plans(parts: Sequence[PlanInput]) -> list[Plan]:
        made = []
        for part, own in zip(parts, memories, strict=True):
            began = time.process_time()
            made.append(plan(part, memory=own))
            spent.append(time.process_time() - began)
        return made

    for words in ("first", "next"):
        spent.clear()
        began = time.process_time()
        plan_in_parts(given, groups, plans, memory)
        own = time.process_time() - began - sum(spent)
        told = f"{own:.2f} s to divide and merge, {sum(spent):.2f} s the parts, {max(spent):.2f} s the longest"
        print(f"CPU of {count} parts, {words} plan: {told}; grouping {grouping:.2f} s, once", flush=True)


def main() -> None:
    """Both, or what is asked for."""
    asked = sys.argv[1:]
    if "time" not in asked:
        loss()
    if "loss" not in asked:
        times("--ray" in asked)


if __name__ == "__main__":
    main()
