"""The life of a job: the only place where a phase changes.

`NEXT` is the rule, as data; `step` applies it. Events are facts, so they carry the time they happened at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from broker.jobs.model import Attempt, Decision, End, Ending, JobState, Phase
from topology.dataset import DatasetId

KEPT_WITHDRAWN = 5
"""So many of the newest attempts that were withdrawn unsent are told one by one; older ones are only counted, so that a job whose
sites come and go has a record that ends."""


class ImpossibleEvent(Exception):
    """An event that the job's phase does not allow: our bug, never the user's."""


@dataclass(frozen=True, slots=True)
class Placed:
    """The planner chose a site; a new attempt begins."""

    at: float
    site: str
    pool: str
    gpu_type: str | None = None
    decision: Decision = Decision()


@dataclass(frozen=True, slots=True)
class Staged:
    """All inputs are at the site."""

    at: float


@dataclass(frozen=True, slots=True)
class Reserved:
    """The site gave an id for the run, before it was submitted."""

    native_id: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The site has the run."""

    at: float
    native_id: str


@dataclass(frozen=True, slots=True)
class Started:
    """The site runs it."""

    at: float


@dataclass(frozen=True, slots=True)
class Exited:
    """The program ended well; its outputs are to be checked."""

    at: float
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The outputs are checked and, in the same transaction, replicas."""

    at: float
    outputs: tuple[DatasetId, ...] = ()


@dataclass(frozen=True, slots=True)
class Requeued:
    """The attempt is over, and the job goes back to the queue."""

    reason: str
    end: End
    not_before: float | None = None


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The job failed for good. `end` is None when there was no attempt to end."""

    at: float
    reason: str
    end: End | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job is cancelled, and that was observed."""

    at: float
    reason: str
    end: End | None = None


Event = Placed | Staged | Reserved | Accepted | Started | Exited | Succeeded | Requeued | GaveUp | Cancelled

_ENDS: Mapping[type[Event], Phase] = {
    Exited: Phase.COLLECTING,
    Requeued: Phase.PENDING,
    GaveUp: Phase.FAILED,
    Cancelled: Phase.CANCELLED,
}
_GIVEN_UP: Mapping[type[Event], Phase] = {
    Requeued: Phase.PENDING,
    GaveUp: Phase.FAILED,
    Cancelled: Phase.CANCELLED,
}

NEXT: Mapping[Phase, Mapping[type[Event], Phase]] = {
    Phase.PENDING: {Placed: Phase.STAGING, GaveUp: Phase.FAILED, Cancelled: Phase.CANCELLED},
    Phase.STAGING: {Staged: Phase.PLACED, **_GIVEN_UP},
    Phase.PLACED: {Reserved: Phase.PLACED, Accepted: Phase.QUEUED, **_GIVEN_UP},
    Phase.QUEUED: {Started: Phase.RUNNING, **_ENDS},
    Phase.RUNNING: _ENDS,
    Phase.COLLECTING: {Succeeded: Phase.SUCCEEDED, Requeued: Phase.PENDING, GaveUp: Phase.FAILED},
    Phase.SUCCEEDED: {},
    Phase.FAILED: {},
    Phase.CANCELLED: {},
}


def step(job: JobState, event: Event) -> JobState:
    """The job after `event`; the same two arguments always give the same answer. Raises ImpossibleEvent."""
    phase = NEXT[job.phase].get(type(event))
    if phase is None:
        raise ImpossibleEvent(f"{type(event).__name__} while job {job.id} is {job.phase}")
    if isinstance(event, GaveUp | Cancelled) and event.end is not None and not job.phase.is_at_site:
        raise ImpossibleEvent(f"{type(event).__name__} with an attempt's end while job {job.id} is {job.phase} and has none open")
    match event:
        case Placed(at, site, pool, gpu_type, decision):
            attempt = Attempt(job.number + 1, site, pool, at, gpu_type, decision)
            kept = _kept(job.attempts)
            folded = job.folded + len(job.attempts) - len(kept)
            return replace(job, phase=phase, attempts=(*kept, attempt), folded=folded, not_before=None, reason="")
        case Staged(at):
            return replace(job, phase=phase, attempts=_with(job, staged_at=at))
        case Reserved(native_id):
            return replace(job, phase=phase, attempts=_with(job, native_id=native_id))
        case Accepted(at, native_id):
            return replace(job, phase=phase, attempts=_with(job, accepted_at=at, native_id=native_id))
        case Started(at):
            return replace(job, phase=phase, attempts=_with(job, started_at=at))
        case Exited(at, exit_code):
            return replace(job, phase=phase, attempts=_with(job, end=End(at, exit_code=exit_code)))
        case Succeeded(at, outputs):
            return replace(job, phase=phase, finished_at=at, outputs=outputs, reason="")
        case Requeued(reason, end, not_before):
            return replace(job, phase=phase, attempts=_with(job, end=end), reason=reason, not_before=not_before)
        case GaveUp(at, reason, end) | Cancelled(at, reason, end):
            attempts = job.attempts if end is None else _with(job, end=end)
            return replace(job, phase=phase, attempts=attempts, reason=reason, finished_at=at)


def fold(job: JobState, events: Iterable[Event]) -> JobState:
    """The job after several events: one observation may tell several, and they are written once."""
    for event in events:
        job = step(job, event)
    return job


def _kept(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The attempts without the older ones that were withdrawn before any site heard of them."""
    unsent = [each.number for each in attempts if each.staged_at is None and each.end and each.end.ending is Ending.WITHDRAWN]
    old = set(unsent[:-KEPT_WITHDRAWN])
    return tuple(each for each in attempts if each.number not in old) if old else attempts


def _with(job: JobState, **changes: Any) -> tuple[Attempt, ...]:
    """The attempts, with changes to the current one."""
    return (*job.attempts[:-1], replace(job.attempt, **changes))
