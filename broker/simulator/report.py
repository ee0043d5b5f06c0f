"""Results for people and programs: rows of a table, and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from broker.simulator.bound import Bound
from broker.simulator.figures import Figures, figures_of, mean_of, plain, spread_of
from broker.simulator.sweep import Result

COLUMNS: Mapping[str, Callable[[Figures], float]] = {
    "mean h": lambda each: each.mean_completion_h,
    "p95 h": lambda each: each.p95_completion_h,
    "wait h": lambda each: each.mean_wait_h,
    "weighed": lambda each: each.mean_weighed,
    "money": lambda each: each.money,
    "egress": lambda each: each.egress_money,
    "WAN GiB": lambda each: each.wan_gib,
    "kg CO2": lambda each: each.carbon_kg,
    "fairness": lambda each: each.fairness,
    "deadlines": lambda each: each.deadlines_met,
    "cpus": lambda each: each.cpus_busy,
    "unfinished": lambda each: each.unfinished,
    "jobs/min": lambda each: each.jobs_per_minute,
}
"""Of the table, beside the policy."""
MOST_IS_BEST = ("fairness", "deadlines", "cpus", "jobs/min")
HEADS = ("policy", *COLUMNS, "above bound")
BOUND = "lower bound"

Bounds = Mapping[int, Bound]
"""By seed."""


def by_policy(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results by policy with its parameters, in the order of the first of each."""
    found: dict[str, list[Result]] = {}
    for result in results:
        settings = ", ".join(f"{name} {value:g}" for name, value in result.run.parameters.items())
        found.setdefault(f"{result.run.policy} ({settings})" if settings else result.run.policy, []).append(result)
    return found


def rows(results: Sequence[Result], bounds: Bounds) -> list[tuple[object, ...]]:
    """A row for each policy: its name, `COLUMNS` in the mean over seeds, and how far it is above the bound; then the bound's."""
    means = {name: mean_of([figures_of(each.outcome) for each in some]) for name, some in by_policy(results).items()}
    bound = fmean(each.mean_weighed for each in bounds.values())
    found = [(name, *(column(mean) for column in COLUMNS.values()), _above(mean, bound)) for name, mean in means.items()]
    return [*found, (BOUND, *(bound if name == "weighed" else "-" for name in COLUMNS), "0.0%")]


def _above(figures: Figures, bound: float) -> str:
    """Nothing is said of a policy that left jobs unfinished: the bound is none for it."""
    return "-" if figures.unfinished or not bound else f"{figures.mean_weighed / bound - 1:.1%}"


def as_json(results: Sequence[Result], bounds: Bounds) -> dict[str, Any]:
    """`notes` of each scenario; for each policy the `mean` of all figures, their `spread` (least and most over seeds), and each
    seed's under `seeds`. Keys of figures are the fields of `Figures`, and `money`. `bounds` has what no policy's `mean_weighed`
    can be below, by seed."""
    policies = {}
    for name, some in by_policy(results).items():
        figures = [figures_of(each.outcome) for each in some]
        seeds = {str(each.run.seed): plain(one) for each, one in zip(some, figures, strict=True)}
        policies[name] = {"mean": plain(mean_of(figures)), "spread": spread_of(figures), "seeds": seeds}
    least = {str(seed): each.mean_weighed for seed, each in bounds.items()}
    return {"notes": list(dict.fromkeys(result.notes for result in results)), "policies": policies, "bounds": least}


def cell(value: object) -> str:
    """A number in a few digits; words as they are."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isinstance(value, int | float) and abs(value) >= 100 else f"{value:.3g}"
