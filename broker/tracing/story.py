"""The trace of a job, from its records alone: so it is whole whichever brokers worked it and whatever was killed. Pure.

    POST /v1/jobs               the request, where the trace is of one job, below whatever span the caller is in
      job                       from accepted to finished
        pending                 waiting for a site: from accepted, or from the attempt before, to placed
        attempt                 one for each; from placed to its end
          staging               bringing its inputs, where it has any
          placed                on its way to the site's scheduler, until that has accepted it
          queued                in the site's queue, until started
          running               until its program ended
          collecting            checking its outputs, where it succeeded

A span is told once it is over. Its id is made from the job's, so whoever tells it again tells the same span.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b

from broker.jobs.model import Attempt, Ending, Phase, Wish
from broker.tracing.parent import Parent, parse
from broker.tracing.tracer import MOST_MESSAGE, Chapter, Value
from broker.world import Job

BLAMELESS = (Ending.WITHDRAWN, Ending.CANCELLED)
"""Endings that are somebody's wish, and no error."""
_HALF = 2**64


def trace_of(wish: Wish, sample: float) -> Parent:
    """The trace that a job is told in: the one it came with, kept if its beginner keeps it; else one made from its id, of which
    the share `sample` is kept, as OpenTelemetry's TraceIdRatioBased does."""
    given = parse(wish.trace) if wish.trace else None
    if given is not None:
        return given
    trace_id = int.from_bytes(blake2b(wish.id.encode(), digest_size=16).digest()) or 1
    return Parent(trace_id, 0, trace_id % _HALF < round(sample * _HALF))


def story(job: Job, trace: Parent) -> tuple[Chapter, ...]:
    """All of a job that is over by now, in the order in which it began."""
    return tuple(_chapters(job, trace))


def _chapters(job: Job, trace: Parent) -> Iterator[Chapter]:
    state, wish = job.state, job.wish
    root = _id(job, "job")
    told: dict[str, Value] = {"fed.job.id": job.id, "fed.tenant": wish.tenant}
    free_at = wish.created_at
    for attempt in state.attempts:
        yield Chapter(_id(job, "pending", attempt.number), root, "pending", *_span(free_at, attempt.placed_at), told)
        yield from _attempt(job, attempt, root, {**told, "fed.attempt": attempt.number, "fed.site": attempt.site})
        free_at = attempt.end.at if attempt.end else attempt.placed_at
    if state.finished_at is None:
        return
    if state.phase is not Phase.SUCCEEDED and (not state.attempts or state.finished_at > free_at):
        yield Chapter(_id(job, "pending", 0), root, "pending", *_span(free_at, state.finished_at), told)
    whole = {**told, "fed.job.name": wish.name, "enduser.id": wish.created_by, "fed.job.phase": str(state.phase)}
    whole["fed.job.attempts"] = state.folded + len(state.attempts)
    error = ("failed", state.reason[:MOST_MESSAGE]) if state.phase is Phase.FAILED else None
    yield Chapter(root, trace.span_id, "job", *_span(wish.created_at, state.finished_at), whole, error)


def _attempt(job: Job, attempt: Attempt, root: int, told: Mapping[str, Value]) -> Iterator[Chapter]:
    state, end = job.state, attempt.end
    is_last = attempt is state.attempts[-1]
    above = _id(job, "attempt", attempt.number)
    stages = (
        ("staging", attempt.placed_at if job.spec.inputs else None, attempt.staged_at),
        ("placed", attempt.staged_at, attempt.accepted_at),
        ("queued", attempt.accepted_at, attempt.started_at),
        ("running", attempt.started_at, None),
    )
    for name, began_at, over_at in stages:
        over_at = end.at if over_at is None and end else over_at
        if began_at is not None and over_at is not None:
            yield Chapter(_id(job, name, attempt.number), above, name, *_span(began_at, over_at), told)
    if end is None or (is_last and state.phase is Phase.COLLECTING):
        return
    ended_at = end.at
    if is_last and state.phase is Phase.SUCCEEDED and state.finished_at is not None:
        ended_at = max(state.finished_at, end.at)
        yield Chapter(_id(job, "collecting", attempt.number), above, "collecting", end.at, ended_at, told)
    error = (str(end.ending), end.message[:MOST_MESSAGE]) if end.ending and end.ending not in BLAMELESS else None
    cost = attempt.decision.cost
    whole = {**told, "fed.pool": attempt.pool, "fed.cost.hours": cost.hours, "fed.cost.money": cost.money}
    if attempt.native_id is not None:
        whole["fed.native_id"] = attempt.native_id
    if end.exit_code is not None:
        whole["process.exit.code"] = end.exit_code
    yield Chapter(above, root, "attempt", *_span(attempt.placed_at, ended_at), whole, error)


def _span(began_at: float, ended_at: float) -> tuple[float, float]:
    """From and to: the moments are of several machines' clocks."""
    return began_at, max(began_at, ended_at)


def _id(job: Job, name: str, number: int = 0) -> int:
    return int.from_bytes(blake2b(f"{job.id}/{name}/{number}".encode(), digest_size=8).digest()) or 1
