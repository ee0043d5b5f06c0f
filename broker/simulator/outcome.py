"""What came of a simulation, job by job and over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.jobs.model import Shape, Weights


@dataclass(frozen=True, slots=True)
class Ran:
    """One job: times in seconds from the start (None: never), money in the federation's currency, kg of CO2, and GiB that crossed
    links for it. A dataset that several jobs wait for is charged to the first of them. `attempts` counts its placements,
    `objective` is what its user wanted."""

    name: str
    tenant: str
    arrived_at: float
    site: str | None
    pool: str | None
    started_at: float | None
    ended_at: float | None
    compute_money: float
    egress_money: float
    carbon_kg: float
    wan_gib: float
    attempts: int
    deadline_at: float | None = None
    objective: Weights = Weights()


@dataclass(frozen=True, slots=True)
class Sample:
    """The federation at one moment: jobs that wait, and the busy part (0 to 1) of each site's cpus and GPUs."""

    at: float
    pending: int
    cpus: dict[str, float]
    gpus: dict[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario under one policy. `plan_s` and `took_s` are real seconds: in plans, and in all. `passed` says of each class
    that still waits why, where the policy told."""

    scenario: str
    policy: str
    jobs: tuple[Ran, ...]
    samples: tuple[Sample, ...]
    plans: int
    plan_s: float
    took_s: float
    passed: Mapping[Shape, str] = field(default_factory=dict)
