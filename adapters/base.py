"""The contract between the broker and a site's scheduler: what a caller may count on, and what it must expect.

Everything that crosses it is a plain, serialisable value. The only errors an adapter raises are those below.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from topology.resources import Resources
from topology.room import Room

RunName = str
"""`<federation>-<job>-a<n>`, lower case: the run's identity at the site, for ever."""

NativeId = str
"""The site's own name for a run. An id alone never identifies a run: engines use them again."""


class AdapterError(Exception):
    """Base of what an adapter may raise."""


class Unreachable(AdapterError):
    """No answer, or no sense in it: the same call may succeed later, and may have had its effect."""


class Misconfigured(Unreachable):
    """It answered, or could not even be asked, because what we were told of it is wrong: a person has to mend our settings."""


class LoginFailed(Misconfigured):
    """It does not know us, or does not allow us what we asked; or our login is not where our settings say."""


class StaleEpoch(AdapterError):
    """The site has served a newer owner: this caller owns the site no more and must stop working it."""


class SiteState(StrEnum):
    """What the site says of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """A state we have no reading for. Never final."""

    @property
    def is_over(self) -> bool:
        """Whether the run will not change any more."""
        return self in (SiteState.SUCCEEDED, SiteState.FAILED, SiteState.CANCELLED)


class EndReason(StrEnum):
    """Why a run failed, as far as the engine tells. Names are those of a job's `retry.reasons`."""

    PROGRAM_FAILED = "program-failed"
    WALLTIME = "walltime"
    OUT_OF_MEMORY = "out-of-memory"
    NODE_LOST = "node-lost"
    PREEMPTED = "preempted"
    CLAIMED = "claimed"
    """Its claim existed already: another start of the same attempt, or the attempt was given up."""
    START_FAILED = "start-failed"
    """The program could not be started: no such command, image or working directory."""


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run that was submitted, or may have been."""

    name: RunName
    native_id: NativeId | None = None


SPARK_LEAST_GIB = 1.0
"""Of the container of a Spark application's driver or executor: Spark asks for a heap of 450 MiB, and 384 MiB are beside it."""


@dataclass(frozen=True, slots=True)
class Spark:
    """A Spark application. Memory is in GiB, and an executor's is all that it takes, what Spark calls overhead included. The
    driver is as large as a task of the run."""

    file: str
    """A Python file or a jar: a path below the site's storage, or a URL that the site can read."""
    main_class: str | None = None
    arguments: tuple[str, ...] = ()
    executors: int = 2
    executor_cpus: int = 1
    executor_memory_gib: float = 1.0
    conf: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt in engine-neutral terms. Paths are below the site's storage, as tasks there see it."""

    name: RunName
    federation: str
    job: str
    tenant: str
    tasks: int
    per_task: Resources
    pool: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    script: str | None = None
    """Body to run instead of `command`: written to a file of the run's own and executed by its `#!` line, or by sh."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Dataset name to the replica's path; a task sees each as `$FED_INPUTS/<name>`."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Dataset name to the path of a directory of this attempt's own; a task sees each as `$FED_OUTPUTS/<name>`."""
    walltime_s: float | None = None
    claim: str = ""
    """Path of the file that the run's first act creates exclusively, once per gang, and leaves if it is there."""
    image: str | None = None
    """Container image to run in; the site's default where there is none."""
    spark: Spark | None = None
    """A Spark application in place of `command` and `script`; it and an image come only to kinds that take them (`kinds.py`)."""
    native_id: NativeId | None = None
    """What `reserve` gave for it, stored before it was submitted."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The site has the run."""

    native_id: NativeId


@dataclass(frozen=True, slots=True)
class Refused:
    """The site will never take this run, and says why. It has no effect there."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """We cannot tell whether the site has the run until it is observed."""

    reason: str


Outcome = Accepted | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Report:
    """What the site says of one run. Times are epoch seconds by the site's clock."""

    name: RunName
    native_id: NativeId
    state: SiteState
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: EndReason | None = None
    message: str = ""
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """One listing of a site.

    `rooms` is, per pool, what this federation may use: free now plus what its own listed runs hold, so that it changes
    only when nodes or other people's work do. `is_whole` says that every run of the federation is in `reports`.
    """

    began_at: float
    is_whole: bool
    life: str
    """Changes when the engine started anew and may have forgotten."""
    reports: Mapping[RunName, Report] = field(default_factory=dict)
    rooms: Mapping[str, Room] = field(default_factory=dict)
    foreign: Collection[str] = ()
    """Names that look like ours and are not: reported, never touched."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls and until when: `epoch` is the owner's, `timeout_s` ends inside its lease. A site refuses a lower epoch."""

    epoch: int
    timeout_s: float


class Layer(StrEnum):
    """What a probe asks, each apart."""

    REACH = "reach"
    LOGIN = "login"
    SCHEDULER = "scheduler"
    STORAGE = "storage"


@dataclass(frozen=True, slots=True)
class Check:
    """One layer's answer to a probe. `is_misconfigured`: it answered, and says that our settings are wrong."""

    layer: Layer
    is_ok: bool
    latency_ms: float
    message: str = ""
    is_misconfigured: bool = False
    is_warning: bool = False
    """It is well, and `message` says what to mend all the same."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind can promise. Loops and placement ask these, never the kind."""

    unique_names: bool = False
    """A second submit of a name has no effect, whenever it arrives: no look-up is needed before sending again."""
    reserves: bool = False
    """Ids are handed out first: `reserve` is called, what it gave is stored, and `submit` gets it in `Run.native_id`."""
    history: bool = False
    """What left the listing can still be looked up."""
    refuses_stale_epochs: bool = False
    settling_s: float = 5.0
    """How long an accepted run may take to appear in listings."""


class SiteAdapter(Protocol):
    """One site's scheduler. A call repeated after a crash has no second effect. Every call raises `Unreachable` or
    `StaleEpoch` and nothing else."""

    capabilities: Capabilities

    async def reserve(self, names: Collection[RunName], call: Call) -> Mapping[RunName, NativeId]:
        """Ids to be stored before `submit`, where the engine hands them out first; empty elsewhere."""

    async def submit(self, runs: Sequence[Run], call: Call) -> Mapping[RunName, Outcome]:
        """Start each run or, where one of that name exists, return it. Every name given is answered."""

    async def observe(self, known: Collection[RunRef], call: Call) -> Observation:
        """Every run of this federation at the site and the room of each pool, in as few calls as the engine allows.

        What is known but not listed is looked up in the engine's history; what is nowhere is absent from `reports`.
        """

    async def cancel(self, runs: Collection[RunRef], call: Call) -> None:
        """Ask for them to stop; already over or unknown is not an error. Done only when an observation says so."""

    async def forget(self, runs: Collection[RunRef], call: Call) -> None:
        """Their end is stored: the site may clean up."""

    def logs(self, run: RunRef, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        """Output of one task from byte `offset` on; with `follow` until the task ends."""

    async def probe(self, timeout_s: float) -> Sequence[Check]:
        """Ask each layer; a failing layer is an answer, never an error. Layers behind a failing one are left out."""

    async def close(self) -> None:
        """Give back connections. Runs go on."""
