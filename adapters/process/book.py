"""What the engine knows of runs, made of its journal's records alone: what a restarted daemon reads is what the last one knew."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from adapters.base import EndReason, Report, Run, SiteState
from adapters.process.codec import report_from_json, report_to_json, run_from_json, run_to_json
from adapters.process.schedule import Need, Place
from adapters.shell import exit_of

SIGKILL = 9
KEEP_NAMES = 100_000
KEEP_NAMES_S = 7 * 86_400.0
"""How many names of forgotten runs, and for how long, are remembered so that a late submit of one is refused."""

Record = dict[str, Any]
TaskEnd = tuple[float, int, int | None]
"""When a task ended, its number, and the exit code as a shell gives it, negative if its program could not be started; None when
nobody saw its end."""


@dataclass(slots=True)
class Held:
    """A run the engine has. `id` is its native id, never used again, and what its claim holds.

    Invariant: `places` is empty until it is started; `kill` says why it is being ended, and from when on.
    """

    run: Run
    id: str
    accepted_at: float
    started_at: float | None = None
    boot: str = ""
    """The boot of the machine that it was started in."""
    places: tuple[Place, ...] = ()
    kill: str = ""
    killed_at: float = 0.0
    end: Report | None = None

    @property
    def need(self) -> Need:
        """What it takes."""
        return Need(self.run.pool, self.run.per_task, self.run.tasks)


CANCEL, WALLTIME, GANG = "cancel", "walltime", "gang"
"""Why a run is being ended: it was asked for, its time is over, or one of its tasks failed."""


class Book:
    """Changed by `apply` alone."""

    def __init__(self, life: str = "") -> None:
        self.life = life
        self.epochs: dict[str, int] = {}
        self.runs: dict[str, Held] = {}
        self.gone: dict[str, float] = {}
        """Names of forgotten runs, oldest first, and when they were forgotten."""

    def apply(self, record: Record) -> None:
        """Take in what happened. Raises KeyError and TypeError for a record that is none."""
        match record["t"]:
            case "life":
                self.life = record["id"]
            case "epoch":
                self.epochs[record["of"]] = record["epoch"]
            case "run":
                run = run_from_json(record["run"])
                self.runs[run.name] = Held(run, record["id"], record["at"])
            case "start":
                held = self.runs[record["name"]]
                held.started_at, held.boot = record["at"], record["boot"]
                held.places = tuple(Place(node, tuple(gpus)) for node, gpus in record["places"])
            case "kill":
                held = self.runs[record["name"]]
                held.kill, held.killed_at = record["why"], record["at"]
            case "end":
                report = report_from_json(record["report"])
                self.runs[report.name].end = report
            case "gone":
                self.runs.pop(record["name"], None)
                self.gone[record["name"]] = record["at"]
                if len(self.gone) > 2 * KEEP_NAMES:
                    self.gone = dict(list(self.gone.items())[-KEEP_NAMES:])
            case other:
                raise KeyError(other)

    def records(self, now: float) -> Iterator[Record]:
        """The shortest journal that makes this book; names that were forgotten long ago are left out."""
        yield {"t": "life", "id": self.life}
        for federation, epoch in self.epochs.items():
            yield {"t": "epoch", "of": federation, "epoch": epoch}
        for name, at in list(self.gone.items())[-KEEP_NAMES:]:
            if at + KEEP_NAMES_S > now:
                yield gone_record(name, at)
        for held in self.runs.values():
            yield run_record(held.run, held.id, held.accepted_at)
            if held.started_at is not None:
                yield start_record(held.run.name, held.places, held.started_at, held.boot)
            if held.kill:
                yield kill_record(held.run.name, held.kill, held.killed_at)
            if held.end:
                yield end_record(held.end)


def epoch_record(federation: str, epoch: int) -> Record:
    """A newer owner of the federation called."""
    return {"t": "epoch", "of": federation, "epoch": epoch}


def run_record(run: Run, native_id: str, at: float) -> Record:
    """A run was accepted."""
    return {"t": "run", "run": run_to_json(run), "id": native_id, "at": at}


def start_record(name: str, places: tuple[Place, ...], at: float, boot: str) -> Record:
    """A run is about to be started there."""
    return {"t": "start", "name": name, "at": at, "boot": boot, "places": [[place.node, place.gpus] for place in places]}


def kill_record(name: str, why: str, at: float) -> Record:
    """A started run is about to be ended."""
    return {"t": "kill", "name": name, "why": why, "at": at}


def end_record(report: Report) -> Record:
    """A run is over."""
    return {"t": "end", "report": report_to_json(report)}


def gone_record(name: str, at: float) -> Record:
    """A run is forgotten but for its name."""
    return {"t": "gone", "name": name, "at": at}


def conclusion(held: Held, ends: Collection[TaskEnd]) -> Report:
    """How a run ended whose tasks ended so. The task that failed first speaks for all."""
    run = held.run
    failed = sorted((end for end in ends if end[2] != 0), key=lambda end: end[0])
    ended_at = max((at for at, _, _ in ends), default=held.killed_at)
    task, first = failed[0][1:] if failed else (0, 0)
    code, signal = exit_of(abs(first)) if first is not None else (None, SIGKILL if held.kill in (CANCEL, WALLTIME) else None)

    def over(state: SiteState, reason: EndReason | None = None, message: str = "") -> Report:
        return Report(run.name, held.id, state, held.started_at, ended_at, code, signal, reason, message, run.pool)

    if held.kill == CANCEL:
        return over(SiteState.CANCELLED)
    if held.kill == WALLTIME:
        return over(SiteState.FAILED, EndReason.WALLTIME, f"the walltime of {run.walltime_s:g} s is over")
    if not failed:
        return over(SiteState.SUCCEEDED)
    if first is None:
        return over(SiteState.FAILED, EndReason.NODE_LOST, f"task {task} is gone and left no exit code")
    if first < 0:
        return over(SiteState.FAILED, EndReason.START_FAILED, f"the program of task {task} could not be started: see its output")
    return over(SiteState.FAILED, EndReason.PROGRAM_FAILED, f"task {task} of {run.tasks} failed" if run.tasks > 1 else "")
