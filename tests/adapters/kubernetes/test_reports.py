"""What a Job and its pods come to, by example."""

from dataclasses import astuple

import pytest

from adapters.base import EndReason, SiteState
from adapters.kubernetes.codec import GIVEN_UP
from adapters.kubernetes.reports import report_of, stuck
from tests.adapters.kubernetes.examples import (
    SECOND,
    STOPPED,
    UID,
    a_job,
    a_pod,
    ended,
    is_true,
    runs,
    waits,
)

NO_ROOM = {
    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
    "message": "0/3 nodes are available: 2 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector.",
}  # fmt: skip
LOST = is_true("DisruptionTarget", "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")


def report(job, *pods, departed=()):
    return report_of(job, pods, departed)


def test_a_run_is_queued_until_all_its_tasks_have_started():
    two = a_job(tasks=2, active=2)
    assert report(two).state is SiteState.QUEUED
    half = report(two, a_pod("Running", 0, runs(2)), a_pod("Pending", 1, conditions=[NO_ROOM]))
    assert (half.state, half.started_at, half.message) == (SiteState.QUEUED, None, NO_ROOM["message"])
    whole = report(two, a_pod("Running", 0, runs(2)), a_pod("Running", 1, runs(4)))
    assert (whole.state, whole.started_at, whole.native_id, whole.pool) == (SiteState.RUNNING, SECOND + 4, UID, "cpu")


def test_a_run_that_succeeded_is_told_from_its_pods_before_its_job_says_so():
    pod = a_pod("Succeeded", 0, ended(0, "ended 0 100.00 102.50"))
    told = report(a_job(active=0), pod)
    assert astuple(told)[2:8] == (SiteState.SUCCEEDED, SECOND + 2, SECOND + 5, 0, None, None)


def test_a_run_whose_pods_are_gone_is_told_by_its_job():
    done = a_job(is_true("SuccessCriteriaMet"), is_true("Complete"), completionTime="2023-11-14T22:13:29Z")
    assert (report(done).state, report(done).ended_at) == (SiteState.SUCCEEDED, SECOND + 9)
    late = report(a_job(is_true("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")))
    assert (late.state, late.reason, late.ended_at) == (SiteState.FAILED, EndReason.WALLTIME, SECOND + 9)


@pytest.mark.parametrize(
    ("state", "reason", "exit_code", "signal", "words"),
    [
        (ended(3, "ended 3 100.00 101.00"), EndReason.PROGRAM_FAILED, 3, None, "exited with 3"),
        (ended(138, "ended 138 100.00 101.00"), EndReason.PROGRAM_FAILED, None, 10, "signal 10"),
        (ended(143, "ended 143 100.00 101.00 walltime"), EndReason.WALLTIME, None, 15, "walltime"),
        (ended(137, "ended 137 100.00 101.00", "OOMKilled"), EndReason.OUT_OF_MEMORY, None, 9, "memory"),
        (ended(137, "", "OOMKilled"), EndReason.OUT_OF_MEMORY, None, 9, "memory"),
        (ended(1, "left claimed its claim exists already"), EndReason.CLAIMED, None, None, "its claim exists already"),
        (ended(1, "left start-failed there is no program x"), EndReason.START_FAILED, None, None, "there is no program x"),
        (ended(1, "left node-lost input a is missing"), EndReason.NODE_LOST, None, None, "input a is missing"),
        (ended(128, 'exec: "/bin/sh": no such file', "StartError"), EndReason.START_FAILED, None, None, "/bin/sh"),
        (ended(5, "what the program itself wrote there"), EndReason.PROGRAM_FAILED, 5, None, "exited with 5"),
    ],
)
def test_how_a_program_ended_is_told_apart(state, reason, exit_code, signal, words):
    told = report(a_job(), a_pod("Failed", 0, state))
    assert (told.state, told.reason, told.exit_code, told.signal) == (SiteState.FAILED, reason, exit_code, signal)
    assert words in told.message
    is_program = reason not in (EndReason.CLAIMED, EndReason.START_FAILED, EndReason.NODE_LOST)
    assert told.started_at == (SECOND + 2 if is_program else None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"conditions": [LOST]}, EndReason.NODE_LOST),
        ({"conditions": [is_true("DisruptionTarget", "PreemptionByScheduler", "made room")]}, EndReason.PREEMPTED),
        ({"conditions": [is_true("DisruptionTarget", "EvictionByEvictionAPI", "drained")]}, EndReason.PREEMPTED),
        ({"conditions": [is_true("DisruptionTarget", "DeletionByPodGC", "no such node")]}, EndReason.NODE_LOST),
        ({"reason": "Evicted", "message": "The node was low on resource: memory."}, EndReason.PREEMPTED),
        ({"reason": "NodeShutdown", "message": "Pod was rejected as the node is shutting down"}, EndReason.NODE_LOST),
    ],
)
def test_who_ended_a_pod_is_told_from_what_its_program_did(status, reason):
    killed = a_pod("Failed", 0, ended(137), **status)
    assert report(a_job(), killed).reason is reason
    # seen last before it was removed with its node
    failed = a_job(is_true("Failed", "PodFailurePolicy", "Pod default/x has condition DisruptionTarget matching FailJob rule"))
    assert report(failed, departed=[a_pod("Running", 0, runs(), **status)]).reason is reason


