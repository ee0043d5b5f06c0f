"""What the demo prints: its steps, how far the jobs are, and the tables at the end."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from broker.demo.scenario import Work

Shown = Mapping[str, Any]
"""A JSON object as the API gives it."""

MIB = 2**20
LINE_EVERY_S = 3.0
"""How often progress is a line of its own where there is no terminal to redraw."""


class Narrator:
    """Says what happens, each line with the seconds since the start; on a terminal the last line moves."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self.console = console if console.is_terminal else Console(highlight=False, width=170)
        self._status = self.console.status("")
        self._began = time.monotonic()
        self._told = ("", 0.0)

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._status.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(f"[dim]{self.elapsed_s:6.1f} s[/dim]  {escape(text)}")

    def show(self, *things: Table | str) -> None:
        """Tables and texts, with a line between."""
        for thing in things:
            self.console.print("", thing, sep="\n", markup=False)

    def progress(self, jobs: Iterable[Shown]) -> None:
        """How many jobs are in which phase."""
        counts = Counter(str(job["phase"]) for job in jobs)
        self.doing("jobs: " + ", ".join(f"{count} {phase}" for phase, count in sorted(counts.items())))

    def doing(self, text: str) -> None:
        """What is under way: on a terminal the line that moves, elsewhere a line now and then."""
        self._status.update(escape(text))
        said, at = self._told
        if not self.console.is_terminal and text != said and time.monotonic() - at > LINE_EVERY_S:
            self.say(f"  {text}")
            self._told = (text, time.monotonic())


def table_of_jobs(jobs: Sequence[Shown], work: Mapping[str, Work]) -> Table:
    """A row per job, in the order of submission; `work` by the job's id. Money and carbon are what placement expected."""
    table = Table(title="Jobs", title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("job", no_wrap=True)
    for name in ("phase", "site"):
        table.add_column(name)
    for name in ("attempt", "wait s", "staging s", "run s", "µEUR", "mg CO2"):
        table.add_column(name, justify="right")
    table.add_column("why there, at what cost, and the next best")
    for job in jobs:
        cost = job["cost"] or {}
        times = [_seconds(job[name]) for name in ("wait_s", "staging_s", "run_s")]
        amounts = [f"{cost.get(name, 0.0) * 1e6:.0f}" for name in ("money", "carbon_kg")]
        row = [job["name"], str(job["phase"]), job["site"] or "-", str(job["attempt"]), *times, *amounts]
        table.add_row(*row, _why(job, work[job["id"]].objective), style="red" if job["phase"] != "succeeded" else None)
    return table


def table_of_sites(jobs: Iterable[Shown], brought: Mapping[str, int]) -> Table:
    """A row per site: what ran there, and the bytes of datasets that were brought there over links."""
    table = Table(title="Sites", title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("site")
    for name in ("jobs", "run s", "µEUR", "mg CO2", "MiB brought"):
        table.add_column(name, justify="right")
    by_site: dict[str, list[Shown]] = defaultdict(list)
    for job in jobs:
        by_site[job["site"] or "-"].append(job)
    everywhere = [job for here in by_site.values() for job in here]
    rows = [(site, by_site[site], brought.get(site, 0)) for site in sorted(by_site.keys() | brought.keys())]
    for site, here, size in (*rows, ("all", everywhere, sum(brought.values()))):
        run_s = sum(job["run_s"] or 0.0 for job in here)
        amounts = [sum((job["cost"] or {}).get(name, 0.0) for job in here) * 1e6 for name in ("money", "carbon_kg")]
        cells = (f"{run_s:.1f}", *(f"{amount:.0f}" for amount in amounts), f"{size / MIB:.1f}")
        table.add_row(site, str(len(here)), *cells)
    return table


def _why(job: Shown, objective: str) -> str:
    """`fastest: 6.1 s; osl 7.0 s, fra 9.3 s`, by the decision that is stored with the last attempt."""
    if not job["attempts"]:
        return str(job["reason"])
    decision = job["attempts"][-1]["decision"]
    others = ", ".join(f"{each['site']} {_by(objective, each['cost'])}" for each in decision["runners_up"][:2])
    failure = f" ({job['reason']})" if job["reason"] else ""
    return f"{objective}: {_by(objective, decision['cost'])}{f'; {others}' if others else ''}{failure}"


def _by(objective: str, cost: Shown) -> str:
    """A cost as its objective sees it; the time as well, for a long wait outweighs what little is saved."""
    duration = f"{cost['hours'] * 3600:.1f} s"
    match objective:
        case "cheapest":
            return f"{cost['money'] * 1e6:.0f} µEUR in {duration}"
        case "greenest":
            return f"{cost['carbon_kg'] * 1e6:.1f} mg in {duration}"
        case _:
            return duration


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"
