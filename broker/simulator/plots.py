"""Plots of simulations, as SVG: one colour for each policy throughout, whiskers from the least to the most over seeds."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from broker.errors import Invalid
from broker.simulator.figures import Figures
from broker.simulator.outcome import Outcome, Ran, Sample

COLOURS = ("#0b5fa5", "#e08214", "#5aae61", "#9970ab", "#c8473b", "#35b5a9", "#d66ba0", "#8c6d31", "#7f7f7f", "#222222")
"""By the order of policies; then again from the first."""
POINTS = 300
"""Of a distribution's line."""
LOG_FROM_HOURS = 0.1
"""Below, hours are drawn to a plain scale."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One policy: its name, colour, outcomes and figures by seed."""

    name: str
    colour: str
    outcomes: Sequence[Outcome]
    figures: Sequence[Figures]
    bound: float
    """The least mean weighed cost that anybody could reach."""


Draw = Callable[[Any, Sequence[Shown]], None]
"""Draws all policies onto matplotlib's axes."""


def svgs(policies: Sequence[Shown]) -> list[str]:
    """All of `PLOTS` for which there is anything to draw. Raises Invalid where matplotlib is missing."""
    return [_svg(plot, policies) for plot in PLOTS if plot.applies(policies)]


def _svg(plot: Plot, policies: Sequence[Shown]) -> str:
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Invalid("--html: plots need the extra `simulate`: pip install 'fedbroker[simulate]'") from error
    # salted by the title, ids are the same each time
    with rc_context({"svg.hashsalt": plot.title, "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.add_subplot()
        plot.draw(axes, policies)
        axes.set_title(plot.title, loc="left", fontsize=11, fontweight="bold")
        axes.set(xlabel=plot.x, ylabel=plot.y)
        axes.grid(alpha=0.25, axis=plot.grid)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return out.getvalue()[out.getvalue().index("<svg") :]


def _distribution(hours: Callable[[Ran], float | None]) -> Draw:
    """The part of all jobs, of all seeds, for which something took no longer than so many hours."""

    def draw(axes: Any, policies: Sequence[Shown]) -> None:
        for each in policies:
            jobs = [job for outcome in each.outcomes for job in outcome.jobs]
            known = sorted(found for found in map(hours, jobs) if found is not None)
            step = max(len(known) // POINTS, 1)
            places = sorted({*range(0, len(known), step), len(known) - 1} - {-1})
            parts = [(place + 1) / len(jobs) for place in places]
            axes.plot([known[place] for place in places], parts, color=each.colour, linewidth=1.5)
        axes.set_xscale("symlog", linthresh=LOG_FROM_HOURS)
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_formatter("{x:g}")

    return draw


def _over_time(value: Callable[[Sample], float]) -> Draw:
    """Of the first seed: times differ between seeds."""

    def draw(axes: Any, policies: Sequence[Shown]) -> None:
        for each in policies:
            known = [(sample.at / 3600, value(sample)) for sample in each.outcomes[0].samples]
            axes.plot(*zip(*known, strict=True), color=each.colour, linewidth=1)
        last = max((job.arrived_at for each in policies for job in each.outcomes[0].jobs), default=0.0) / 3600
        axes.set_xlim(0, max(last * 1.25, 0.1))
        axes.axvline(last, color="#999999", linewidth=0.8, linestyle=":")
        axes.set_ylim(bottom=0)

    return draw


def _bars(*parts: Callable[[Figures], float]) -> Draw:
    """A bar for each policy, of one part or several, each fainter than the one before; the number is their sum."""

    def draw(axes: Any, policies: Sequence[Shown]) -> None:
        for place, each in enumerate(policies):
            left, totals = 0.0, [sum(part(figures) for part in parts) for figures in each.figures]
            for number, part in enumerate(parts):
                width = sum(part(figures) for figures in each.figures) / len(each.figures)
                axes.barh(place, width, left=left, color=each.colour, alpha=1.0 if number == 0 else 0.45, height=0.7)
                left += width
            if len(totals) > 1:
                axes.plot([min(totals), max(totals)], [place, place], color="#222222", linewidth=1, marker="|", markersize=5)
            end = (max(left, *totals), place)
            axes.annotate(short(left), end, xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(policies)), [each.name.partition(" (")[0] for each in policies])
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: short(value))

    return draw


def _weighed(axes: Any, policies: Sequence[Shown]) -> None:
    _bars(lambda figures: figures.mean_weighed)(axes, policies)
    axes.axvline(policies[0].bound, color="#222222", linewidth=1, linestyle=":")


def short(value: float) -> str:
    """A number in three digits: 0.0123, 12.3, 1,230, 1.23M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _wait_h(job: Ran) -> float | None:
    return None if job.started_at is None else (job.started_at - job.arrived_at) / 3600


def _total_h(job: Ran) -> float | None:
    return None if job.ended_at is None else (job.ended_at - job.arrived_at) / 3600


def _mean(parts: Mapping[str, float]) -> float:
    return sum(parts.values()) / len(parts) if parts else 0.0


def _always(_: Sequence[Shown]) -> bool:
    return True


def _with_gpus(policies: Sequence[Shown]) -> bool:
    return any(sample.gpus and max(sample.gpus.values()) > 0 for each in policies for sample in each.outcomes[0].samples)


def _with_deadlines(policies: Sequence[Shown]) -> bool:
    return any(job.deadline_at is not None for each in policies for job in each.outcomes[0].jobs)


@dataclass(frozen=True, slots=True)
class Plot:
    """A title, its axes, the direction of the grid's lines, what is drawn, and where that makes sense."""

    title: str
    x: str
    y: str
    draw: Draw
    grid: Literal["both", "x"] = "both"
    applies: Callable[[Sequence[Shown]], bool] = _always


HOURS = "hours; dotted: the last arrival"
PLOTS: Sequence[Plot] = (
    Plot("Completion", "hours from arrival to end", "part of jobs", _distribution(_total_h)),
    Plot("Wait", "hours from arrival to start", "part of jobs", _distribution(_wait_h)),
    Plot("Money: compute, and egress (lighter)", "", "", _bars(lambda f: f.compute_money, lambda f: f.egress_money), "x"),
    Plot("Mean completion, hours", "", "", _bars(lambda f: f.mean_completion_h), "x"),
    Plot("Weighed cost of a job; dotted: the lower bound", "", "", _weighed, "x"),
    Plot("Data over the WAN, GiB", "", "", _bars(lambda f: f.wan_gib), "x"),
    Plot("Carbon, kg of CO2", "", "", _bars(lambda f: f.carbon_kg), "x"),
    Plot("Fairness among tenants (1: all fare alike)", "", "", _bars(lambda f: f.fairness), "x"),
    Plot("Deadlines met, part", "", "", _bars(lambda f: f.deadlines_met), "x", _with_deadlines),
    Plot("Cpus in use", HOURS, "part, mean of sites", _over_time(lambda s: _mean(s.cpus))),
    Plot("GPUs in use", HOURS, "part, mean of sites", _over_time(lambda s: _mean(s.gpus)), "both", _with_gpus),
    Plot("Waiting at the broker", HOURS, "jobs", _over_time(lambda s: s.pending)),
)
