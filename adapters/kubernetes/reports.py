"""A Job of ours and its pods as what the contract calls a report. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from adapters.base import EndReason, Report, SiteState
from adapters.kubernetes.codec import CANCELLED, CONTAINER, CONTROLLER_UID, GIVEN_UP, INDEX_LABEL, POOL
from adapters.kubernetes.script import CAUSE_GANG, CAUSE_WALLTIME, ENDED, LEFT
from adapters.kubernetes.seen import Job, Pod, Terminated
from adapters.shell import exit_of

LOST_S = 15.0
"""After the moment at which a pod on a lost node should have been gone."""
PHASES = ("Pending", "Running", "Succeeded", "Failed")
_OVER = ("Succeeded", "Failed")
NEVER_PULLED = ("InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "CreateContainerConfigError")
"""Why a container waits that no time will mend: https://kubernetes.io/docs/concepts/containers/images/"""
PULLED_LATER = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "CreateContainerError", "RunContainerError")
_NOT_STARTED = ("StartError", "ContainerCannotRun")
DISRUPTIONS = {
    "PreemptionByScheduler": EndReason.PREEMPTED,
    "EvictionByEvictionAPI": EndReason.PREEMPTED,
    "DeletionByTaintManager": EndReason.NODE_LOST,
    "DeletionByPodGC": EndReason.NODE_LOST,
    "TerminationByKubelet": EndReason.PREEMPTED,
}
"""https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions"""
VOLCANO_INDEX_LABEL, VOLCANO_NAME = "volcano.sh/task-index", "volcano.sh/job-name"
"""Labels, or annotations before they were labels, that Volcano gives its pods, which are named `<job>-<task>-<index>`."""
_SHUT_DOWN = ("NodeShutdown", "Shutdown", "Terminated", "NodeLost", "NodeAffinity", "UnexpectedAdmissionError")


@dataclass(frozen=True, slots=True)
class End:
    """How one task ended. Times are epoch seconds; `started_at` is None for a program that never ran."""

    index: int
    at: float
    started_at: float | None
    exit_code: int | None = None
    signal: int | None = None
    reason: EndReason | None = None
    message: str = ""
    is_by_gang: bool = False
    """Another task of its gang had failed before."""


def uid_of_job(pod: Pod) -> str:
    """The uid of the Job that this pod is a task of; empty for other pods."""
    uid = pod.metadata.labels.get(CONTROLLER_UID) or pod.metadata.labels.get("controller-uid", "")
    return uid or next((owner.uid for owner in pod.metadata.owner_references if owner.controller), "")


def index_of(pod: Pod) -> int:
    """Which task this pod is; -1 where nothing says so."""
    told = {**pod.metadata.annotations, **pod.metadata.labels}
    text = told.get(INDEX_LABEL) or told.get(VOLCANO_INDEX_LABEL, "")
    if not text and VOLCANO_NAME in told:
        text = pod.metadata.name.rpartition("-")[2]
    return int(text) if text.isascii() and text.isdigit() else -1


def is_over(pod: Pod) -> bool:
    """Whether the pod will not change any more."""
    return pod.status.phase in _OVER


def started_at(pod: Pod) -> float | None:
    """When its program, or the wait for the rest of its gang, began."""
    for status in pod.status.container_statuses:
        if status.name != CONTAINER:
            continue
        if status.state.running is not None:
            return status.state.running.started_at
        ended = status.state.terminated
        if ended is not None and ended.reason not in _NOT_STARTED:
            return ended.started_at
    return None


def stuck(pod: Pod) -> tuple[str, bool]:
    """Why its container cannot start, in words, and whether it never will; an empty text where nothing stands in its way."""
    for status in pod.status.container_statuses:
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in NEVER_PULLED + PULLED_LATER:
            words = f"{waiting.reason}: {waiting.message}" if waiting.message else waiting.reason
            return words, waiting.reason in NEVER_PULLED
    return "", False


def is_lost(pod: Pod, now: float) -> bool:
    """Whether its node was given up, and has not told of its end since it should have been over. Kubernetes waits for that node
    for ever; we do not, though what ran there may go on. `now` is in epoch seconds."""
    gone_by = pod.metadata.deletion_timestamp
    disruption = _disruption(pod)
    is_given_up = disruption is not None and disruption[0] is EndReason.NODE_LOST
    return not is_over(pod) and is_given_up and gone_by is not None and now > gone_by + LOST_S


