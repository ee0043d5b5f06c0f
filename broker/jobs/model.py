"""The values of a job's life: what a user wishes, and what has become of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from adapters.base import Spark
from topology.dataset import DatasetId
from topology.resources import Resources

DEFAULT_TENANT = "default"
BROKER = "the broker"
"""Who asks for what the broker itself wants of a job."""


class Phase(StrEnum):
    """Where a job is in its life; `lifecycle.NEXT` says what may follow what."""

    PENDING = "pending"
    STAGING = "staging"
    PLACED = "placed"
    QUEUED = "queued"
    RUNNING = "running"
    COLLECTING = "collecting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether this phase never changes."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)

    @property
    def is_at_site(self) -> bool:
        """Whether the owner of the current attempt's site is the writer of the state."""
        return self not in (Phase.PENDING, Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)


class Ending(StrEnum):
    """Why an attempt ended without success. `retry.reasons` names these; the engines' part equals `adapters.base.EndReason`."""

    PROGRAM_FAILED = "program-failed"
    WALLTIME = "walltime"
    OUT_OF_MEMORY = "out-of-memory"
    START_FAILED = "start-failed"
    NODE_LOST = "node-lost"
    PREEMPTED = "preempted"
    CLAIMED = "claimed"
    SITE_LOST = "site-lost"
    VANISHED = "vanished"
    """Accepted, and then nowhere: neither in a whole listing nor in the engine's history."""
    REFUSED = "refused"
    STAGING_FAILED = "staging-failed"
    OUTPUT_MISSING = "output-missing"
    WITHDRAWN = "withdrawn"
    """Taken back by the broker; never counted against the retry budget."""
    CANCELLED = "cancelled"


INFRASTRUCTURE = (
    Ending.SITE_LOST,
    Ending.NODE_LOST,
    Ending.PREEMPTED,
    Ending.VANISHED,
    Ending.CLAIMED,
    Ending.STAGING_FAILED,
    Ending.REFUSED,
)
"""Endings that are not the job's fault: the default of `retry.reasons`."""


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """GPUs per task: how many, and of which types any one will do; no types means any type. All of a task's are of one type."""

    count: int = 0
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskResources:
    """What each task of a job needs."""

    cpus: float = 1.0
    memory_gib: float = 0.5
    gpus: GpuRequest = GpuRequest()

    def on(self, gpu_type: str | None) -> Resources:
        """The plain amount once a GPU type is chosen."""
        gpus = {gpu_type: self.gpus.count} if gpu_type and self.gpus.count else {}
        return Resources.of(self.cpus, self.memory_gib, gpus)


@dataclass(frozen=True, slots=True)
class Weights:
    """An objective: what one hour until the end, one unit of money and one kg of CO2 weigh against each other."""

    hours: float = 1.0
    money: float = 0.0
    carbon_kg: float = 0.0


class Together(StrEnum):
    """By which rules jobs with the same word belong together."""

    AFFINITY = "affinity"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True)
class Spread:
    """Of a tenant's unfinished jobs with the same word at most `per_site` are at one site."""

    word: str
    per_site: int = 1


@dataclass(frozen=True, slots=True)
class SiteRules:
    """Where a job may run. Empty means no rule. `fabric` is a fabric's name or `rdma` for any that has it."""

    regions: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    fabric: str | None = None
    file_system: str | None = None
    prefer: tuple[str, ...] = ()
    """Sites in order: one is taken when those before it have no room; sites that are not named come last."""
    spill_after_s: float = 0.0
    """How long to wait for each rank of `prefer` before the next is looked at."""
    affinity: str | None = None
    """A tenant's unfinished jobs with the same word are at the same site."""
    spread: Spread | None = None

    @property
    def words(self) -> tuple[tuple[Together, str], ...]:
        """What it has in common with the jobs that it belongs together with."""
        affinity = ((Together.AFFINITY, self.affinity),) if self.affinity is not None else ()
        return (*affinity, (Together.SPREAD, self.spread.word)) if self.spread is not None else affinity


