"""What the world says of a job, by its records. Indexes are run in the simulation."""

from broker.jobs.lifecycle import Placed, Requeued, Staged, fold
from broker.jobs.model import Ask, End, Ending, JobSpec, JobState, Stop, Wish
from broker.world import Job

ASK = Ask("ada", "elsewhere, please", 5.0)


def a_job(state: JobState, **wish: object) -> Job:
    return Job(Wish("j1", "words", "default", 0.0, "ada", JobSpec("default"), **wish), JobSpec("default"), state, 1, 2)


def test_a_job_whose_attempt_was_stopped_may_be_placed_again():
    placed = fold(JobState("j1"), [Placed(1.0, "ams", "cpu"), Staged(1.0)])
    taken_back = fold(placed, [Requeued("stopped", End(6.0, Ending.WITHDRAWN))])
    placed_again = fold(taken_back, [Placed(7.0, "fra", "cpu")])
    stop = Stop(1, ASK)
    assert a_job(placed, stop=stop).is_asked_to_end
    assert not a_job(taken_back, stop=stop).is_asked_to_end
    assert not a_job(placed_again, stop=stop).is_asked_to_end


def test_a_pending_job_that_was_cancelled_is_asked_to_end():
    assert a_job(JobState("j1"), cancel=ASK).is_asked_to_end
