"""Results for people and programs: rows of a table, JSON, and a page with plots."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from broker.errors import Invalid
from broker.simulator.bound import Bound
from broker.simulator.figures import Figures, figures_of, mean_of, plain, spread_of
from broker.simulator.outcome import Outcome, Ran, Sample
from broker.simulator.sweep import Result

Draw = Callable[[Any, str, Outcome], None]
"""Draws one policy's outcome, by its name, onto matplotlib's axes."""

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


def as_html(results: Sequence[Result], bounds: Bounds) -> str:
    """A page of its own, with the table and plots of the first seed. Raises Invalid where matplotlib is missing."""
    first = {name: some[0].outcome for name, some in by_policy(results).items()}
    plots = "".join(f"<figure>{svg}</figure>" for svg in _plots(first))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEADS)
    body = "".join("<tr>" + "".join(f"<td>{cell(each)}</td>" for each in row) + "</tr>" for row in rows(results, bounds))
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in dict.fromkeys(result.notes for result in results))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>fed simulate</title><style>"
        "body{font:15px system-ui;margin:2rem;max-width:75rem}table{border-collapse:collapse}td,th{padding:.3rem .7rem;"
        "text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}"
        "figure{display:inline-block;margin:1rem 1rem 0 0}</style>"
        f"<h1>Simulation</h1><ul>{notes}</ul><table><tr>{head}</tr>{body}</table>{plots}</html>"
    )


def _plots(outcomes: Mapping[str, Outcome]) -> list[str]:
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Invalid("--html: plots need the extra `simulate`: pip install 'fedbroker[simulate]'") from error

    def drawn(title: str, x: str, y: str, draw: Draw) -> str:
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for name, outcome in outcomes.items():
            draw(axes, name, outcome)
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
        out = io.StringIO()
        with rc_context({"svg.hashsalt": title}):  # ids in the page are the same each time
            FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
        return out.getvalue()[out.getvalue().index("<svg") :]

    return [drawn(*plot) for plot in PLOTS]


def _cumulated(hours: Callable[[Ran], float | None]) -> Draw:
    """The part of all jobs for which something took no longer than so many hours."""

    def draw(axes: Any, name: str, outcome: Outcome) -> None:
        known = sorted(each for each in map(hours, outcome.jobs) if each is not None)
        axes.plot(known, [(number + 1) / len(outcome.jobs) for number in range(len(known))], label=name)
        axes.set_xscale("symlog", linthresh=0.1)

    return draw


def _over_time(value: Callable[[Sample], float]) -> Draw:
    def draw(axes: Any, name: str, outcome: Outcome) -> None:
        axes.plot([sample.at / 3600 for sample in outcome.samples], [value(sample) for sample in outcome.samples], label=name)

    return draw


def _bar(key: str) -> Draw:
    def draw(axes: Any, name: str, outcome: Outcome) -> None:
        axes.barh(name, plain(figures_of(outcome))[key])
        axes.tick_params(labelsize=7)

    return draw


def _wait_h(job: Ran) -> float | None:
    return None if job.started_at is None else (job.started_at - job.arrived_at) / 3600


def _total_h(job: Ran) -> float | None:
    return None if job.ended_at is None else (job.ended_at - job.arrived_at) / 3600


def _mean(parts: Mapping[str, float]) -> float:
    return sum(parts.values()) / len(parts) if parts else 0.0


PLOTS: Sequence[tuple[str, str, str, Draw]] = (
    ("Wait", "hours", "part of jobs", _cumulated(_wait_h)),
    ("Completion", "hours", "part of jobs", _cumulated(_total_h)),
    ("Cpus in use", "hours", "part", _over_time(lambda sample: _mean(sample.cpus))),
    ("GPUs in use", "hours", "part", _over_time(lambda sample: _mean(sample.gpus))),
    ("Waiting at the broker", "hours", "jobs", _over_time(lambda sample: sample.pending)),
    ("Money", "", "", _bar("money")),
    ("WAN GiB", "", "", _bar("wan_gib")),
    ("Carbon, kg", "", "", _bar("carbon_kg")),
    ("Fairness among tenants", "", "", _bar("fairness")),
)
"""Title, axes, and what each policy draws."""


def cell(value: object) -> str:
    """A number in a few digits; words as they are."""
    if isinstance(value, str):
        return html.escape(value)
    return f"{value:,.0f}" if isinstance(value, int | float) and abs(value) >= 100 else f"{value:.3g}"