@dataclass(frozen=True, slots=True)
class Retry:
    """How many attempts in all, and after which endings another may follow."""

    attempts: int = 3
    reasons: tuple[Ending, ...] = INFRASTRUCTURE


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a user asks for, in plain units. Inputs are pinned to a version; `workdir`, of which each task works in a copy of its
    own, is one of them. The job's name is in its wish, so that equal jobs have equal specs."""

    tenant: str
    command: tuple[str, ...] = ()
    script: str | None = None
    tasks: int = 1
    resources: TaskResources = TaskResources()
    inputs: tuple[DatasetId, ...] = ()
    outputs: tuple[str, ...] = ()
    run_time_s: float | None = None
    walltime_s: float | None = None
    objective: Weights = Weights()
    max_wait_s: float | None = None
    deadline_s: float | None = None
    sites: SiteRules = SiteRules()
    retry: Retry = Retry()
    priority: int = 50
    env: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    spark: Spark | None = None
    workdir: DatasetId | None = None
    max_cost: float | None = None
    """Money for compute and egress that no attempt may be expected to exceed."""
    preemptible: bool = False
    """Best effort: it gives way to others, and goes back to the queue."""
    checkpoint_s: float | None = None
    """How often it saves its work: no more than that is lost when it gives way. None: all of it is."""

    @property
    def pieces(self) -> tuple[int, TaskResources]:
        """How many pieces its site holds at once, and how large each is at most: its tasks; or a Spark application's driver,
        which is as large as `resources`, and executors, each counted as the larger of the two."""
        if self.spark is None:
            return self.tasks, self.resources
        cpus = max(self.resources.cpus, self.spark.executor_cpus)
        memory_gib = max(self.resources.memory_gib, self.spark.executor_memory_gib)
        return 1 + self.spark.executors, TaskResources(cpus, memory_gib, self.resources.gpus)


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asked for something, why, and when (epoch seconds)."""

    who: str
    why: str
    at: float

    @property
    def words(self) -> str:
        """For people: who, and why where that was said."""
        return f"{self.who}: {self.why}" if self.why else self.who


@dataclass(frozen=True, slots=True)
class Stop:
    """The wish that attempt `attempt` be given up and the job placed anew."""

    attempt: int
    ask: Ask


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user, or the leader, wants of a job. Written by endpoint and leader by compare-and-swap; never by an owner.

    Exactly one of `spec` and `spec_hash` is set: repeated and large specs are records of their own.
    """

    id: str
    name: str
    tenant: str
    created_at: float
    created_by: str
    spec: JobSpec | None = None
    spec_hash: str | None = None
    cancel: Ask | None = None
    hold: Ask | None = None
    stop: Stop | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """The user's own words, to find it by. Placement does not see them."""
    trace: str = ""
    """W3C's `traceparent` of what it is to be traced below; empty where tracing is off, or where its trace is its own."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What running somewhere takes, by part: wall-clock hours, money in the federation's currency, kg of CO2."""

    wait_hours: float = 0.0
    staging_hours: float = 0.0
    run_hours: float = 0.0
    compute_money: float = 0.0
    egress_money: float = 0.0
    carbon_kg: float = 0.0

    @property
    def hours(self) -> float:
        """From now to the end."""
        return self.wait_hours + self.staging_hours + self.run_hours

    @property
    def money(self) -> float:
        """Compute and egress."""
        return self.compute_money + self.egress_money

    def weighed(self, weights: Weights) -> float:
        """One number by a job's objective; less is better."""
        return weights.hours * self.hours + weights.money * self.money + weights.carbon_kg * self.carbon_kg


@dataclass(frozen=True, slots=True)
class Choice:
    """One site in a decision, with its cost."""

    site: str
    pool: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class Decision:
    """Why an attempt went where it went: the winner's cost, up to three runners-up, and how many sites objected."""

    cost: Cost = Cost()
    runners_up: tuple[Choice, ...] = ()
    objections: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended. `ending` is None when it succeeded."""

    at: float
    ending: Ending | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job at one site. Numbered from 1. Times are epoch seconds."""

    number: int
    site: str
    pool: str
    placed_at: float
    gpu_type: str | None = None
    decision: Decision = Decision()
    native_id: str | None = None
    staged_at: float | None = None
    accepted_at: float | None = None
    started_at: float | None = None
    end: End | None = None


