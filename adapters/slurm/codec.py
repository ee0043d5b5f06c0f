"""What Slurm says, in values that the command line and both REST dialects share, and what it means to the contract."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapters.base import EndReason, Report, Run, RunName, SiteState
from adapters.shell import exit_of
from adapters.slurm.settings import SlurmSettings
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

MIB_PER_GIB = 1024
CLOCK_STEP_S = 1.0
"""Slurm's times are whole seconds."""
LEAVE_SIGNALS: Mapping[EndReason, int] = {
    EndReason.WALLTIME: 59,
    EndReason.CLAIMED: 60,
    EndReason.START_FAILED: 61,
    EndReason.NODE_LOST: 62,
}
"""Real-time signals that nobody else uses: the batch shell ends itself with one of them, which REST, squeue and sacct tell alike
(an exit code over 128 is another one in sacct). A program that is ended by one of these is said to have exited with 128 + n."""
_LEFT = {number: reason for reason, number in LEAVE_SIGNALS.items()}
_STARTLESS = {EndReason.CLAIMED}
"""Slurm started these, the program never did."""
_PROVEN = {None, EndReason.PROGRAM_FAILED, EndReason.WALLTIME, EndReason.OUT_OF_MEMORY, EndReason.START_FAILED}
"""Ends that only a job that had its claim comes to."""

STATES: Mapping[str, SiteState] = {
    "PENDING": SiteState.QUEUED,
    "CONFIGURING": SiteState.QUEUED,
    "REQUEUED": SiteState.QUEUED,
    "REQUEUE_FED": SiteState.QUEUED,
    "REQUEUE_HOLD": SiteState.QUEUED,
    "RESV_DEL_HOLD": SiteState.QUEUED,
    "RUNNING": SiteState.RUNNING,
    "COMPLETING": SiteState.RUNNING,
    "RESIZING": SiteState.RUNNING,
    "SIGNALING": SiteState.RUNNING,
    "STAGE_OUT": SiteState.RUNNING,
    "STOPPED": SiteState.RUNNING,
    "SUSPENDED": SiteState.RUNNING,
    "COMPLETED": SiteState.SUCCEEDED,
    "BOOT_FAIL": SiteState.FAILED,
    "DEADLINE": SiteState.FAILED,
    "FAILED": SiteState.FAILED,
    "NODE_FAIL": SiteState.FAILED,
    "OUT_OF_MEMORY": SiteState.FAILED,
    "PREEMPTED": SiteState.FAILED,
    "TIMEOUT": SiteState.FAILED,
    "CANCELLED": SiteState.CANCELLED,
}
"""https://slurm.schedmd.com/job_state_codes.html"""
_REASONS = {
    "BOOT_FAIL": EndReason.NODE_LOST,
    "NODE_FAIL": EndReason.NODE_LOST,
    "OUT_OF_MEMORY": EndReason.OUT_OF_MEMORY,
    "PREEMPTED": EndReason.PREEMPTED,
    "TIMEOUT": EndReason.WALLTIME,
    "DEADLINE": EndReason.WALLTIME,
}
REFUSALS: Mapping[int, str] = {
    2000: "Invalid partition name specified",
    2001: "No partition specified or system default partition",
    2002: "Access/permission denied",
    2003: "User's group not permitted to use this partition",
    2004: "Requested nodes not in this partition",
    2005: "More processors requested than permitted",
    2006: "Node count specification invalid",
    2008: "Job size specification needs to be provided",
    2009: "Job script not specified",
    2010: "Invalid user id",
    2012: "Pathname of a file, directory or other parameter too long",
    2014: "Requested node configuration is not available",
    2023: "Task distribution specification invalid",
    2025: "Task count specification invalid",
    2029: "Invalid feature specification",
    2041: "Requested more tasks than available processors",
    2044: "Memory required by task is not available",
    2045: "Invalid account or account/partition combination specified",
    2048: "Invalid license specification",
    2051: "Requested time limit is invalid (missing or exceeds some limit)",
    2052: "Access denied to requested reservation",
    2053: "Requested reservation is invalid",
    2057: "Invalid wckey specification",
    2066: "Invalid qos specification",
    2069: "CPU count specification invalid",
    2072: "Invalid generic resource (gres) specification",
    2081: "Invalid job array specification",
    2099: "Invalid mcs_label specified",
    2102: "Duplicate generic resource (gres) specification",
    2114: "Job --batch option is invalid or not a subset of --constraints",
    2115: "Invalid Trackable RESource (TRES) specification",
    2119: "Invalid GRES specification (with and without type identification)",
    2122: "Requested GRES option unsupported by configured SelectType plugin",
    2124: "Invalid time-min specification (exceeds job's time or other limits)",
    2127: "Environment is missing in job",
    2133: "Invalid preferred feature specification",
}
"""Slurm's own words for what it will not take (slurm/slurm_errno.h, `slurm_strerror` of 22.05). Any other error may pass."""
_FLAGS_FIRST = ("COMPLETING", "CONFIGURING", "REQUEUED", "STAGE_OUT")
_UNUSABLE = {
    *("DOWN", "DRAIN", "DRAINED", "DRAINING", "ERROR", "FAIL", "FAILING", "FUTURE", "INVAL", "MAINT", "MAINTENANCE"),
    *("NOT_RESPONDING", "PERFCTRS", "REBOOT", "REBOOT_ISSUED", "REBOOT_REQUESTED", "UNKNOWN"),
}
"""Node states and flags with which a node takes no job (https://slurm.schedmd.com/sinfo.html#SECTION_NODE-STATE-CODES)."""
_RESERVED = {"RES", "RESERVED", "RESV"}
_GRES = re.compile(r"gpu(?::([^:,(]+))?:(\d+)")
_GROUP = re.compile(r"([^,\[]*)\[([^\]]*)\]([^,\[]*)|([^,]+)")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as Slurm lists it. `states` are upper case, base state and flags; times are epoch seconds, None for never."""

    id: str
    name: str
    user: str
    states: tuple[str, ...]
    reason: str = ""
    comment: str = ""
    restarts: int = 0
    status: int | None = 0
    """As of wait(2): exit code * 256, or the signal; None where Slurm does not tell."""
    submitted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    held: Mapping[str, Resources] = field(default_factory=dict)
    """What it holds, by node; of a job that is over, what it held."""

    @property
    def has_nodes(self) -> bool:
        """Whether nodes were ever given to it."""
        return bool(self.held)

    @property
    def identity(self) -> tuple[str, str, float | None]:
        """Ids are used again after a crash of the controller; with the name and the time of submission they are not."""
        return self.name, self.id, self.submitted_at


@dataclass(frozen=True, slots=True)
class Node:
    """A node as Slurm lists it. `states` are upper case; GPUs are by Slurm's types, "" where it has none."""

    name: str
    partitions: frozenset[str]
    states: frozenset[str]
    total: Resources
    used: Resources
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Listing:
    """All that Slurm says at one moment: the nodes first, then the jobs. `began_at` is before both, by the site's clock."""

    nodes: Sequence[Node]
    jobs: Sequence[Job]
    life: str
    began_at: float


