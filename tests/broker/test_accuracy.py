"""How wrong run times were: followed in the world as runs end."""

from dataclasses import replace
from types import SimpleNamespace

from broker.accuracy import KEPT, RunTimes
from broker.jobs.lifecycle import Accepted, Exited, Placed, Requeued, Staged, Started, Succeeded, fold
from broker.jobs.model import Cost, Decision, End, Ending, JobSpec, JobState, Wish
from broker.placement.starts import UNKNOWN
from broker.world import Job

SPEC = JobSpec("red")
HALF_AN_HOUR = Decision(Cost(run_hours=0.5))


def a_job(*events):
    began = [Placed(0.0, "ams", "cpu", None, HALF_AN_HOUR), Staged(0.0), Accepted(0.0, "7"), Started(100.0)]
    return Job(Wish("j1", "words", "red", 0.0, "ada", SPEC), SPEC, fold(JobState("j1"), [*began, *events]), 1, 2)


def run_times(world=None):
    world = world or SimpleNamespace(job_watchers=[])
    followed = RunTimes(world)
    return followed, world.job_watchers[0]


def test_each_run_that_ends_well_counts_once():
    # 20 runs of 30 min each that took 45: 1.5 times as long
    followed, look = run_times()
    running, over = a_job(), a_job(Exited(100.0 + 2700, 0))
    for _ in range(20):
        look(None, running)
        look(running, over)
        look(over, replace(over, state=fold(over.state, [Succeeded(9000.0, ())])))
    accuracy = followed.accuracy
    assert (accuracy.runs, accuracy.low, accuracy.high) == (20, 1.5, 1.5)


def test_runs_that_were_cut_off_tell_nothing():
    followed, look = run_times()
    for _ in range(30):
        look(a_job(), a_job(Requeued("lost", End(200.0, Ending.SITE_LOST))))
        look(a_job(), None)
    assert followed.accuracy == UNKNOWN


def test_only_the_last_runs_count():
    followed, look = run_times()
    for seconds in [3600] * KEPT + [1800] * KEPT:
        look(a_job(), a_job(Exited(100.0 + seconds, 0)))
    assert (followed.accuracy.runs, followed.accuracy.high) == (KEPT, 1.0)