def report_of(job: Job, pods: Collection[Pod], departed: Collection[Pod], now: float = 0.0) -> Report:
    """The report of a Job: `pods` are those that are there, `departed` as they were last seen before they were removed."""
    tasks = job.spec.completions or 1
    lost = [pod for pod in pods if is_lost(pod, now)]
    alive = [pod for pod in pods if not is_over(pod) and pod not in lost]
    ends = [end_of(pod) for pod in (*pods, *departed) if is_over(pod)]
    starts = {index_of(pod): at for pod in (*pods, *departed) if (at := started_at(pod)) is not None}
    began = max(starts.values()) if len(starts) >= tasks else None
    if any(end.started_at is None for end in ends):
        began = None  # the program never ran
    base = Report(job.metadata.name, job.metadata.uid, SiteState.QUEUED, began, pool=job.metadata.annotations.get(POOL, ""))
    odd = {pod.status.phase for pod in pods} - {*PHASES}
    if odd or job.status.odd:
        words = f"a pod is {', '.join(sorted(odd))}" if odd else f"its Job is {job.status.odd}"
        return _with(base, SiteState.UNKNOWN, message=words)
    if job.status.has("Complete") or len({end.index for end in ends if end.exit_code == 0}) >= tasks:
        at = max((end.at for end in ends), default=job.status.completion_time or job.metadata.creation_timestamp or 0.0)
        return _with(base, SiteState.SUCCEEDED, began or job.status.start_time, at, exit_code=0)
    is_told = job.status.has("Failed") is not None or len({end.index for end in ends}) >= tasks
    # only once the controller says that it has suspended the Job will it start no more of it
    is_stopped = {CANCELLED, GIVEN_UP} & job.metadata.annotations.keys() and job.status.has("Suspended") is not None
    if alive or job.status.terminating > len(lost) or not (is_told or is_stopped or lost):
        state = SiteState.RUNNING if began is not None else SiteState.QUEUED
        return _with(base, state, message="" if began is not None else _waits(job, alive))
    return _failed(job, base, ends, [*pods, *departed])


def _failed(job: Job, base: Report, ends: Sequence[End], pods: Sequence[Pod]) -> Report:
    """Of a Job that is over and did not succeed."""
    failed = job.status.has("Failed")
    at = max((end.at for end in ends), default=None) or (failed.last_transition_time if failed else None) or _suspended_at(job)
    cause = min((end for end in ends if end.exit_code != 0), key=lambda end: (end.is_by_gang, end.at, end.index), default=None)
    if CANCELLED in job.metadata.annotations:
        signal = cause.signal if cause else None
        return _with(base, SiteState.CANCELLED, base.started_at, at, signal=signal, message=job.metadata.annotations[CANCELLED])
    if GIVEN_UP in job.metadata.annotations:
        reason, _, words = job.metadata.annotations[GIVEN_UP].partition(" ")
        known = EndReason(reason) if reason in set(EndReason) else EndReason.NODE_LOST
        return _with(base, SiteState.FAILED, base.started_at, at, reason=known, message=words)
    for pod in pods:
        disruption = _disruption(pod)
        if disruption is not None:
            reason, message = disruption
            return _with(base, SiteState.FAILED, base.started_at, at, reason=reason, message=message)
    if cause is not None:
        words = cause.message or f"task {cause.index} failed"
        return Report(
            base.name, base.native_id, SiteState.FAILED, base.started_at, max(at or 0.0, cause.at), cause.exit_code, cause.signal,
            cause.reason, words, base.pool,
        )  # fmt: skip
    if failed is None:
        return _with(base, SiteState.UNKNOWN, message="its pods are gone, and its Job does not say how it ended")
    return _with(base, SiteState.FAILED, base.started_at, at, reason=_told(failed.reason, failed.message), message=failed.message)


