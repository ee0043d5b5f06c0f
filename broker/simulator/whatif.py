"""What would come of a change: the same queue simulated over a federation as it is, and as it might be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from broker.jobs.model import Shape
from broker.placement.words import span
from broker.simulator.engine import simulate
from broker.simulator.outcome import Ran
from broker.simulator.policies import Ours
from broker.simulator.scenario import Scenario

MOST_CLASSES = 20
"""Those that are told, of which most changes."""
TURN_S = (10.0, 120.0)
TURN_PART = 1 / 800_000
"""Plans are this part of the mean run time apart for each job that waits, between these bounds: a long queue, whose plans
take long and of which a minute tells nothing new, is planned more seldom."""


@dataclass(frozen=True, slots=True)
class Fares:
    """How some jobs fare: means and the last in hours from now, of those that end; money in the federation's currency."""

    jobs: int
    never_end: int
    mean_start_h: float
    last_start_h: float
    mean_end_h: float
    last_end_h: float
    money: float
    wan_gib: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Some jobs as things are, and as they might be."""

    name: str
    before: Fares
    after: Fares


@dataclass(frozen=True, slots=True)
class Answer:
    """Of all that waits and runs, by tenant, and by the classes of equal jobs of which most changes. `moved` counts jobs that run
    now and would have to begin again. `notes` say what was simplified."""

    whole: Compared
    tenants: tuple[Compared, ...]
    classes: tuple[Compared, ...]
    moved: int
    notes: tuple[str, ...]


def what_if(scenario: Scenario, changed: Scenario) -> Answer:
    """Both simulated to their ends with the planner."""
    turn_s = _turn_s(scenario)
    before, after = (simulate(each, Ours(), turn_s=turn_s).jobs for each in (scenario, changed))
    shapes = {each.name: each.shape for each in (*scenario.arrivals, *(begun.arrival for begun in scenario.begun))}
    pairs = list(zip(before, after, strict=True))
    running = {each.arrival.name for each in scenario.begun if each.ends_at is not None}
    return Answer(
        whole=_compared("all", pairs),
        tenants=tuple(_compared(name, found) for name, found in sorted(_by(pairs, lambda job: job.tenant).items())),
        classes=tuple(_of_classes(pairs, shapes)),
        moved=sum(now.attempts > was.attempts for was, now in pairs if was.name in running),
        notes=(scenario.notes,),
    )


def _turn_s(scenario: Scenario) -> float:
    return min(max(sum(job.run_time_s for job in scenario.arrivals) * TURN_PART, TURN_S[0]), TURN_S[1])


Pairs = Sequence[tuple[Ran, Ran]]


def _by(pairs: Pairs, key: Callable[[Ran], Any]) -> dict[Any, list[tuple[Ran, Ran]]]:
    found: dict[Any, list[tuple[Ran, Ran]]] = {}
    for pair in pairs:
        found.setdefault(key(pair[0]), []).append(pair)
    return found


def _of_classes(pairs: Pairs, shapes: Mapping[str, Shape]) -> list[Compared]:
    found = [_compared(_words(shape), some) for shape, some in _by(pairs, lambda job: shapes[job.name]).items()]
    changing = [each for each in found if each.before != each.after]
    return sorted(changing, key=_change, reverse=True)[:MOST_CLASSES]


def _change(each: Compared) -> tuple[float, float, str]:
    before, after = each.before, each.after
    hours = abs(after.mean_end_h - before.mean_end_h) * before.jobs
    return abs(after.never_end - before.never_end), hours + abs(after.money - before.money), each.name


def _compared(name: str, pairs: Pairs) -> Compared:
    return Compared(name, _fares([was for was, _ in pairs]), _fares([now for _, now in pairs]))


def _fares(jobs: Sequence[Ran]) -> Fares:
    ended = [job for job in jobs if job.ended_at is not None]
    starts = [(job.started_at or 0.0) / 3600 for job in ended]
    ends = [(job.ended_at or 0.0) / 3600 for job in ended]
    return Fares(
        jobs=len(jobs),
        never_end=len(jobs) - len(ended),
        mean_start_h=fmean(starts) if starts else 0.0,
        last_start_h=max(starts, default=0.0),
        mean_end_h=fmean(ends) if ends else 0.0,
        last_end_h=max(ends, default=0.0),
        money=sum(job.compute_money + job.egress_money for job in jobs),
        wan_gib=sum(job.wan_gib for job in jobs),
    )


def _words(shape: Shape) -> str:
    """A class, for people."""
    each, gpus = shape.resources, shape.resources.gpus
    size = f"{each.cpus:g} cpus, {each.memory_gib:g} GiB"
    size += f", {gpus.count} {' or '.join(gpus.types) or 'any'} GPUs" if gpus.count else ""
    gang = f"{shape.tasks} x " if shape.tasks > 1 else ""
    reads = f", reads {' and '.join(sorted(each.name for each in shape.inputs))}" if shape.inputs else ""
    return f"{shape.tenant}: {gang}{size}, {span(shape.run_time_s / 3600)}{reads}"
