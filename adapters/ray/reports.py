"""What is said of a run, from its job and from what its runner told. Pure.

States: https://docs.ray.io/en/latest/cluster/running-applications/job-submission/doc/ray.job_submission.JobStatus.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from adapters.base import EndReason, Report, SiteState
from adapters.ray.codec import POOL, Job, tasks_of

MARK = "@fed "
ALIEN_END = {
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT": (
        EndReason.PREEMPTED,
        "it got no place in the time that Ray lets a job wait: raise RAY_JOB_START_TIMEOUT_SECONDS where the head is started",
    ),
    "RUNTIME_ENV_SETUP_FAILURE": (EndReason.START_FAILED, "Ray could not make its runtime environment"),
    "JOB_ENTRYPOINT_COMMAND_START_ERROR": (EndReason.START_FAILED, "Ray could not start its first process"),
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": (EndReason.NODE_LOST, "its place is gone"),
    "JOB_SUPERVISOR_ACTOR_START_FAILURE": (EndReason.NODE_LOST, "Ray could not start it"),
    "JOB_SUPERVISOR_ACTOR_DIED": (EndReason.NODE_LOST, "the process of Ray's that watched it is gone"),
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE": (EndReason.NODE_LOST, "Ray lost sight of it"),
}
"""Ends that the runner cannot tell of, by `error_type`."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a runner told so far. `began` is seconds since the epoch; `at` has the node of each task of a gang; `end` is its last
    word."""

    began: float | None = None
    at: tuple[str, ...] = ()
    end: Mapping[str, Any] | None = None


def told_in(text: str) -> Told:
    """What is said in a job's log, or in the end of one. A line that was cut or is not ours says nothing. A log may hold an
    earlier start of the same name: what comes after an end begins anew."""
    told = Told()
    for line in text.splitlines():
        if not line.startswith(MARK):
            continue
        try:
            words = json.loads(line[len(MARK) :])
        except ValueError:
            continue
        if not isinstance(words, dict):
            continue
        if told.end is not None:
            told = Told()
        if isinstance(words.get("at"), list):
            told = replace(told, at=tuple(map(str, words["at"])))
        elif "ended" in words:
            told = replace(told, end=words, began=told.began or _number(words.get("began")))
        elif "began" in words:
            told = replace(told, began=_number(words["began"]))
    return told


def is_worth_reading(job: Job, told: Told | None, waiting: bool) -> bool:
    """Whether the job's log may say what is not known yet. `waiting`: its gang has no places."""
    if told is None:
        told = Told()
    if job.driver_node_id is None or told.end is not None or waiting:
        return False
    if job.status == "FAILED":
        return told_in(job.message or "").end is None and job.error_type == "JOB_ENTRYPOINT_COMMAND_ERROR"
    return job.is_over or told.began is None


def report_of(job: Job, told: Told) -> Report:
    """The report of one of our runs."""
    report = Report(job.name, job.name, SiteState.UNKNOWN, started_at=told.began, pool=job.said(POOL))
    match job.status:
        case "PENDING":
            return replace(report, state=SiteState.QUEUED, started_at=None)
        case "RUNNING" if told.began is None:
            return replace(report, state=SiteState.QUEUED)
        case "RUNNING":
            return replace(report, state=SiteState.RUNNING)
        case "SUCCEEDED":
            return replace(_ended(report, job, told), state=SiteState.SUCCEEDED, exit_code=0)
        case "STOPPED":
            end = told.end or {}
            return replace(_ended(report, job, told), state=SiteState.CANCELLED, signal=_whole(end.get("signal")))
        case "FAILED":
            last = told_in(job.message or "")
            told = last if last.end is not None else told
            return _failed(_ended(replace(report, started_at=told.began), job, told), job, told)
        case unknown:
            return replace(report, message=f"Ray says {unknown}")


def was_taken_too_soon(job: Job) -> bool:
    """Whether Ray took the end of an earlier job of this name, which was deleted a moment before, for the end of this one. Its
    supervisor then never starts anything, and holds its place until somebody ends it."""
    died = job.error_type == "JOB_SUPERVISOR_ACTOR_DIED" and "INTENDED_USER_EXIT" in (job.message or "")
    return job.status == "FAILED" and died and job.driver_node_id is None


def _ended(report: Report, job: Job, told: Told) -> Report:
    ended = _number((told.end or {}).get("ended")) or (job.end_time or 0) / 1000 or None
    if ended is not None and report.started_at is not None:
        ended = max(ended, report.started_at)
    return replace(report, ended_at=ended)


def _failed(report: Report, job: Job, told: Told) -> Report:
    report = replace(report, state=SiteState.FAILED)
    message = job.message or ""
    if not told.end:
        return _failed_untold(report, job, message)
    end = told.end
    if end.get("cancelled"):
        return replace(report, state=SiteState.CANCELLED, signal=_whole(end.get("signal")))
    report = replace(report, exit_code=_whole(end.get("code")), signal=_whole(end.get("signal")))
    try:
        reason = EndReason(end["reason"]) if "reason" in end else EndReason.PROGRAM_FAILED
    except ValueError:
        reason = EndReason.PROGRAM_FAILED
    if reason in (EndReason.CLAIMED, EndReason.START_FAILED, EndReason.NODE_LOST, EndReason.OUT_OF_MEMORY):
        report = replace(report, exit_code=None, signal=None)
    return replace(report, reason=reason, message=str(end.get("message", "")))


def _failed_untold(report: Report, job: Job, message: str) -> Report:
    if was_taken_too_soon(job):
        words = "its name was taken again while Ray was not done with the job that had it before"
        return replace(report, reason=EndReason.CLAIMED, message=words)
    if job.error_type in ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"):
        if "ray.kill" in message:
            return replace(report, state=SiteState.CANCELLED)
        if "OutOfMemory" in message or "memory monitor" in message or "running low on memory" in message:
            return replace(report, reason=EndReason.OUT_OF_MEMORY, message=_short(message))
    if job.error_type in ALIEN_END:
        reason, words = ALIEN_END[job.error_type]
        return replace(report, reason=reason, message=f"{words}: {_short(message)}")
    code = job.driver_exit_code
    if code in (126, 127):
        words = "the runner could not be started: see the setting `python`"
        return replace(report, reason=EndReason.START_FAILED, message=f"{words}: {_short(message)}")
    if tasks_of(job) > 1 and code == 1:
        return replace(report, reason=EndReason.START_FAILED, message=f"the gang could not be led: {_short(message)}")
    return replace(report, reason=EndReason.NODE_LOST, message=f"its first process ended with {code}: {_short(message)}")


def _short(message: str) -> str:
    """The end of it, in one line."""
    return " ".join(message.split())[-400:]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None
