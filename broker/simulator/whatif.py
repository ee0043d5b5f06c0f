"""What would come of a change: the same queue simulated over a federation as it is, and as it might be. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from broker.jobs.model import Shape
from broker.placement.words import span
from broker.simulator.engine import simulate
from broker.simulator.outcome import Outcome, Ran
from broker.simulator.policies import Ours
from broker.simulator.scenario import Scenario

MOST_CLASSES = 20
"""Those that are told, of which most changes."""
MOST_NAMED = 100
"""Of the jobs that would begin again."""
UNTOLD = "no plan told why"
TURN_S = (10.0, 120.0)
TURN_PART = 1 / 800_000
"""Plans are this part of the mean run time apart for each job that waits, between these bounds: a long queue, whose plans
take long and of which a minute tells nothing new, is planned more seldom."""


@dataclass(frozen=True, slots=True)
class Fares:
    """How some jobs fare: means and the last in hours from now, of those that end; money in the federation's currency,
    kg of CO2."""

    jobs: int
    never_end: int
    mean_start_h: float
    last_start_h: float
    mean_end_h: float
    last_end_h: float
    money: float
    carbon_kg: float
    wan_gib: float


@dataclass(frozen=True, slots=True)
class Use:
    """What jobs take at a site from now on, until they end: hours of cpus and of GPUs, and the money for those."""

    jobs: int
    cpu_hours: float
    gpu_hours: float
    money: float


@dataclass(frozen=True, slots=True)
class Used:
    """A site as things are, and as they might be."""

    site: str
    before: Use
    after: Use


@dataclass(frozen=True, slots=True)
class Stuck:
    """How many jobs never run for one reason, as things are and as they might be."""

    reason: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A job that runs now and would have to begin again: where it runs, and where it would end (None: nowhere)."""

    job: str
    tenant: str
    site: str
    then: str | None


@dataclass(frozen=True, slots=True)
class Compared:
    """Some jobs as things are, and as they might be."""

    name: str
    before: Fares
    after: Fares


@dataclass(frozen=True, slots=True)
class Answer:
    """Of all that waits and runs, by tenant, and by the classes of equal jobs of which most changes; what each site is used, and
    why jobs never run. `moved` counts jobs that run now and would have to begin again, of which `moved_jobs` names some. `notes`
    say what was simplified."""

    whole: Compared
    tenants: tuple[Compared, ...]
    classes: tuple[Compared, ...]
    sites: tuple[Used, ...]
    stuck: tuple[Stuck, ...]
    moved: int
    moved_jobs: tuple[Moved, ...]
    notes: tuple[str, ...]


def what_if(scenario: Scenario, changed: Scenario) -> Answer:
    """Both simulated to their ends with the planner."""
    turn_s = _turn_s(scenario)
    before, after = (simulate(each, Ours(), turn_s=turn_s) for each in (scenario, changed))
    shapes = {each.name: each.shape for each in (*scenario.arrivals, *(begun.arrival for begun in scenario.begun))}
    pairs = list(zip(before.jobs, after.jobs, strict=True))
    moved = tuple(_moved(pairs, scenario))
    return Answer(
        whole=_compared("all", pairs),
        tenants=tuple(_compared(name, found) for name, found in sorted(_by(pairs, lambda job: job.tenant).items())),
        classes=tuple(_of_classes(pairs, shapes)),
        sites=tuple(_of_sites(before, after, scenario, shapes)),
        stuck=tuple(_stuck(before, after, shapes)),
        moved=len(moved),
        moved_jobs=moved[:MOST_NAMED],
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
        carbon_kg=sum(job.carbon_kg for job in jobs),
        wan_gib=sum(job.wan_gib for job in jobs),
    )


def _moved(pairs: Pairs, scenario: Scenario) -> Iterable[Moved]:
    """By more placements than as things are, since best effort may give way either way; or by never ending now."""
    running = {each.arrival.name: each.site for each in scenario.begun if each.ends_at is not None}
    for was, now in pairs:
        is_stopped = was.ended_at is not None and now.ended_at is None
        if was.name in running and (is_stopped or now.attempts > was.attempts):
            yield Moved(was.name, was.tenant, running[was.name], now.site)


def _of_sites(before: Outcome, after: Outcome, scenario: Scenario, shapes: Mapping[str, Shape]) -> Iterable[Used]:
    uses = [_uses(each.jobs, shapes) for each in (before, after)]
    return (Used(site, *(use.get(site, Use(0, 0.0, 0.0, 0.0)) for use in uses)) for site in sorted(scenario.topology.sites))


def _uses(jobs: Iterable[Ran], shapes: Mapping[str, Shape]) -> dict[str, Use]:
    """By site, of those that end there."""
    found: dict[str, Use] = {}
    for job in jobs:
        if job.site is not None:
            shape, hours = shapes[job.name], ((job.ended_at or 0.0) - (job.started_at or 0.0)) / 3600
            use = found.get(job.site, Use(0, 0.0, 0.0, 0.0))
            found[job.site] = Use(
                jobs=use.jobs + 1,
                cpu_hours=use.cpu_hours + hours * shape.resources.cpus * shape.tasks,
                gpu_hours=use.gpu_hours + hours * shape.resources.gpus.count * shape.tasks,
                money=use.money + job.compute_money,
            )
    return found


def _stuck(before: Outcome, after: Outcome, shapes: Mapping[str, Shape]) -> list[Stuck]:
    """The reason that holds most of them first."""
    was, now = (_by_reason(each, shapes) for each in (before, after))
    found = [Stuck(reason, was[reason], now[reason]) for reason in was | now]
    return sorted(found, key=lambda each: (-each.after, -each.before, each.reason))


def _by_reason(outcome: Outcome, shapes: Mapping[str, Shape]) -> Counter[str]:
    return Counter(outcome.passed.get(shapes[job.name], UNTOLD) for job in outcome.jobs if job.ended_at is None)


def _words(shape: Shape) -> str:
    """A class, for people."""
    each, gpus = shape.resources, shape.resources.gpus
    size = f"{each.cpus:g} cpus, {each.memory_gib:g} GiB"
    size += f", {gpus.count} {' or '.join(gpus.types) or 'any'} GPUs" if gpus.count else ""
    gang = f"{shape.tasks} x " if shape.tasks > 1 else ""
    reads = f", reads {' and '.join(sorted(each.name for each in shape.inputs))}" if shape.inputs else ""
    return f"{shape.tenant}: {gang}{size}, {span(shape.run_time_s / 3600)}{reads}"