@dataclass(frozen=True, slots=True)
class Tag:
    """What a job's comment says: whose it is, and why it left."""

    federation: str
    pool: str
    reason: EndReason | None = None
    message: str = ""


def tag_text(federation: str, pool: str) -> str:
    """The comment with which a run is submitted; the batch script adds a reason and a message."""
    return f"fed {federation} {pool}"


def tag_of(comment: str) -> Tag | None:
    """The reverse; None for a comment that is not ours."""
    word, federation, pool, reason, message = (*comment.split(" ", 4), "", "", "", "", "")[:5]
    if word != "fed" or not federation:
        return None
    return Tag(federation, pool, EndReason(reason) if reason in set(EndReason) else None, message)


def state_of(job: Job) -> SiteState:
    """A flag such as COMPLETING says more than the state it comes with; a word we do not know is unknown."""
    words = [word for word in _FLAGS_FIRST if word in job.states] or list(job.states)
    known = {STATES.get(word) for word in words[:1]}
    return known.pop() or SiteState.UNKNOWN if known else SiteState.UNKNOWN


def report_of(job: Job) -> Report:
    """What the contract says of the job."""
    state, tag = state_of(job), tag_of(job.comment)
    has_started = job.has_nodes and state is not SiteState.QUEUED
    code, number, reason, message = None, None, None, ""
    if state is SiteState.SUCCEEDED:
        code = 0
    elif state is SiteState.FAILED:
        code, number, reason, message = _failure(job, tag)
    elif state is SiteState.CANCELLED:
        number = (job.status or 0) & 0x7F or None
        if number in _LEFT:  # the script left while it was cancelled: no signal of anybody's
            number = None
    elif state in (SiteState.QUEUED, SiteState.UNKNOWN):
        message = f"Slurm: {'+'.join(job.states)} {job.reason}".strip()
    return Report(
        job.name,
        job.id,
        state,
        job.started_at if has_started and reason not in _STARTLESS else None,
        job.ended_at if state.is_over else None,
        code,
        number,
        reason,
        message,
        tag.pool if tag else "",
    )