def test_a_node_that_was_lost_is_told_by_the_job_alone():
    words = "Pod default/fed-j1-a1-0-abcde has condition DisruptionTarget matching FailJob rule at index 0"
    told = report(a_job(is_true("Failed", "PodFailurePolicy", words)))
    assert (told.state, told.reason, told.message) == (SiteState.FAILED, EndReason.NODE_LOST, words)


def test_a_task_on_a_lost_node_is_waited_for_until_it_should_have_been_gone():
    pod = a_pod("Running", 0, runs(2), conditions=[LOST])
    pod = pod.model_copy(update={"metadata": pod.metadata.model_copy(update={"deletion_timestamp": SECOND + 40})})
    job = a_job(active=0, terminating=1)
    assert report_of(job, [pod], [], SECOND + 54).state is SiteState.RUNNING
    told = report_of(job, [pod], [], SECOND + 56)
    assert (told.state, told.reason, told.started_at) == (SiteState.FAILED, EndReason.NODE_LOST, SECOND + 2)
    peer = a_pod("Running", 1, runs(2))
    assert report_of(a_job(tasks=2), [pod, peer], [], SECOND + 56).state is SiteState.RUNNING


def test_a_gang_fails_by_its_first_cause_and_only_when_all_of_it_is_over():
    first = a_pod("Failed", 1, ended(7, "ended 7 100.00 103.00", end=5))
    peer = a_pod("Failed", 0, ended(143, "ended 143 100.00 102.00 gang", end=4))
    still = a_pod("Running", 2, runs(2))
    gang = a_job(tasks=3)
    assert report(gang, first, peer, still).state is SiteState.RUNNING
    over = a_pod("Failed", 2, ended(143, "ended 143 100.00 104.00 gang", end=6))
    told = report(gang, first, peer, over)
    assert (told.state, told.exit_code, told.reason) == (SiteState.FAILED, 7, EndReason.PROGRAM_FAILED)
    assert "task 1" in told.message


def test_a_job_that_failed_is_over_only_when_its_last_pod_is():
    failed = a_job(is_true("FailureTarget"), terminating=1)
    assert report(failed, a_pod("Running", 0, runs())).state is SiteState.RUNNING


def test_a_cancelled_run_is_over_when_nothing_of_it_can_start_any_more():
    waiting = a_job(suspend=True, annotations=STOPPED)
    assert report(waiting, a_pod("Pending")).state is SiteState.QUEUED
    assert report(waiting).state is SiteState.QUEUED  # the controller has not seen it yet
    told = report(a_job(is_true("Suspended", "JobSuspended"), suspend=True, annotations=STOPPED))
    assert (told.state, told.started_at, told.ended_at) == (SiteState.CANCELLED, None, SECOND + 9)


def test_a_run_that_was_cancelled_while_it_ran_tells_the_signal():
    pod = a_pod("Failed", 0, ended(143, "ended 143 100.00 101.00"), reason="DeadlineExceeded")
    told = report(a_job(annotations=STOPPED), pod)
    assert (told.state, told.signal, told.started_at) == (SiteState.CANCELLED, 15, SECOND + 2)


def test_a_run_that_succeeded_before_its_cancel_arrived_has_succeeded():
    assert report(a_job(annotations=STOPPED), a_pod("Succeeded", 0, ended(0))).state is SiteState.SUCCEEDED


def test_an_image_that_cannot_be_had_is_told_while_it_waits_and_once_it_was_given_up():
    waiting = a_pod("Pending", 0, waits("ImagePullBackOff", 'Back-off pulling image "nowhere/x:1"'))
    assert report(a_job(), waiting).message == 'ImagePullBackOff: Back-off pulling image "nowhere/x:1"'
    assert stuck(waiting) == ('ImagePullBackOff: Back-off pulling image "nowhere/x:1"', False)
    assert stuck(a_pod("Pending", 0, waits("InvalidImageName", "bad"))) == ("InvalidImageName: bad", True)
    assert stuck(a_pod("Pending", 0, waits("ContainerCreating"))) == ("", False)
    words = {GIVEN_UP: "start-failed InvalidImageName: bad"}
    told = report(a_job(is_true("Suspended"), suspend=True, annotations=words))
    assert (told.state, told.reason, told.message) == (SiteState.FAILED, EndReason.START_FAILED, "InvalidImageName: bad")


def test_what_nobody_knows_stays_unknown():
    assert report(a_job(), a_pod("Unknown")).state is SiteState.UNKNOWN
    assert report(a_job(), a_pod("Hibernating")).state is SiteState.UNKNOWN


def test_no_program_ends_before_its_own_length_has_passed():
    # started in second 2, over in second 2 by Kubernetes' clock of whole seconds, 0.4 s long by its own
    told = report(a_job(), a_pod("Succeeded", 0, ended(0, "ended 0 100.10 100.50", begin=2, end=2)))
    assert told.ended_at - told.started_at == pytest.approx(0.4)
