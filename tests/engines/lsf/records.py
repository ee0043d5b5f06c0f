"""What the stand-in knows: its configuration, its hosts and queues, and jobs as they are kept in the event log.

Names of the parameters are those of lsb.params, lsb.hosts and lsb.queues (IBM, LSF 10.1, "Configuration files").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

UNFINISHED = ("PEND", "PSUSP", "RUN", "USUSP", "SSUSP", "UNKWN", "PROV", "WAIT")
ON_HOSTS = ("RUN", "USUSP", "SSUSP", "UNKWN")
WAITING = ("PEND", "PSUSP")


@dataclass(frozen=True)
class Host:
    """A host: `slots` is MXJ, and its cores; a GPU is known by its model and its place in the list."""

    name: str
    group: str
    slots: int
    mem_mb: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Queue:
    """A queue: the hosts of one group. `task_limit` is TASKLIMIT, `users` those who may submit."""

    name: str
    group: str
    priority: int = 30
    task_limit: int | None = None
    users: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """Parameters. `unit` is LSF_UNIT_FOR_LIMITS; `run_grace_s` stands for the ten minutes after SIGUSR2 (bsub -W)."""

    hosts: tuple[Host, ...]
    queues: tuple[Queue, ...]
    default_queue: str
    cluster: str = "standin"
    applications: tuple[str, ...] = ("web",)
    clean_period_s: float = 3600.0
    turn_s: float = 0.05
    terminate_interval_s: float = 1.0
    run_grace_s: float = 1.0
    unit: str = "MB"
    max_pack_jobs: int = 0
    max_job_array: int = 1000
    reserve_per_task: bool = False
    first_id: int = 101

    def queue(self, name: str) -> Queue | None:
        """The queue of that name."""
        return next((queue for queue in self.queues if queue.name == name), None)

    def hosts_of(self, queue: Queue) -> tuple[Host, ...]:
        """Hosts of a queue, in order."""
        return tuple(host for host in self.hosts if host.group == queue.group)

    def save(self, path: Path) -> None:
        """Write it for the daemon."""
        path.write_text(json.dumps(asdict(self)))

    @staticmethod
    def load(path: Path) -> Config:
        """Read what `save` wrote."""
        found = json.loads(path.read_text())
        found["hosts"] = tuple(Host(**{**host, "gpus": tuple(host["gpus"])}) for host in found["hosts"])
        found["queues"] = tuple(Queue(**{**queue, "users": tuple(queue["users"])}) for queue in found["queues"])
        found["applications"] = tuple(found["applications"])
        return Config(**found)


@dataclass
class Job:
    """A job, or one element of an array (`index` above 0). Times are epoch seconds, memory is in MB."""

    id: int
    index: int
    name: str
    user: str
    queue: str
    command: str
    submitted_at: float
    cwd: str
    env: dict[str, str]
    script: str | None = None
    """What came on standard input; `command` shows it on one line."""
    description: str = ""
    project: str = "default"
    application: str = ""
    user_group: str = ""
    slots: int = 1
    requirements: list[str] = field(default_factory=list)
    gpu: str = ""
    hosts_asked: list[str] = field(default_factory=list)
    is_exclusive: bool = False
    is_rerunnable: bool = False
    run_limit_s: float | None = None
    mem_limit_mb: float | None = None
    output: str = ""
    output_overwrites: bool = False
    error: str = ""
    error_overwrites: bool = False
    input: str = ""
    state: str = "PEND"
    hosts: list[tuple[str, int]] = field(default_factory=list)
    """Slots taken, by host, in order."""
    gpus: dict[str, list[int]] = field(default_factory=dict)
    started_at: float | None = None
    ended_at: float | None = None
    pid: int | None = None
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    """`TERM_OWNER` and its like."""
    pend_reason: str = "New job is waiting for scheduling;"
    cpu_s: float = 0.0
    max_mem_mb: float = 0.0
    history: list[tuple[float, str]] = field(default_factory=list)
    starts: int = 0
    """How often it was dispatched: more than once where it is rerunnable."""

    @property
    def key(self) -> tuple[int, int]:
        """What names it."""
        return self.id, self.index

    @property
    def is_over(self) -> bool:
        """Whether it ended."""
        return self.state in ("DONE", "EXIT")

    @property
    def shown_name(self) -> str:
        """As JOB_NAME shows it."""
        return f"{self.name}[{self.index}]" if self.index else self.name

    @property
    def shown_id(self) -> str:
        """As messages show it."""
        return f"{self.id}[{self.index}]" if self.index else str(self.id)

    @property
    def title(self) -> str:
        """How the long formats begin."""
        return f"Job <{self.shown_id}>, Job Name <{self.shown_name}>, User <{self.user}>, Project <{self.project}>"

    def tell(self, at: float, text: str) -> None:
        """What bhist shows."""
        self.history.append((at, text))


class Events:
    """The event log: a job as it is now, at every change; read again when the daemon starts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.jobs: dict[tuple[int, int], Job] = {}
        self.last_id = 0
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    found = json.loads(line)
                except ValueError:
                    continue  # the end of what was being written when the daemon was killed
                self._take(found)
        self._file = path.open("a")

    def _take(self, found: dict[str, Any]) -> None:
        found["hosts"] = [(name, slots) for name, slots in found["hosts"]]
        found["history"] = [(at, text) for at, text in found["history"]]
        job = Job(**found)
        self.jobs[job.key] = job
        self.last_id = max(self.last_id, job.id)

    def save(self, jobs: Sequence[Job]) -> None:
        """Keep these as they are now."""
        for job in jobs:
            self.jobs[job.key] = job
            self.last_id = max(self.last_id, job.id)
        self._file.write("".join(json.dumps(asdict(job)) + "\n" for job in jobs))
        self._file.flush()
