"""What is due: phase x report by table, wishes that cross ends, doubts, stale runs."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import EndReason, Refused, Report, SiteState
from broker.documents.job import MOST_ATTEMPTS
from broker.jobs.lifecycle import Accepted, Placed, Requeued, Staged, Started, Succeeded, fold
from broker.jobs.model import Ask, Choice, Cost, Decision, End, Ending, JobSpec, JobState, Phase, Retry, Stop, Wish
from broker.sites import owed
from broker.sites.owed import Doubt, Standing
from broker.store import codec
from broker.store.transactions import MAX_TRANSACTION_BYTES
from broker.world import Job
from topology.dataset import DatasetId, Replica

TO_PHASE = {
    Phase.STAGING: (),
    Phase.PLACED: (Staged(1.0),),
    Phase.QUEUED: (Staged(1.0), Accepted(2.0, "7")),
    Phase.RUNNING: (Staged(1.0), Accepted(2.0, "7"), Started(3.0)),
}
CORPUS = DatasetId("default", "corpus", "1")


def a_job(phase=Phase.PLACED, revision=10, cancel=None, stop=None, **spec) -> Job:
    """A job at ams in a phase before its run's end."""
    spec = JobSpec("default", ("true",), **spec)
    wish = Wish("j1", "j1", "default", 0.0, "ana", spec, cancel=cancel, stop=stop)
    return Job(wish, spec, fold(JobState("j1"), (Placed(0.5, "ams", "cpu"), *TO_PHASE[phase])), 1, revision)


def a_report(state, **over) -> Report:
    """What a site says at 20, of a run that began at 10 if it began."""
    began = None if state is SiteState.QUEUED else 10.0
    reason = EndReason.PROGRAM_FAILED if state is SiteState.FAILED else None
    return replace(Report("fed-j1-a1", "7", state, began, 15.0 if state.is_over else None, reason=reason), **over)


ANA = Ask("ana", "", 0.0)
AFTER = {
    SiteState.QUEUED: {Phase.PLACED: Phase.QUEUED},
    SiteState.UNKNOWN: {Phase.PLACED: Phase.QUEUED},
    SiteState.RUNNING: dict.fromkeys(owed.OPEN, Phase.RUNNING),
    SiteState.SUCCEEDED: dict.fromkeys(owed.OPEN, Phase.SUCCEEDED),
    SiteState.FAILED: dict.fromkeys(owed.OPEN, Phase.FAILED),
    SiteState.CANCELLED: dict.fromkeys(owed.OPEN, Phase.FAILED),
}
"""The phase after a report; without a line the phase stays."""


@pytest.mark.parametrize(("phase", "state"), [*product(owed.OPEN, SiteState)], ids=str)
def test_each_report_in_each_phase_leads_where_the_table_says(phase, state):
    job = a_job(phase)
    after = fold(job.state, owed.settle(job, a_report(state), 20.0))
    assert after.phase is AFTER[state].get(phase, phase)


@pytest.mark.parametrize(("phase", "state"), [*product(owed.OPEN, SiteState)], ids=str)
def test_a_report_told_twice_says_nothing_new(phase, state):
    job = a_job(phase)
    after = fold(job.state, owed.settle(job, a_report(state), 20.0))
    if after.phase in owed.OPEN:
        assert owed.settle(replace(job, state=after), a_report(state), 30.0) == ()


def test_a_job_with_outputs_is_collected_first():
    job = a_job(Phase.RUNNING, outputs=("words",))
    assert fold(job.state, owed.settle(job, a_report(SiteState.SUCCEEDED), 20.0)).phase is Phase.COLLECTING


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_whatever_the_sites_clock_says_times_are_in_order_and_never_ahead(started, ended):
    job = a_job()
    report = a_report(SiteState.SUCCEEDED, started_at=started, ended_at=ended)
    attempt = fold(job.state, owed.settle(job, report, 20.0)).attempt
    assert attempt.placed_at <= attempt.started_at <= attempt.end.at <= 20.0


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"exit_code": 3}, "exit code 3"),
        ({"signal": 9, "message": "killed by the kernel"}, "killed by signal 9: killed by the kernel"),
        ({"reason": EndReason.WALLTIME}, "walltime"),
        ({"reason": None}, "it failed, and the site does not say why"),
    ],
)
def test_the_reason_of_a_failure_is_for_people(over, reason):
    job = a_job(Phase.RUNNING)
    assert fold(job.state, owed.settle(job, a_report(SiteState.FAILED, **over), 20.0)).reason == reason


