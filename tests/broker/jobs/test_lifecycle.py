from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.jobs.lifecycle import (
    NEXT,
    Accepted,
    Cancelled,
    Event,
    Exited,
    GaveUp,
    ImpossibleEvent,
    Placed,
    Requeued,
    Staged,
    Started,
    Succeeded,
    fold,
    step,
)
from broker.jobs.model import End, Ending, JobState, Phase
from topology.dataset import DatasetId

EVENTS: tuple[Event, ...] = (
    Placed(1.0, "ams", "cpu"),
    Staged(2.0),
    Accepted(3.0, "17"),
    Started(4.0),
    Exited(5.0),
    Succeeded(6.0, (DatasetId("vision", "words", "j1"),)),
    Requeued("the site is lost", End(7.0, Ending.SITE_LOST), not_before=8.0),
    GaveUp(9.0, "exit code 3", End(9.0, Ending.PROGRAM_FAILED, exit_code=3)),
    Cancelled(10.0, "cancelled by ana", End(10.0, Ending.CANCELLED)),
)
STRAIGHT = EVENTS[:6]


def in_phase(phase: Phase) -> JobState:
    """A job led to `phase` by the shortest way."""
    path: dict[Phase, tuple[Event, ...]] = {
        Phase.PENDING: (),
        Phase.STAGING: STRAIGHT[:1],
        Phase.PLACED: STRAIGHT[:2],
        Phase.QUEUED: STRAIGHT[:3],
        Phase.RUNNING: STRAIGHT[:4],
        Phase.COLLECTING: STRAIGHT[:5],
        Phase.SUCCEEDED: STRAIGHT,
        Phase.FAILED: (EVENTS[0], EVENTS[7]),
        Phase.CANCELLED: (EVENTS[0], EVENTS[8]),
    }
    return fold(JobState("j1"), path[phase])


@pytest.mark.parametrize(("phase", "event"), [*product(Phase, EVENTS)], ids=lambda it: getattr(it, "value", type(it).__name__))
def test_each_event_in_each_phase_is_in_the_table_or_impossible(phase, event):
    if phase is Phase.PENDING and isinstance(event, GaveUp | Cancelled):
        event = replace(event, end=None)  # no attempt is open that could end
    if type(event) in NEXT[phase]:
        assert step(in_phase(phase), event).phase == NEXT[phase][type(event)]
    else:
        with pytest.raises(ImpossibleEvent, match=f"while job j1 is {phase}"):
            step(in_phase(phase), event)


@pytest.mark.parametrize("event", EVENTS[7:], ids=lambda it: type(it).__name__)
def test_a_pending_job_has_no_attempt_to_end(event):
    with pytest.raises(ImpossibleEvent, match="has none open"):
        step(in_phase(Phase.PENDING), event)


def test_the_straight_path_leaves_every_time_in_the_attempt():
    job = fold(JobState("j1"), STRAIGHT)
    attempt = job.attempt
    assert (attempt.placed_at, attempt.staged_at, attempt.accepted_at, attempt.started_at) == (1.0, 2.0, 3.0, 4.0)
    assert attempt.end == End(5.0, exit_code=0)
    assert (job.finished_at, job.outputs) == (6.0, (DatasetId("vision", "words", "j1"),))


def test_a_requeued_job_keeps_its_story_and_waits_for_its_delay():
    job = fold(JobState("j1"), (*STRAIGHT[:4], EVENTS[6]))
    assert (job.phase, job.reason, job.not_before) == (Phase.PENDING, "the site is lost", 8.0)
    again = step(job, Placed(20.0, "fra", "cpu"))
    assert [attempt.site for attempt in again.attempts] == ["ams", "fra"]
    assert (again.attempt.number, again.reason, again.not_before) == (2, "", None)


def test_a_job_that_is_withdrawn_again_and_again_keeps_a_short_record_and_new_numbers():
    back = Requeued("the site is lost", End(2.0, Ending.WITHDRAWN))
    job = fold(JobState("j1"), (*STRAIGHT[:4], EVENTS[6]))
    for _ in range(1000):
        job = fold(job, (Placed(1.0, "ams", "cpu"), back))
    job = step(job, Placed(3.0, "ams", "cpu"))
    # the first was at a site and is kept; of the thousand withdrawn ones the newest five are; the last is open
    assert [attempt.number for attempt in job.attempts] == [1, *range(997, 1002), 1002]
    assert (job.number, job.folded, job.withdrawn) == (1002, 995, 1000)
    assert (job.attempt_of(996), job.attempt_of(1003)) == (None, None)


def test_an_attempt_that_a_site_may_have_heard_of_is_never_folded():
    back = Requeued("its input went", End(3.0, Ending.WITHDRAWN))
    job = JobState("j1")
    for _ in range(20):
        job = fold(job, (Placed(1.0, "ams", "cpu"), Staged(2.0), back))
    assert ([attempt.number for attempt in job.attempts], job.folded) == ([*range(1, 21)], 0)


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_whatever_happens_a_terminal_phase_stays_and_only_the_last_attempt_is_open(events):
    job = JobState("j1")
    for event in events:
        try:
            after = step(job, event)
        except ImpossibleEvent:
            continue
        assert not job.phase.is_terminal
        assert all(attempt.end for attempt in after.attempts[:-1])
        assert after.phase.is_terminal == (after.finished_at is not None)
        job = after
