"""Live through many seeds, or through one again.

    python -m tests.faults.run --seeds 0:2000 --jobs 2
    python -m tests.faults.run --seed 17 --trace

Prints what went against a promise, by seed, with what went wrong in that world; then which awaits blows fell on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.faults.mutants import MUTANTS
from tests.faults.places import places
from tests.faults.world import Outcome, Setup, live_through

CHUNK = 20


@dataclass
class Sum:
    """Many seeds together."""

    seeds: int = 0
    broken: list[Outcome] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    waited: set[str] = field(default_factory=set)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    awaits: int = 0
    virtual_s: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.seeds += 1
        self.awaits += outcome.awaits
        self.virtual_s += outcome.seconds
        self.hits.update(outcome.hits)
        self.waited |= outcome.waited
        for name in ("phases", "endings", "faults", "blows"):
            self.counts.setdefault(name, Counter()).update(getattr(outcome, name))
        if outcome.broken:
            self.broken.append(outcome)


def main() -> int:
    """1 when a promise was broken."""
    arguments = _arguments()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"  # sets of strings are walked alike only so
        os.execv(sys.executable, [sys.executable, "-m", "tests.faults.run", *sys.argv[1:]])
    if arguments.seed is not None:
        outcome = live_through(arguments.seed, arguments.trace, _setup(arguments.mutant))
        print("\n".join(outcome.trace))
        _show(outcome)
        return 1 if outcome.broken else 0
    first, _, last = arguments.seeds.partition(":")
    began, every = time.monotonic(), places()
    total = Sum()
    for outcome in through(range(int(first), int(last)), arguments.jobs, arguments.mutant):
        total.add(outcome)
        if outcome.broken:
            _show(outcome)
            if arguments.first:
                break
    _summary(total, time.monotonic() - began, every, arguments.awaits)
    return 1 if total.broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:100", help="from:to, the last left out")
    parser.add_argument("--seed", type=int, help="one seed only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print who did what when")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with this fault built into the broker")
    parser.add_argument("--first", action="store_true", help="stop at the first seed that breaks a promise")
    parser.add_argument("--awaits", action="store_true", help="list every await that was hit, and how often")
    return parser.parse_args()


def through(seeds: range, jobs: int, mutant: str | None = None) -> Iterator[Outcome]:
    """Outcomes in the order of the seeds."""
    if jobs == 1:
        setup = _setup(mutant)
        for seed in seeds:
            yield live_through(seed, setup=setup)
        return
    chunks = [seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK)]
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    try:
        for outcomes in pool.map(_chunk, chunks, [mutant] * len(chunks)):
            yield from outcomes
    finally:
        pool.shutdown(cancel_futures=True)


def _chunk(seeds: Iterable[int], mutant: str | None) -> list[Outcome]:
    setup = _setup(mutant)
    return [live_through(seed, setup=setup) for seed in seeds]


def _setup(mutant: str | None) -> Setup:
    return MUTANTS[mutant].setup() if mutant else Setup()


def _show(outcome: Outcome) -> None:
    print(f"seed {outcome.seed}: {len(outcome.broken)} promises broken, {outcome.seconds:.0f} s, jobs {dict(outcome.phases)}")
    print("\n".join(f"    {line}" for line in (*outcome.schedule, *(f"BROKEN {line}" for line in outcome.broken))))
    if outcome.broken:
        print(f"    again: python -m tests.faults.run --seed {outcome.seed} --trace")


def _summary(total: Sum, took_s: float, every: list[str], with_awaits: bool) -> None:
    each_ms = took_s * 1000 / max(total.seeds, 1)
    print(f"{total.seeds} seeds in {took_s:.1f} s ({each_ms:.0f} ms each), {len(total.broken)} broken")
    print(f"{total.awaits} awaits that waited, {total.virtual_s / 3600:.1f} hours lived")
    for name, counts in total.counts.items():
        print(f"{name}: {', '.join(f'{key} {count}' for key, count in counts.most_common())}")
    waited = [place for place in every if any(each.startswith(place) for each in total.waited | total.hits.keys())]
    missed = [place.strip() for place in waited if not any(hit.startswith(place) for hit in total.hits)]
    print(f"awaits in the source: {len(every)}, of which waited {len(waited)}, of which hit {len(waited) - len(missed)}")
    print(f"waited and never hit: {', '.join(missed) or 'none'}")
    if with_awaits:
        print("\n".join(f"{count:6} {place}" for place, count in sorted(total.hits.items())))


if __name__ == "__main__":
    raise SystemExit(main())
