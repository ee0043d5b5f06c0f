"""The spans that a job's records make."""

from collections import Counter
from dataclasses import replace

import pytest

from broker.jobs.lifecycle import (
    Accepted,
    Cancelled,
    Exited,
    GaveUp,
    Placed,
    Requeued,
    Staged,
    Started,
    Succeeded,
    step,
)
from broker.jobs.model import End, Ending, JobSpec, JobState, Wish
from broker.tracing.parent import Parent
from broker.tracing.story import story, trace_of
from broker.world import Job
from topology.dataset import DatasetId

TRACE = Parent(7, 9, True)
CORPUS = DatasetId("default", "corpus", "1")
LOST = End(8.0, Ending.NODE_LOST, message="a node went")
TWICE = (
    *(Placed(1.0, "ams", "cpu"), Staged(3.0), Accepted(4.0, "17"), Started(6.0), Requeued("again", LOST, 9.0)),
    *(Placed(10.0, "fra", "cpu"), Staged(10.0), Accepted(11.0, "3"), Started(12.0), Exited(20.0), Succeeded(21.0)),
)


def a_job(*events, inputs=(CORPUS,), **wish):
    state = JobState("j1")
    for event in events:
        state = step(state, event)
    spec = JobSpec("default", ("true",), inputs=inputs)
    return Job(Wish("j1", "count", "default", 0.0, "ana", spec, **wish), spec, state, 1, 2)


def told(job):
    return [(chapter.name, chapter.began_at, chapter.ended_at) for chapter in story(job, TRACE)]


def test_a_job_is_told_from_accepted_to_finished_through_all_its_attempts():
    assert told(a_job(*TWICE)) == [
        ("pending", 0.0, 1.0),
        *(("staging", 1.0, 3.0), ("placed", 3.0, 4.0), ("queued", 4.0, 6.0), ("running", 6.0, 8.0), ("attempt", 1.0, 8.0)),
        ("pending", 8.0, 10.0),
        *(("staging", 10.0, 10.0), ("placed", 10.0, 11.0), ("queued", 11.0, 12.0), ("running", 12.0, 20.0)),
        *(("collecting", 20.0, 21.0), ("attempt", 10.0, 21.0)),
        ("job", 0.0, 21.0),
    ]


def test_each_span_hangs_on_its_attempt_and_each_attempt_on_the_job_and_the_job_on_what_it_came_with():
    chapters = story(a_job(*TWICE), TRACE)
    by_id = {chapter.id: chapter for chapter in chapters}
    assert len(by_id) == len(chapters)
    above = Counter((chapter.name, by_id[chapter.parent].name) for chapter in chapters if chapter.parent in by_id)
    stages = {(stage, "attempt"): 2 for stage in ("staging", "placed", "queued", "running")}
    assert above == {**stages, ("collecting", "attempt"): 1, ("pending", "job"): 2, ("attempt", "job"): 2}
    assert chapters[-1].parent == TRACE.span_id


@pytest.mark.parametrize("events", [TWICE, (*TWICE[:9], GaveUp(15.0, "no more", replace(LOST, at=15.0)))])
def test_what_was_told_stays_so_whatever_comes_after(events):
    seen = []
    for count in range(len(events) + 1):
        chapters = story(a_job(*events[:count]), TRACE)
        assert [chapter for chapter in chapters if chapter.id in {each.id for each in seen}] == seen
        seen = list(chapters)
    assert seen[-1].name == "job"


def test_attributes_say_whose_where_and_how_it_ended():
    chapters = story(a_job(*TWICE), TRACE)
    attempts = [chapter for chapter in chapters if chapter.name == "attempt"]
    assert [(each.attributes["fed.attempt"], each.attributes["fed.site"], each.error) for each in attempts] == [
        (1, "ams", ("node-lost", "a node went")),
        (2, "fra", None),
    ]
    assert attempts[1].attributes["process.exit.code"] == 0
    whole = chapters[-1].attributes
    assert (whole["fed.job.name"], whole["enduser.id"], whole["fed.job.phase"]) == ("count", "ana", "succeeded")
    assert whole["fed.job.attempts"] == 2
    assert all(chapter.attributes["fed.job.id"] == "j1" and chapter.attributes["fed.tenant"] == "default" for chapter in chapters)


def test_a_job_cancelled_before_it_was_placed_was_pending_all_the_time():
    assert told(a_job(Cancelled(5.0, "no"))) == [("pending", 0.0, 5.0), ("job", 0.0, 5.0)]


def test_one_that_fails_with_its_attempt_was_not_pending_after_it():
    job = a_job(*TWICE[:4], GaveUp(8.0, "exit code 1", End(8.0, Ending.PROGRAM_FAILED, 1)), inputs=())
    assert [name for name, *_ in told(job)] == ["pending", "placed", "queued", "running", "attempt", "job"]
    assert story(job, TRACE)[-1].error == ("failed", "exit code 1")


def test_clocks_that_disagree_make_no_span_that_ends_before_it_begins():
    job = a_job(Placed(5.0, "ams", "cpu"), Staged(4.0), Accepted(3.0, "1"), Started(2.0), Exited(1.0), Succeeded(0.5))
    assert all(chapter.began_at <= chapter.ended_at for chapter in story(job, TRACE))


def test_a_job_goes_on_with_the_trace_it_came_with_as_that_was_decided():
    for is_sampled in (True, False):
        parent = Parent(11, 12, is_sampled)
        assert trace_of(a_job(trace=parent.header).wish, 0.5) == parent


def test_without_one_its_id_decides_and_for_each_share_alike():
    wishes = [replace(a_job().wish, id=f"j{number}") for number in range(2_000)]
    kept = {share: {wish.id for wish in wishes if trace_of(wish, share).is_sampled} for share in (0.0, 0.1, 0.5, 1.0)}
    assert (len(kept[0.0]), len(kept[1.0])) == (0, 2_000)
    assert kept[0.1] < kept[0.5]
    # 200 of 2000 are expected, with a deviation of sqrt(2000 * 0.1 * 0.9) = 13.4
    assert 120 < len(kept[0.1]) < 280
    assert len({trace_of(wish, 1.0).trace_id for wish in wishes}) == 2_000
