"""After an attempt ended without success: again, when, or give up."""

from __future__ import annotations

from broker.jobs.lifecycle import GaveUp, Requeued
from broker.jobs.model import End, Ending, JobState, Retry

UNCOUNTED = (Ending.WITHDRAWN,)
"""What the broker itself took back never counts against the budget."""

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 300.0


def decide(retry: Retry, job: JobState, end: End) -> Requeued | GaveUp:
    """The event that follows `end` of the current attempt. Delays double with each counted attempt; those after withdrawals,
    which no budget ends, with each withdrawal."""
    what = end.message or str(end.ending)
    if end.ending in UNCOUNTED:
        return Requeued(what, end, end.at + _delay(1 + job.withdrawn))
    counted = 1 + sum(1 for attempt in job.attempts[:-1] if attempt.end and attempt.end.ending not in UNCOUNTED)
    if end.ending not in retry.reasons:
        return GaveUp(end.at, what, end)
    if counted >= retry.attempts:
        return GaveUp(end.at, f"{what} (attempt {counted} of {retry.attempts})", end)
    return Requeued(what, end, end.at + _delay(counted))


def _delay(times: int) -> float:
    """Seconds to wait after the so many-th attempt of its kind."""
    return min(FIRST_DELAY_S * 2.0 ** min(times - 1, 30), LONGEST_DELAY_S)
