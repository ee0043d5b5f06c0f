"""A world drawn from a seed: its sites, links, datasets, jobs, and what goes wrong in it when."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.base import Capabilities
from broker.jobs.model import DEFAULT_TENANT, INFRASTRUCTURE, Ending, JobSpec, Retry, SiteRules, TaskResources
from tests.faults.faults import OF_STORE, Fault, Wrong
from topology.dataset import DatasetId
from topology.link import Link
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

NAMES = ("ams", "fra", "osl", "rom")
TROUBLE_S = 16.0
"""Faults begin within this time, and jobs are handed in."""
TELLING = (Wrong.SITE_AWAY, Wrong.SITE_LATE, Wrong.SITE_REPLIES_LOST, Wrong.SITE_SLOW, Wrong.WATCH_LAGS, Wrong.COPY_FAILS)
OFTEN = (*Wrong, *TELLING, *TELLING)
"""What goes wrong, the more telling faults more often."""
ALWAYS = (
    Wrong.SITE_AWAY,
    Wrong.SITE_CUT,
    Wrong.SITE_REFUSES,
    Wrong.SITE_FORGETS,
    Wrong.CLOSED,
    Wrong.STORE_FULL,
    Wrong.COMPACTED,
)
"""What does not come and go while it lasts."""
NEEDS_CLAIMS = (Wrong.SITE_MISLAYS, Wrong.SITE_LATE, Wrong.SITE_FORGETS, Wrong.SITE_RESTARTS)
WITHOUT_MOVING = tuple(ending for ending in INFRASTRUCTURE if ending is not Ending.SITE_LOST)


@dataclass(frozen=True, slots=True)
class Bulk:
    """Jobs handed in together under one key; some are asked to end, or to stop their attempt, so many seconds later."""

    at: float
    specs: tuple[JobSpec, ...]
    cancel_after: tuple[float | None, ...]
    stop_after: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Make:
    """What an engine can promise. Without claims its storage cannot create exclusively, so that a claim stops nobody."""

    can: Capabilities
    has_claims: bool
    starts_after_s: float
    """How long a run is queued at least."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is settled before the world begins."""

    sites: tuple[Site, ...]
    makes: tuple[Make, ...]
    links: tuple[Link, ...]
    datasets: tuple[tuple[DatasetId, str], ...]
    bulks: tuple[Bulk, ...]
    brokers: int
    faults: tuple[Fault, ...]


def drawn(chance: random.Random) -> Plan:
    """One world. Every job fits every site, and every site is linked to all, directly or not: each job can end."""
    names = NAMES[: chance.choice((2, 2, 3, 3, 4))]
    sites = tuple(_site(name, chance) for name in names)
    makes = tuple(_make(chance) for _ in names)
    links = tuple(
        Link(near, far, chance.choice((4.0, 10.0, 20.0)), latency_ms=5, price_per_gib=0.01)
        for near in names
        for far in names
        if near != far and (abs(names.index(near) - names.index(far)) == 1 or chance.random() < 0.7)
    )
    datasets = tuple(
        (DatasetId(DEFAULT_TENANT, name, "1"), chance.choice(names))
        for name in ("corpus", "genome")[: chance.choice((0, 1, 2, 2))]
    )
    bulks = _bulks(chance, names, datasets)
    brokers = chance.choice((1, 1, 2, 2, 2))
    return Plan(sites, makes, links, datasets, bulks, brokers, _faults(chance, dict(zip(names, makes, strict=True)), brokers))


def _site(name: str, chance: random.Random) -> Site:
    pool = Pool("cpu", chance.choice((2, 2, 3)), Resources(chance.choice((2.0, 4.0)), 8.0))
    return Site(name, Engine("twin"), (pool,), Storage(f"file:///{name}"), region=name)


def _make(chance: random.Random) -> Make:
    kind, starts_after_s = chance.random(), chance.choice((0.0, 0.0, 0.3, 1.5))
    if kind < 0.4:
        return Make(Capabilities(unique_names=True, refuses_stale_epochs=True, settling_s=0.0), True, starts_after_s)
    can = Capabilities(unique_names=kind < 0.5, refuses_stale_epochs=False, settling_s=chance.choice((0.0, 0.5, 1.0)))
    return Make(can, has_claims=can.unique_names or chance.random() < 0.7, starts_after_s=starts_after_s)


def _bulks(chance: random.Random, names: Sequence[str], datasets: tuple[tuple[DatasetId, str], ...]) -> tuple[Bulk, ...]:
    bulks = []
    for _ in range(chance.choice((1, 2, 2, 3))):
        specs = tuple(_spec(chance, names, datasets) for _ in range(chance.choice((1, 2, 3, 3, 3, 9))))
        cancels = tuple(chance.uniform(0, 8) if chance.random() < 0.2 else None for _ in specs)
        stops = tuple(chance.uniform(0, 8) if chance.random() < 0.08 else None for _ in specs)
        bulks.append(Bulk(chance.uniform(0.5, TROUBLE_S - 4), specs, cancels, stops))
    return tuple(bulks)


