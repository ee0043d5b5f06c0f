"""Baselines at their best: each is tried with every setting of its grid on a short window of another seed, and keeps the one that
weighs least by the jobs' own objectives. The planner is not among them: it has nothing to tune."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from broker.simulator.figures import Figures
from broker.simulator.policies import grid_of
from broker.simulator.sweep import Run, Setting, measured, spread

WINDOW = 3_000
"""Jobs of the window."""
SEED = 1_000_003
"""Its seed, which nobody takes for what is measured afterwards."""

Parameters = Mapping[str, float]


def trials(setting: Setting, policies: Iterable[str]) -> list[Run]:
    """What is to be tried of each policy, in the setting that it is tuned for. One that has a single setting needs no trial."""
    window = replace(setting, jobs=min(setting.jobs, WINDOW))
    grids = {policy: grid_of(policy) for policy in policies}
    return [Run(window, SEED, policy, parameters) for policy, grid in grids.items() if len(grid) > 1 for parameters in grid]


def best(tried: Sequence[tuple[Run, Figures]]) -> dict[str, Parameters]:
    """Each policy's parameters with the least mean weighed cost, among those that finished the most jobs; the first of equals."""
    chosen: dict[str, tuple[tuple[float, float], Parameters]] = {}
    for run, figures in tried:
        rank = (figures.unfinished, figures.mean_weighed)
        if run.policy not in chosen or rank < chosen[run.policy][0]:
            chosen[run.policy] = (rank, run.parameters)
    return {policy: parameters for policy, (_, parameters) in chosen.items()}


def tuned(setting: Setting, policies: Iterable[str], processes: int = 1, on_ray: bool = False) -> dict[str, Parameters]:
    """The parameters of all policies that have any, after their trials. Raises what `compose` raises."""
    runs = trials(setting, policies)
    return best(list(zip(runs, spread(measured, runs, processes, on_ray), strict=True)))
