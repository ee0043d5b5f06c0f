"""What is so with a run: LSF's word for its job, and what the job itself told, as one report. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from adapters.base import EndReason, Report, SiteState, Unreachable
from adapters.lsf.codec import Job
from adapters.shell import exit_of

SETTLES_S = 120.0
"""How long what a job told may stay unseen at the machine of the commands: caches of network file systems, LSF's minutes."""

_STATES: Mapping[str, SiteState] = {
    "PEND": SiteState.QUEUED,
    "PROV": SiteState.QUEUED,
    "PSUSP": SiteState.QUEUED,
    "WAIT": SiteState.QUEUED,
    "RUN": SiteState.RUNNING,
    "USUSP": SiteState.RUNNING,
    "SSUSP": SiteState.RUNNING,
    "DONE": SiteState.SUCCEEDED,
    "EXIT": SiteState.FAILED,
}
"""https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_admin/job_states.html. UNKWN and ZOMBI say that LSF lost sight of the host: what
ran there may run still, so they are unknown."""

_CANCELLED = {"TERM_OWNER", "TERM_FORCE_OWNER", "TERM_ADMIN", "TERM_FORCE_ADMIN", "TERM_BUCKET_KILL"}
_REASONS: Mapping[str, EndReason] = {
    "TERM_RUNLIMIT": EndReason.WALLTIME,
    "TERM_DEADLINE": EndReason.WALLTIME,
    "TERM_MEMLIMIT": EndReason.OUT_OF_MEMORY,
    "TERM_SWAP": EndReason.OUT_OF_MEMORY,
    "TERM_PREEMPT": EndReason.PREEMPTED,
    "TERM_LOAD": EndReason.PREEMPTED,
    "TERM_WINDOW": EndReason.PREEMPTED,
    "TERM_REQUEUE_OWNER": EndReason.PREEMPTED,
    "TERM_REQUEUE_ADMIN": EndReason.PREEMPTED,
    "TERM_REQUEUE_RC": EndReason.PREEMPTED,
    "TERM_RC_RECLAIM": EndReason.PREEMPTED,
    "TERM_ZOMBIE": EndReason.NODE_LOST,
    "TERM_REMOVE_HUNG_JOB": EndReason.NODE_LOST,
    "TERM_RMS": EndReason.NODE_LOST,
    "TERM_SLURM": EndReason.NODE_LOST,
    "TERM_CSM_ALLOC": EndReason.NODE_LOST,
    "TERM_CWD_NOTEXIST": EndReason.START_FAILED,
}
"""https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_admin/job_exit_reason_logged.html. Others are the program's own affair."""

_TIME = re.compile(r"(?:[A-Z][a-z]{2} )?([A-Z][a-z]{2}) +(\d{1,2}) (\d\d):(\d\d)(?::(\d\d))?(?: (\d{4}))?(?: [A-Z])?")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(slots=True)
class Told:
    """What one job wrote into its record. Times are epoch seconds of the host it ran on."""

    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    left: EndReason | None = None
    message: str = ""
    has_run_out: bool = False
    """Whether its own clock ended it."""
    is_failed: bool = False
    """Whether it ended itself because a task failed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the jobs of a federation told until now: the site's time, records and forgotten jobs by `<run>@<id>`."""

    now: float
    told: Mapping[str, Told] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()


def seen_of(text: str) -> Seen:
    """What `script.READ` printed. Raises Unreachable where that is not it; a line that a crash cut short is left out."""
    head, _, tail = text.partition("\n--\n")
    first, *forgotten = head.splitlines() or [""]
    if not first.isdecimal():
        raise Unreachable(f"the site's records cannot be read: {first[:200]!r}")
    told: dict[str, Told] = {}
    for line in tail.splitlines():
        found = re.fullmatch(r"\./([^:]+):(\d+(?:\.\d+)?) (\w+) ?(.*)", line)
        if found:
            _tell(told.setdefault(found[1], Told()), float(found[2]), found[3], found[4])
    return Seen(float(first), told, frozenset(forgotten))


def _tell(told: Told, at: float, word: str, rest: str) -> None:
    match word:
        case "started":
            told.started_at = at
        case "left":
            reason, _, message = rest.partition(" ")
            told.ended_at = at
            if reason == EndReason.CLAIMED and told.started_at is not None:
                told.left, told.message = EndReason.NODE_LOST, "LSF started it again after its host was lost"
            else:
                told.left = EndReason(reason) if reason in set(EndReason) else EndReason.START_FAILED
                told.message = message
        case "walltime":
            told.has_run_out = True
        case "failed":
            told.is_failed = True
        case "ended" if rest.isdecimal():
            told.ended_at, told.exit_code = at, int(rest)


def report_of(job: Job, told: Told | None, now: float) -> Report:
    """One job of ours. `now` is the site's time."""
    told = told or Told()
    state = _STATES.get(job.stat, SiteState.UNKNOWN)
    began, ended = epoch(job.start_time, now), epoch(job.finish_time, now)
    if state is SiteState.UNKNOWN:
        return Report(job.name, job.id, state, told.started_at, message=f"LSF says {job.stat}", pool=job.pool)
    if not state.is_over:
        return _going(job, told, state, began, now)
    if told.left is not None:
        return _failed(job, None, told.ended_at, None, told.left, told.message)
    started = told.started_at
    if started is None and began is not None:
        if state is SiteState.FAILED and not _term(job) and now - (ended or began) > SETTLES_S:
            message = f"its script did not begin: its host cannot write to the site's storage, or failed. {_why(job)}"
            return _failed(job, None, ended, None, EndReason.NODE_LOST, message)
        if not _term(job) and now - (ended or began) <= SETTLES_S:
            message = "it is over, and its record is not seen yet"
            return Report(job.name, job.id, SiteState.UNKNOWN, message=message, pool=job.pool)
        started = began
    # LSF tells whole minutes; what the job itself told is exact, and its end is never before its start
    last = told.ended_at if told.ended_at is not None else max(filter(None, (ended, started)), default=None)
    code = told.exit_code if told.exit_code is not None else _code(job)
    return _ended(job, told, state, started, last, code)