def _spec(chance: random.Random, names: Sequence[str], datasets: tuple[tuple[DatasetId, str], ...]) -> JobSpec:
    seconds = chance.choice((0.0, 0.3, 1.0, 1.0, 3.0, 10.0, 16.0)) * chance.uniform(0.5, 1.5)
    exit_code = 3 if chance.random() < 0.12 else 0
    has_output = chance.random() < 0.3
    leaves = "no" if chance.random() < 0.1 else "yes"
    inputs = tuple(dataset for dataset, _ in datasets if chance.random() < 0.4)
    exclude: tuple[str, ...] = ()
    if len(names) > 2 and chance.random() < 0.5:
        exclude = (next((home for dataset, home in datasets if dataset in inputs), chance.choice(names)),)
    is_best_effort = chance.random() < 0.25
    reasons = chance.choice((INFRASTRUCTURE, INFRASTRUCTURE, (*INFRASTRUCTURE, Ending.PROGRAM_FAILED), WITHOUT_MOVING))
    return JobSpec(
        tenant=DEFAULT_TENANT,
        command=("run", f"{seconds:.3f}", str(exit_code), leaves),
        tasks=chance.choice((1, 1, 1, 2)),
        resources=TaskResources(cpus=chance.choice((1.0, 1.0, 2.0)), memory_gib=0.5),
        inputs=inputs,
        outputs=("words",) if has_output else (),
        run_time_s=600.0 if is_best_effort else max(seconds, 0.1),  # what is expected to end soon is not asked to give way
        walltime_s=seconds / 2 if seconds > 2 and chance.random() < 0.2 else None,
        max_wait_s=chance.uniform(4, 20) if chance.random() < 0.1 else None,
        sites=SiteRules(exclude=exclude),
        retry=Retry(chance.choice((2, 3, 3, 5)), reasons),
        preemptible=is_best_effort,
    )


def _faults(chance: random.Random, sites: Mapping[str, Make], brokers: int) -> tuple[Fault, ...]:
    """Some, any of which may overlap. A refusal for good is of one site only: else a job may have nowhere to go. Where claims
    stop nobody, nothing arrives late and nothing is forgotten: there looking before sending again must do."""
    faults = [Fault(Wrong.WATCH_LAGS, "", 0.0, TROUBLE_S, 1.0, 3.0)] if chance.random() < 0.2 else []
    refusing = chance.choice(list(sites))
    for _ in range(chance.choice((0, 2, 3, 4, 5, 6, 8, 10))):
        wrong = chance.choice(OFTEN)
        of_brokers = ("", *(f"b{number}" for number in range(brokers)))
        target = chance.choice(of_brokers if wrong in OF_STORE else list(sites))
        if wrong is Wrong.SITE_REFUSES:
            target = refusing
        if wrong is Wrong.SITE_CUT:
            target = f"{target}@b{chance.randrange(brokers)}"
        if wrong in NEEDS_CLAIMS and not sites[target].has_claims:
            wrong = Wrong.SITE_REPLIES_LOST
        begin = chance.uniform(0, TROUBLE_S)
        faults.append(Fault(wrong, target, begin, begin + _lasts(wrong, chance), _chance(wrong, chance), _seconds(wrong, chance)))
    return tuple(sorted(faults, key=lambda fault: fault.begin))


def _lasts(wrong: Wrong, chance: random.Random) -> float:
    if wrong in (Wrong.SITE_AWAY, Wrong.SITE_CUT):
        return chance.choice((1.0, 4.0, 12.0, 12.0)) * chance.uniform(0.7, 1.3)
    if wrong is Wrong.COPY_FAILS:
        return chance.choice((4.0, 20.0)) * chance.uniform(0.7, 1.3)
    return chance.choice((1.0, 4.0, 10.0)) * chance.uniform(0.7, 1.3)


def _chance(wrong: Wrong, chance: random.Random) -> float:
    if wrong in ALWAYS:
        return 1.0
    return chance.choice((0.5, 1.0)) if wrong is Wrong.COPY_FAILS else chance.choice((0.1, 0.3, 0.5, 1.0))


def _seconds(wrong: Wrong, chance: random.Random) -> float:
    match wrong:
        case Wrong.STORE_AWAY | Wrong.SITE_AWAY | Wrong.SITE_CUT | Wrong.STORAGE_AWAY:
            return chance.choice((0.01, 0.5, 1.5))
        case Wrong.STORE_SLOW | Wrong.WATCH_LAGS:
            return chance.choice((0.05, 0.5, 2.5))
        case Wrong.STORE_LATE | Wrong.SITE_LATE | Wrong.SITE_SLOW:
            return chance.choice((0.5, 2.0, 5.0))
    return 0.0