@pytest.mark.parametrize(
    ("report", "phase"),
    [
        (a_report(SiteState.SUCCEEDED), Phase.SUCCEEDED),
        (a_report(SiteState.FAILED, exit_code=3), Phase.FAILED),
        (a_report(SiteState.FAILED, reason=EndReason.NODE_LOST), Phase.CANCELLED),
        (a_report(SiteState.FAILED, reason=EndReason.CLAIMED), Phase.CANCELLED),
        (a_report(SiteState.CANCELLED), Phase.CANCELLED),
    ],
    ids=["succeeded", "failed", "node lost", "claimed", "cancelled"],
)
def test_where_an_end_and_a_cancel_cross_the_runs_own_end_stands(report, phase):
    job = a_job(Phase.RUNNING, cancel=ANA)
    assert fold(job.state, owed.settle(job, report, 20.0)).phase is phase


def test_a_stopped_attempt_is_withdrawn_and_never_counted():
    job = a_job(Phase.RUNNING, stop=Stop(1, ANA), retry=Retry(attempts=1))
    after = fold(job.state, owed.settle(job, a_report(SiteState.CANCELLED), 20.0))
    assert (after.phase, after.attempt.end.ending) == (Phase.PENDING, Ending.WITHDRAWN)


def test_a_refusal_carries_the_sites_words():
    (event,) = owed.after_submit(a_job(), Refused("no such partition"), 5.0)
    assert isinstance(event, Requeued)
    assert event.reason == "ams refused it: no such partition"


def due(job, doubt=None, is_unique=False, epoch=5, in_flight=()):
    """Whether it is submitted now."""
    doubts = {"fed-j1-a1": doubt} if doubt else {}
    return bool(owed.submissions([job], epoch, doubts, in_flight, is_unique, "fed"))


def test_only_what_was_placed_under_this_ownership_is_submitted_at_once():
    assert due(a_job(revision=6), epoch=5)
    assert not due(a_job(revision=4), epoch=5)
    assert due(a_job(revision=4), epoch=5, is_unique=True)


def test_a_doubt_holds_a_submission_until_two_looks_were_in_vain():
    assert not due(a_job(), Doubt(1.0))
    assert due(a_job(), Doubt(1.0, is_cleared=True))
    assert due(a_job(), Doubt(1.0), is_unique=True)


def test_what_has_started_is_never_submitted_again_and_is_gone_once_looked_for_in_vain():
    for is_unique in (True, False):
        assert not due(a_job(), Doubt(1.0, is_cleared=True, has_started=True), is_unique)
    assert not owed.gone([a_job()], {"fed-j1-a1": Doubt(1.0, has_started=True)}, "fed", 9.0)
    (step,) = owed.gone([a_job()], {"fed-j1-a1": Doubt(1.0, is_cleared=True, has_started=True)}, "fed", 9.0)
    assert step.events[0].end.ending is Ending.VANISHED


def test_nothing_is_submitted_that_is_asked_to_end_or_under_way():
    assert not due(a_job(cancel=ANA), is_unique=True)
    assert not due(a_job(), in_flight={"fed-j1-a1"}, is_unique=True)


@given(st.lists(st.floats(0, 100), max_size=8))
def test_a_doubt_is_cleared_by_two_looks_after_its_begin_and_far_enough_apart(listings):
    doubt, listings = Doubt(20.0), sorted(listings)
    for began in listings:
        doubt = owed.look(doubt, began, 10.0)
    looks = [began for began in listings if began >= 20.0]
    assert doubt.is_cleared == any(began >= looks[0] + 10.0 for began in looks)