def _failure(job: Job, tag: Tag | None) -> tuple[int | None, int | None, EndReason, str]:
    """Exit code, signal, reason and message of a job that failed."""
    said = f"Slurm: {'+'.join(job.states)} {job.reason}".strip()
    by_state = next((_REASONS[word] for word in job.states if word in _REASONS), None)
    if by_state:
        return None, None, by_state, said
    if job.status is None:
        return None, None, EndReason.PROGRAM_FAILED, "Slurm's accounting does not tell its exit code here"
    number, code = job.status & 0x7F, job.status >> 8
    if _LEFT.get(number) is EndReason.CLAIMED and job.restarts:
        return None, None, EndReason.NODE_LOST, "Slurm started it again after it lost its node: that start left"
    if number in _LEFT:
        return None, None, _LEFT[number], tag.message if tag and tag.message else said
    if not job.status:
        return None, None, EndReason.NODE_LOST, said
    return (None, number, EndReason.PROGRAM_FAILED, "") if number else (code, None, EndReason.PROGRAM_FAILED, "")


def was_refused(job: Job) -> bool:
    """Slurm leaves a failed job behind where it refused one, without nodes and mostly for BadConstraints
    (https://slurm.schedmd.com/job_reason_codes.html): it never was."""
    return "FAILED" in job.states and not job.has_nodes


def best(reports: Iterable[tuple[Job, Report]]) -> Report:
    """Of several jobs of one name, the one that has the run: only one gets the claim."""
    return min(reports, key=_rank)[1]


def _rank(pair: tuple[Job, Report]) -> tuple[int, float, int]:
    job, report = pair
    if report.state.is_over:
        is_proven = report.state is not SiteState.CANCELLED and report.reason in _PROVEN
        rank = 0 if is_proven else 5 if report.reason is EndReason.CLAIMED else 4
    else:
        rank = {SiteState.RUNNING: 1, SiteState.QUEUED: 2}.get(report.state, 3)
    return rank, job.submitted_at or 0.0, int(job.id)


def reports_of(jobs: Iterable[Job], federation: str) -> dict[RunName, Report]:
    """By name, what is ours."""
    by_name: dict[RunName, list[tuple[Job, Report]]] = {}
    for job in jobs:
        if is_ours(job, federation) and not was_refused(job):
            by_name.setdefault(job.name, []).append((job, report_of(job)))
    return {name: best(found) for name, found in by_name.items()}


def reports_of_past(jobs: Iterable[Job], federation: str) -> dict[RunName, Report]:
    """As `reports_of`, from accounting, which need not have kept the comment: of our names that we asked for by name."""
    tagged = (job if job.comment else replace(job, comment=tag_text(federation, "")) for job in jobs)
    return reports_of(tagged, federation)


def report_of_note(name: RunName, note: str) -> Report | None:
    """What a run noted of its end (`batch.end_path`); None for half a note."""
    found = re.fullmatch(r"(\d+) (\d+) (\d+) (\d+)\n", note)
    if not found:
        return None
    job, code, began, ended = map(int, found.groups())
    exit_code, number = exit_of(code)
    state, reason = (SiteState.FAILED, EndReason.PROGRAM_FAILED) if code else (SiteState.SUCCEEDED, None)
    return Report(name, str(job), state, began, ended, exit_code, number, reason)


def is_ours(job: Job, federation: str) -> bool:
    """By name and comment: federations may share a user, and the name of one may begin with another's."""
    tag = tag_of(job.comment)
    return tag is not None and tag.federation == federation and looks_like_ours(job.name, federation)


def looks_like_ours(name: str, federation: str) -> bool:
    """By name alone."""
    return name.startswith(f"{federation}-")


