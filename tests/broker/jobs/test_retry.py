from broker.jobs.lifecycle import GaveUp, Placed, Requeued, fold
from broker.jobs.model import End, Ending, JobState, Retry
from broker.jobs.retry import decide


def job_after(*endings: Ending) -> JobState:
    """A job that is placed once more after each of `endings`."""
    job = fold(JobState("j1"), [Placed(0.0, "ams", "cpu")])
    for ending in endings:
        job = fold(job, [Requeued(str(ending), End(1.0, ending)), Placed(2.0, "ams", "cpu")])
    return job


def test_a_lost_site_is_tried_again_with_doubling_delays():
    # the first counted end waits 1 s, the second 2 s
    lost = End(10.0, Ending.SITE_LOST)
    assert decide(Retry(), job_after(), lost) == Requeued("site-lost", lost, 11.0)
    assert decide(Retry(), job_after(Ending.NODE_LOST), lost) == Requeued("site-lost", lost, 12.0)


def test_the_budget_ends_and_says_so():
    lost = End(10.0, Ending.SITE_LOST, message="ams is lost")
    event = decide(Retry(attempts=3), job_after(Ending.SITE_LOST, Ending.NODE_LOST), lost)
    assert event == GaveUp(10.0, "ams is lost (attempt 3 of 3)", lost)


def test_a_failed_program_is_tried_again_only_when_asked():
    failed = End(10.0, Ending.PROGRAM_FAILED, exit_code=3, message="exit code 3")
    assert decide(Retry(), job_after(), failed) == GaveUp(10.0, "exit code 3", failed)
    assert isinstance(decide(Retry(reasons=(Ending.PROGRAM_FAILED,)), job_after(), failed), Requeued)


def test_what_the_broker_took_back_is_never_counted():
    withdrawn = job_after(*[Ending.WITHDRAWN] * 9)
    lost = End(10.0, Ending.SITE_LOST)
    assert decide(Retry(attempts=2), withdrawn, lost) == Requeued("site-lost", lost, 11.0)
    assert isinstance(decide(Retry(attempts=1), withdrawn, End(10.0, Ending.WITHDRAWN)), Requeued)


def test_what_was_taken_back_waits_longer_each_time_but_never_for_ever():
    # 1 s after the first, 8 s after the fourth, five minutes after the hundredth
    back = End(10.0, Ending.WITHDRAWN)
    events = [decide(Retry(), job_after(*[Ending.WITHDRAWN] * before), back) for before in (0, 3, 99)]
    assert [event.not_before for event in events] == [11.0, 18.0, 310.0]