def _going(job: Job, told: Told, state: SiteState, began: float | None, now: float) -> Report:
    """A job that is not over. It counts as running once its program does."""
    if state is SiteState.RUNNING and told.started_at is None and (began is None or now - began < SETTLES_S):
        return Report(job.name, job.id, SiteState.QUEUED, message="its script begins", pool=job.pool)
    if state is SiteState.RUNNING:
        started = told.started_at if told.started_at is not None else began
        message = "" if job.stat == "RUN" else f"suspended ({job.stat})"
        return Report(job.name, job.id, state, started, message=message, pool=job.pool)
    return Report(job.name, job.id, state, message=job.pend_reason, pool=job.pool)


def _ended(job: Job, told: Told, state: SiteState, started: float | None, last: float | None, code: int | None) -> Report:
    # a signal is told as shells tell it: https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_admin/job_exit_info.html
    exit_code, signal = (None, None) if code is None else exit_of(code)
    term = _term(job)
    if told.has_run_out:
        return _failed(job, started, last, (exit_code, signal), EndReason.WALLTIME, "its walltime passed")
    if told.is_failed:
        return _failed(job, started, last, (exit_code, signal), EndReason.PROGRAM_FAILED, "a task failed")
    if term in _CANCELLED:
        return Report(job.name, job.id, SiteState.CANCELLED, started, last, exit_code, signal, None, _why(job), job.pool)
    if state is SiteState.SUCCEEDED:
        return Report(job.name, job.id, state, started, last, 0, pool=job.pool)
    reason = _REASONS.get(term, EndReason.PROGRAM_FAILED)
    return _failed(job, started, last, (exit_code, signal), reason, _why(job))


def _failed(
    job: Job,
    started: float | None,
    ended: float | None,
    how: tuple[int | None, int | None] | None,
    reason: EndReason,
    message: str,
) -> Report:
    code, signal = how or (None, None)
    return Report(job.name, job.id, SiteState.FAILED, started, ended, code, signal, reason, message, job.pool)


def _term(job: Job) -> str:
    """LSF's word for why it ended a job; empty where it did not, or does not know."""
    word = job.exit_reason.partition(":")[0].strip()
    return "" if word in ("-", "TERM_UNKNOWN") else word


def _why(job: Job) -> str:
    return "" if job.exit_reason in ("", "-") else job.exit_reason


def _code(job: Job) -> int | None:
    """LSF leaves the code empty for 0 and for jobs that it ended."""
    return int(job.exit_code) if job.exit_code.isdecimal() else None


def report_of_record(name: str, native_id: str, told: Told) -> Report | None:
    """A job that LSF lists no more and that told its end; None for one that did not."""
    if told.left is not None:
        return Report(name, native_id, SiteState.FAILED, None, told.ended_at, None, None, told.left, told.message)
    if told.exit_code is None or told.ended_at is None:
        return None
    exit_code, signal = exit_of(told.exit_code)
    how = (told.started_at, told.ended_at, exit_code, signal)
    if told.exit_code == 0:
        return Report(name, native_id, SiteState.SUCCEEDED, *how)
    reason = EndReason.WALLTIME if told.has_run_out else EndReason.PROGRAM_FAILED
    return Report(name, native_id, SiteState.FAILED, *how, reason, "LSF lists it no more; its own record says so")


def the_one(reports: Sequence[Report]) -> Report:
    """Which of the jobs of one name is the run: names are not unique, but one start has the claim. That one, else one that may
    still take it, else the first."""

    def rank(report: Report) -> tuple[bool, bool, bool, int]:
        is_claimed_by_other = report.reason is EndReason.CLAIMED
        has_begun = report.started_at is not None
        return is_claimed_by_other, not has_begun, report.state.is_over, _number(report.native_id)

    return min(reports, key=rank)


def _number(native_id: str) -> int:
    return int(native_id.partition("[")[0]) if native_id.partition("[")[0].isdecimal() else 0


def by_name(reports: Iterable[Report]) -> dict[str, Report]:
    """One report for each run."""
    groups: dict[str, list[Report]] = {}
    for report in reports:
        groups.setdefault(report.name, []).append(report)
    return {name: the_one(group) for name, group in groups.items()}


def epoch(text: str, now: float) -> float | None:
    """A time of `bjobs` run with UTC as its zone, in epoch seconds: `Oct 28 12:45`, with or without seconds, year and a mark of
    how an end is known (`L`, `E`, `X`). The year that is not told is the one that brings it nearest to `now`."""
    found = _TIME.fullmatch(text)
    if not found or found[1] not in _MONTHS:
        return None
    this_year = datetime.fromtimestamp(now, UTC).year
    years = [int(found[6])] if found[6] else [this_year - 1, this_year, this_year + 1]
    month, day, hour, minute, second = _MONTHS.index(found[1]) + 1, *map(int, (found[2], found[3], found[4], found[5] or 0))
    times = [at for year in years if (at := _utc(year, month, day, hour, minute, second)) is not None]
    return min(times, key=lambda at: abs(at - now), default=None)


def _utc(*parts: int) -> float | None:
    """Epoch seconds; None for the 29th of February of a year that has none."""
    try:
        return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]
    except ValueError:
        return None