def foreign_names(jobs: Iterable[Job], federation: str) -> tuple[str, ...]:
    """Names of jobs that look like ours and are not."""
    return tuple(
        sorted({job.name for job in jobs if looks_like_ours(job.name, federation) and not is_ours(job, federation)})
    )


def rooms_of(listing: Listing, federation: str, pools: Collection[Pool], settings: SlurmSettings) -> dict[str, Room]:
    """Per pool: its nodes that take jobs, less what others hold there. What of ours ended between the listing of the nodes and
    that of the jobs still counts as ours."""
    ours: dict[str, Resources] = {}
    for job in listing.jobs:
        if is_ours(job, federation) and (not state_of(job).is_over or (job.ended_at or 0.0) >= listing.began_at - CLOCK_STEP_S):
            for node, amount in job.held.items():
                ours[node] = ours.get(node, Resources()) + amount
    types = {word: name for name, word in settings.gpus.items()}
    return {
        pool.name: Room.of(
            (_renamed(_without(node.total, _without(node.used, ours.get(node.name, Resources()))), types), 1)
            for node in listing.nodes
            if _serves(node, settings, pool.name)
        )
        for pool in pools
    }


def _serves(node: Node, settings: SlurmSettings, pool: str) -> bool:
    place = settings.place_of(pool)
    wanted = set(place.constraint.split("&")) if place.constraint and re.fullmatch(r"[\w.&-]+", place.constraint) else set()
    unusable = _UNUSABLE if place.reservation else _UNUSABLE | _RESERVED
    return place.partition in node.partitions and not node.states & unusable and wanted <= node.features


def _without(amount: Resources, other: Resources) -> Resources:
    """The difference, nothing of it below zero."""
    left = amount - other
    return Resources.of(max(left.cpus, 0), max(left.memory_gib, 0), {kind: n for kind, n in left.gpus if n > 0})


def _renamed(amount: Resources, types: Mapping[str, str]) -> Resources:
    return Resources.of(amount.cpus, amount.memory_gib, {types.get(kind, kind): count for kind, count in amount.gpus})


def objection(run: Run, pools: Collection[Pool]) -> str:
    """Why the site cannot ever take the run; empty when it can."""
    pool = next((pool for pool in pools if pool.name == run.pool), None)
    if pool is None:
        return f"the site has no pool {run.pool}"
    if run.tasks < 1:
        return f"a run has at least one task, not {run.tasks}"
    if not run.per_task.fits(pool.per_node):
        return f"a task takes {run.per_task}, a node of {pool.name} has {pool.per_node}"
    if pool.empty.fit(run.per_task) < run.tasks:
        return f"{run.tasks} tasks of {run.per_task} do not fit pool {pool.name}"
    words = (*run.command, *run.env, *run.env.values(), run.script or "")
    return "a zero byte in the command, the script or the environment" if any("\0" in word for word in words) else ""


def gpus_from_gres(text: str) -> dict[str, int]:
    """`gpu:a100:2(S:0-1),gpu:h100:1` and `gpu:2` to counts by type."""
    counts: dict[str, int] = {}
    for kind, count in _GRES.findall(text):
        counts[kind] = counts.get(kind, 0) + int(count)
    return counts


def expand_hosts(text: str) -> list[str]:
    """`n[1-3,07],gpu1` to names. One pair of brackets to a name is read, which is what Slurm writes for all but grids."""
    names: list[str] = []
    for before, inside, after, plain in _GROUP.findall(text):
        if plain:
            names.append(plain)
        for part in filter(None, inside.split(",")):
            first, _, last = part.partition("-")
            last = last or first
            names += [f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]
    return names


def mib_per_cpu(per_task: Resources) -> int:
    """Memory of each of a task's cpus in MiB, rounded down so that a whole node's worth fits the node; 0 for none asked."""
    return int(per_task.memory_gib * MIB_PER_GIB // whole_cpus(per_task))


def whole_cpus(per_task: Resources) -> int:
    """Slurm hands out whole cpus, and at least one."""
    return max(1, -int(-per_task.cpus // 1))


def lacking(partitions: Sequence[str]) -> str:
    """What is wrong where our settings name these and Slurm has none of them; empty for none."""
    cure = "set pools.<pool>.partition to one that sinfo lists"
    return f"Slurm has no partition {', '.join(partitions)}: {cure}" if partitions else ""