def test_what_a_site_says_is_cut_so_that_all_attempts_fit_one_change():
    # a placement with three runners-up is about 1.5 kB, its end at most 4 bytes for each of 1,000 characters, a change 1 MB
    choice = Choice("x" * 40, "x" * 40, Cost(*[1 / 3] * 6))
    decision = Decision(Cost(*[1 / 3] * 6), (choice,) * 3, 100)
    state = JobState("j1")
    for _ in range(MOST_ATTEMPTS):
        placed = fold(state, (Placed(0.5, "ams", "cpu", "a100", decision), Staged(1.0), Accepted(2.0, "7"), Started(3.0)))
        job = replace(a_job(), spec=JobSpec("default", retry=Retry(MOST_ATTEMPTS + 1)), state=placed)
        lost = a_report(SiteState.FAILED, reason=EndReason.NODE_LOST, message="\U0001f4a5" * 10_000)
        state = fold(placed, owed.settle(job, lost, 20.0))
    assert len(state.attempts) == MOST_ATTEMPTS
    assert len(codec.encode(state)) < MAX_TRANSACTION_BYTES * 0.7


@pytest.mark.parametrize(("began", "is_missing"), [(9.9, False), (12.9, False), (13.0, True)])
def test_a_run_is_missing_only_after_it_has_settled(began, is_missing):
    # known as accepted at 10, settles in 3: due in listings from 13 on
    assert owed.is_missing(10.0, began, 3.0) is is_missing


def test_staging_ends_with_the_last_input_and_never_waits_for_one_that_nobody_brings():
    job = a_job(Phase.STAGING, inputs=(CORPUS,))
    here = {CORPUS: {"ams": Replica(CORPUS, "ams", "corpus")}}
    (ready,) = owed.staged([job], "ams", here, {}, 5.0)
    assert isinstance(ready.events[0], Staged)
    assert owed.staged([job], "ams", {}, {CORPUS: None}, 5.0) == []
    (back,) = owed.staged([job], "ams", {}, {}, 5.0)
    assert back.events[0].end.ending is Ending.WITHDRAWN


def test_a_lost_site_keeps_who_does_not_want_to_be_moved():
    stays = Retry(reasons=())
    assert owed.evictions([a_job(Phase.RUNNING, retry=stays)], "ams", 9.0) == []
    (sent,) = owed.evictions([a_job(Phase.RUNNING)], "ams", 9.0)
    assert (sent.events[0].end.ending, [note.attempt for note in sent.beside]) == (Ending.SITE_LOST, [1])
    (unsent,) = owed.evictions([a_job(Phase.STAGING, retry=stays)], "ams", 9.0)
    assert (unsent.events[0].end.ending, unsent.beside) == (Ending.WITHDRAWN, ())
    (asked,) = owed.evictions([a_job(Phase.QUEUED, cancel=ANA, retry=stays)], "ams", 9.0)
    assert fold(a_job(Phase.QUEUED).state, asked.events).phase is Phase.CANCELLED
    assert asked.beside


def test_only_an_open_attempt_at_this_site_is_current():
    running, ended = a_job(Phase.RUNNING).state, fold(a_job().state, [Requeued("lost", End(9.0, Ending.SITE_LOST))])
    assert owed.standing(running, 1, "ams") is Standing.CURRENT
    assert owed.standing(ended, 1, "ams") is Standing.ENDED
    assert owed.standing(fold(ended, [Placed(10.0, "fra", "cpu")]), 1, "ams") is Standing.ENDED
    for state, number, site in [(None, 1, "ams"), (running, 2, "ams"), (running, 0, "ams"), (running, 1, "fra")]:
        assert owed.standing(state, number, site) is Standing.UNREADABLE


def test_what_succeeded_is_over_for_good():
    done = fold(a_job().state, owed.settle(a_job(), a_report(SiteState.SUCCEEDED), 20.0))
    assert isinstance(owed.settle(a_job(), a_report(SiteState.SUCCEEDED), 20.0)[-1], Succeeded)
    assert owed.standing(done, 1, "ams") is Standing.ENDED
