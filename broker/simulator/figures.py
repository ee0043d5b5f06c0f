"""What a simulation comes to, in numbers. Times in hours, money in the federation's currency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

from broker.simulator.outcome import Outcome, Ran

SHORT_HOURS = 10 / 3600
"""Jobs shorter than ten seconds count as that long in slowdowns: the bound of Feitelson et al. (JSSPP 1997)."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one outcome. Waits and completions are of jobs that ended, from their arrival; `unfinished` counts the others."""

    jobs: int
    unfinished: int
    mean_wait_h: float
    p95_wait_h: float
    mean_completion_h: float
    p50_completion_h: float
    p95_completion_h: float
    p99_completion_h: float
    mean_weighed: float
    """What a job weighs by its own objective: completion, money and carbon."""
    mean_slowdown: float
    """Completion by run time: max(completion / max(run time, ten seconds), 1)."""
    compute_money: float
    egress_money: float
    wan_gib: float
    carbon_kg: float
    cpus_busy: float
    """The part of all sites' cpus in use, in the mean over samples while jobs arrive."""
    gpus_busy: float
    fairness: float
    """Jain's index (1984) of the tenants' mean slowdowns, (sum x)^2 / (n * sum x^2): 1 where all fare alike."""
    deadlines_met: float
    """The part of jobs with a deadline that were over by then; 1 without any."""
    attempts: float
    """Placements per job."""
    jobs_per_minute: float
    """Of real time."""
    planning: float
    """The part of real time that plans took."""

    @property
    def money(self) -> float:
        """Compute and egress."""
        return self.compute_money + self.egress_money


def figures_of(outcome: Outcome) -> Figures:
    """The figures of one outcome."""
    ended = [job for job in outcome.jobs if job.ended_at is not None]
    waits = sorted(((job.started_at or 0.0) - job.arrived_at) / 3600 for job in ended)
    completions = sorted(_completion_h(job) for job in ended)
    slowdowns = _slowdowns(ended)
    dated = [job for job in outcome.jobs if job.deadline_at is not None]
    met = [job for job in dated if job.ended_at is not None and job.deadline_at is not None and job.ended_at <= job.deadline_at]
    last = max((job.arrived_at for job in outcome.jobs), default=0.0)
    samples = [sample for sample in outcome.samples if sample.at <= last]
    return Figures(
        jobs=len(outcome.jobs),
        unfinished=len(outcome.jobs) - len(ended),
        mean_wait_h=_mean(waits),
        p95_wait_h=percentile(waits, 0.95),
        mean_completion_h=_mean(completions),
        p50_completion_h=percentile(completions, 0.5),
        p95_completion_h=percentile(completions, 0.95),
        p99_completion_h=percentile(completions, 0.99),
        mean_weighed=_mean([_weighed(job) for job in ended]),
        mean_slowdown=_mean([each for of_tenant in slowdowns.values() for each in of_tenant]),
        compute_money=sum(job.compute_money for job in outcome.jobs),
        egress_money=sum(job.egress_money for job in outcome.jobs),
        wan_gib=sum(job.wan_gib for job in outcome.jobs),
        carbon_kg=sum(job.carbon_kg for job in outcome.jobs),
        cpus_busy=_mean([_mean(list(sample.cpus.values())) for sample in samples]),
        gpus_busy=_mean([_mean(list(sample.gpus.values())) for sample in samples]),
        fairness=jain([_mean(of_tenant) for of_tenant in slowdowns.values()]),
        deadlines_met=len(met) / len(dated) if dated else 1.0,
        attempts=sum(job.attempts for job in outcome.jobs) / max(len(outcome.jobs), 1),
        jobs_per_minute=len(ended) / max(outcome.took_s, 1e-9) * 60,
        planning=outcome.plan_s / max(outcome.took_s, 1e-9),
    )


def mean_of(several: Sequence[Figures]) -> Figures:
    """Number by number, over several seeds."""
    means: dict[str, Any] = {field.name: fmean(getattr(each, field.name) for each in several) for field in fields(Figures)}
    return Figures(**(means | {"jobs": round(means["jobs"]), "unfinished": round(means["unfinished"])}))


def spread_of(several: Sequence[Figures]) -> Mapping[str, tuple[float, float]]:
    """The least and the most of each number, over several seeds."""
    found = {field.name: [getattr(each, field.name) for each in several] for field in fields(Figures)}
    return {name: (min(values), max(values)) for name, values in found.items()}


def plain(figures: Figures) -> dict[str, float]:
    """For JSON: the fields' names, and `money`."""
    return {**asdict(figures), "money": figures.money}


def percentile(ordered: Sequence[float], part: float) -> float:
    """Nearest rank of values in rising order; 0 of none."""
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def jain(values: Sequence[float]) -> float:
    """See `Figures.fairness`; 1 of none."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def _completion_h(job: Ran) -> float:
    return ((job.ended_at or 0.0) - job.arrived_at) / 3600


def _weighed(job: Ran) -> float:
    weights, money = job.objective, job.compute_money + job.egress_money
    return weights.hours * _completion_h(job) + weights.money * money + weights.carbon_kg * job.carbon_kg


def _slowdowns(ended: Iterable[Ran]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for job in ended:
        run_h = ((job.ended_at or 0.0) - (job.started_at or 0.0)) / 3600
        found[job.tenant].append(max(_completion_h(job) / max(run_h, SHORT_HOURS), 1.0))
    return found


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
