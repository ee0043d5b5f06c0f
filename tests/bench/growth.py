"""How what a plan takes grows with jobs, classes and sites: `python -m tests.bench.growth FILE.svg` (or `.png`) draws it.

One of the three grows while the others stay; each plan is made in a process of its own. Prints tables, and the exponents of
growth: the slopes of straight lines through the logarithms of the three largest. Asserts nothing.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np

from broker.placement.assign import plan
from broker.placement.memory import Memory
from tests.bench.bench_plan import CLASSES, JOBS, a_case
from tests.bench.memory import peak_mib

SITES, NODES = 63, 400
GROWING = {
    "jobs": (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
    "classes": (10, 30, 100, 300, 1_000, 2_000),
    "sites": (10, 30, 63, 100, 300, 1_000),
}
FITTED = 3
"""Points of a line: among fewer jobs, classes or sites other things count."""
PANELS = ("CPU seconds", "MiB at the most")


@dataclass(frozen=True)
class Taken:
    """What one plan took: CPU seconds of the first and of the next of the same world; the most memory of the process (MiB), and
    the part of it that was there before the first; and how many jobs it placed."""

    first: float
    following: float
    peak: float
    before: float
    placed: int


LINES: Mapping[str, Sequence[tuple[str, Callable[[Taken], float]]]] = {
    PANELS[0]: (("first plan", lambda taken: taken.first), ("next plan", lambda taken: taken.following)),
    PANELS[1]: (("all", lambda taken: taken.peak), ("by the plans", lambda taken: taken.peak - taken.before)),
}


def main() -> None:
    """Measure, print and draw."""
    if len(sys.argv) != 2:
        raise SystemExit("write: python -m tests.bench.growth FILE.svg")
    found = {}
    for what, sizes in GROWING.items():
        print(f"\n{what:>9}    first      next  placed     peak  by the plans", flush=True)
        found[what] = [measured(what, size) for size in sizes]
        exponents = {name: slope(sizes, [of(each) for each in found[what]]) for lines in LINES.values() for name, of in lines}
        print("grows as the power " + ", ".join(f"{exponent:.2f} ({name})" for name, exponent in exponents.items()), flush=True)
    draw(found, sys.argv[1])


def measured(what: str, size: int) -> Taken:
    """One plan, in a process of its own, with a line of the table."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        taken = pool.submit(_taken, **{"jobs": JOBS, "classes": CLASSES, "sites": SITES, what: size}).result()
    own = taken.peak - taken.before
    print(
        f"{size:9,} {taken.first:6.2f} s  {taken.following:6.2f} s  {taken.placed:6,}  {taken.peak:5.0f} MiB  {own:9.0f} MiB",
        flush=True,
    )
    return taken


def _taken(jobs: int, classes: int, sites: int) -> Taken:
    given, memory, seconds = a_case(sites, NODES, True, False, jobs, classes), Memory(), []
    before = peak_mib()
    for _ in range(2):
        began = time.process_time()
        made = plan(given, memory=memory)
        seconds.append(time.process_time() - began)
    return Taken(seconds[0], seconds[1], peak_mib(), before, sum(placement.count for placement in made.placements))


def slope(sizes: Sequence[int], amounts: Sequence[float]) -> float:
    """The exponent of growth, by least squares."""
    last = np.log(np.maximum(amounts[-FITTED:], 1e-3))
    return float(np.polyfit(np.log(sizes[-FITTED:]), last, 1)[0])


def draw(found: Mapping[str, Sequence[Taken]], path: str) -> None:
    """One row of panels for seconds, one for memory; both axes are logarithms."""
    mpl.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, len(found), figsize=(12, 7), sharey="row", layout="constrained")
    for row, title in enumerate(PANELS):
        for panel, (what, taken) in zip(panels[row], found.items(), strict=True):
            _draw_lines(panel, title, what, taken)
        panels[row][0].set_ylabel(title)
    stays = f"{JOBS:,} jobs of {CLASSES} classes over {SITES} sites with little room, but for what grows"
    figure.suptitle(f"One plan on one core: {stays}")
    figure.savefig(path, dpi=120)
    print(f"\ndrawn to {path}")


def _draw_lines(panel: Any, title: str, what: str, taken: Sequence[Taken]) -> None:
    sizes = GROWING[what]
    for name, of in LINES[title]:
        amounts = [max(of(each), 1e-3) for each in taken]
        panel.loglog(sizes, amounts, marker="o", label=f"{name}: power {slope(sizes, amounts):.2f}")
    panel.set_xlabel(what)
    panel.grid(which="both", alpha=0.3)
    panel.legend()


if __name__ == "__main__":
    main()