@dataclass(frozen=True, slots=True)
class JobState:
    """What has become of a job. One writer at a time: the leader while pending, else the owner of the attempt's site; an
    admin's `unstick` or `forget` takes part as whoever names the revision that it read.

    No stored state means pending: `JobState(id)`. Invariant: a phase at a site has an attempt without an end (one with an
    end only while collecting); attempts but the last have ended. Numbers grow by one and are never used again; those of
    `folded` attempts, of which no site ever heard, are missing in `attempts`.
    """

    id: str
    phase: Phase = Phase.PENDING
    attempts: tuple[Attempt, ...] = ()
    reason: str = ""
    not_before: float | None = None
    finished_at: float | None = None
    outputs: tuple[DatasetId, ...] = ()
    folded: int = 0
    """How many attempts were withdrawn before they were sent and are no longer told one by one."""

    @property
    def number(self) -> int:
        """The number of the current, or last, attempt; 0 before the first placement."""
        return self.attempts[-1].number if self.attempts else 0

    @property
    def withdrawn(self) -> int:
        """How many attempts the broker has taken back."""
        return self.folded + sum(1 for each in self.attempts if each.end and each.end.ending is Ending.WITHDRAWN)

    def attempt_of(self, number: int) -> Attempt | None:
        """The attempt of that number; None for one that was folded, or is yet to come."""
        return next((attempt for attempt in self.attempts if attempt.number == number), None)

    @property
    def attempt(self) -> Attempt:
        """The current, or last, attempt. Raises LookupError before the first placement."""
        if not self.attempts:
            raise LookupError(f"job {self.id} was never placed")
        return self.attempts[-1]


def attempt_name(job: str, number: int) -> str:
    """`<job>-a<n>`, lower case."""
    return f"{job}-a{number}"


def run_name(federation: str, job: str, number: int) -> str:
    """An attempt's name at a site: `<federation>-<job>-a<n>`."""
    return f"{federation}-{attempt_name(job, number)}"


def parse_run_name(federation: str, name: str) -> tuple[str, int] | None:
    """The job and attempt number of a run's name; None when it is not of this federation's making."""
    prefix = f"{federation}-"
    if not name.startswith(prefix):
        return None
    job, separator, number = name[len(prefix) :].rpartition("-a")
    return (job, int(number)) if job and separator and number.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Shape:
    """What placement sees of a job: jobs of equal shape are one class and are planned together."""

    tenant: str
    tasks: int
    resources: TaskResources
    inputs: tuple[DatasetId, ...]
    run_time_s: float
    objective: Weights
    sites: SiteRules
    priority: int
    max_wait_s: float | None
    refused_by: tuple[str, ...]
    """Sites that refused an earlier attempt, sorted."""
    needs: tuple[str, ...] = ()
    """What not every kind of engine takes: `IMAGES`, `SPARK`."""
    deadline_s: float | None = None
    """To be over within so many seconds of its submission."""
    max_cost: float | None = None
    preemptible: bool = False


IMAGES = "images"
SPARK = "spark"
DEFAULT_RUN_TIME_S = 600.0
"""Taken for a job that says neither run time nor walltime."""


def shape_of(spec: JobSpec, state: JobState) -> Shape:
    """The class of a job, given what has become of it so far."""
    refused = {attempt.site for attempt in state.attempts if attempt.end and attempt.end.ending is Ending.REFUSED}
    tasks, resources = spec.pieces
    return Shape(
        tenant=spec.tenant,
        tasks=tasks,
        resources=resources,
        inputs=spec.inputs,
        run_time_s=spec.run_time_s or spec.walltime_s or DEFAULT_RUN_TIME_S,
        objective=spec.objective,
        sites=spec.sites,
        priority=spec.priority,
        max_wait_s=spec.max_wait_s,
        refused_by=tuple(sorted(refused)),
        needs=tuple(need for need, wanted in ((IMAGES, spec.image), (SPARK, spec.spark)) if wanted),
        deadline_s=spec.deadline_s,
        max_cost=spec.max_cost,
        preemptible=spec.preemptible,
    )