def end_of(pod: Pod) -> End:
    """How the task of a pod that is over ended."""
    status = next((each for each in pod.status.container_statuses if each.name == CONTAINER), None)
    ended = status.state.terminated if status is not None else None
    index = index_of(pod)
    if ended is None:
        # the node never told: it was lost, or the pod was turned away before its container was made
        at = max((each.last_transition_time or 0.0 for each in pod.status.conditions), default=0.0)
        disruption = _disruption(pod) or (EndReason.NODE_LOST, pod.status.message or pod.status.reason)
        return End(index, at, None, None, None, *disruption)
    at = ended.finished_at or 0.0
    word, _, rest = ended.message.partition(" ")
    if word == LEFT:
        reason, _, message = rest.partition(" ")
        is_known = reason in {*EndReason}
        return End(index, at, None, None, None, EndReason(reason) if is_known else None, message if is_known else ended.message)
    if ended.reason in _NOT_STARTED:
        return End(index, at, None, None, None, EndReason.START_FAILED, ended.message or ended.reason)
    code, took, cause = _of_program(ended) if word == ENDED else (ended.exit_code, 0.0, "")
    # seconds are all that Kubernetes tells of times: no program ends before its own length has passed
    at = max(at, (ended.started_at or at) + took)
    exit_code, signal = exit_of(code)
    if pod.status.phase == "Succeeded":
        return End(index, at, ended.started_at, 0)
    if cause == CAUSE_WALLTIME or pod.status.reason == "DeadlineExceeded":
        return End(index, at, ended.started_at, exit_code, signal, EndReason.WALLTIME, "its walltime was over")
    if ended.reason == "OOMKilled":
        words = "it used more memory than it asked for"
        return End(index, at, ended.started_at, exit_code, signal, EndReason.OUT_OF_MEMORY, words)
    if (disrupted := _disruption(pod)) is not None:
        return End(index, at, ended.started_at, exit_code, signal, *disrupted)
    words, is_by_gang = _how(index, exit_code, signal), cause == CAUSE_GANG
    return End(index, at, ended.started_at, exit_code, signal, EndReason.PROGRAM_FAILED, words, is_by_gang)


def _of_program(ended: Terminated) -> tuple[int, float, str]:
    """Exit code, length in seconds and cause, of `ended CODE FROM TO [CAUSE]`."""
    try:
        _, code, begin, end, *cause = ended.message.split()
        return int(code), float(end) - float(begin), cause[0] if cause else ""
    except ValueError:  # the program wrote there as well
        return ended.exit_code, 0.0, ""


def _how(index: int, exit_code: int | None, signal: int | None) -> str:
    return f"task {index} was ended by signal {signal}" if signal is not None else f"task {index} exited with {exit_code}"


def _disruption(pod: Pod) -> tuple[EndReason, str] | None:
    """Who ended the pod, if it was not its program."""
    target = pod.status.has("DisruptionTarget")
    words = pod.status.message or (target.message if target else "")
    if pod.status.reason in _SHUT_DOWN:
        return EndReason.NODE_LOST, words or pod.status.reason
    if target is not None:
        return DISRUPTIONS.get(target.reason, EndReason.PREEMPTED), f"{target.reason}: {words}"
    if pod.status.reason in ("Evicted", "Preempting"):
        return EndReason.PREEMPTED, words or pod.status.reason
    return None


def _told(reason: str, message: str) -> EndReason | None:
    """What a Job's own condition says, once its pods are gone."""
    if reason == "DeadlineExceeded":
        return EndReason.WALLTIME
    if reason in ("Aborted", "Terminated"):  # of Volcano, by somebody else or by an eviction
        return EndReason.PREEMPTED
    if "DisruptionTarget" in message:
        return EndReason.NODE_LOST
    return None


def _waits(job: Job, alive: Sequence[Pod]) -> str:
    """Why it does not run yet, as far as somebody says so."""
    for pod in alive:
        words, _ = stuck(pod)
        if words:
            return words
        for each in pod.status.conditions:
            if each.type == "PodScheduled" and each.status == "False":
                return each.message
    return ""


def _suspended_at(job: Job) -> float | None:
    suspended = job.status.has("Suspended")
    return suspended.last_transition_time if suspended else None


def _with(
    base: Report,
    state: SiteState,
    started: float | None = None,
    ended: float | None = None,
    exit_code: int | None = None,
    signal: int | None = None,
    reason: EndReason | None = None,
    message: str = "",
) -> Report:
    start = started if state.is_over else base.started_at
    end = max(ended, start) if ended is not None and start is not None else ended
    return Report(base.name, base.native_id, state, start, end, exit_code, signal, reason, message, base.pool)
