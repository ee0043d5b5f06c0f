"""Volcano and Kueue by example. No controller of theirs was seen: the objects and their statuses were written by us after the
documented API (`batch.volcano.sh/v1alpha1`, `kueue.x-k8s.io/v1beta1`); none was recorded."""

import pytest

from adapters.base import EndReason, SiteState
from adapters.kubernetes.codec import GIVEN_UP, KUEUE_QUEUE, job_of
from adapters.kubernetes.queues import (
    ClusterQueue,
    VolcanoJob,
    VolcanoQueue,
    Workload,
    abort_of,
    object_of,
    queue_rooms,
)
from adapters.kubernetes.reports import index_of, report_of
from adapters.kubernetes.seen import Pod
from tests.adapters.kubernetes.examples import STOPPED, UID, a_job, a_pod, at, ended, is_true, runs, taking
from tests.adapters.kubernetes.test_codec import SITE, a_run, settings
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

VOLCANO = {"scheduler": "volcano", "queue": "research"}
KUEUE = {"scheduler": "kueue", "queue": "team"}


def a_volcano_job(phase, message="", annotations=None, tasks=2, **status):
    return VolcanoJob.model_validate(
        {
            "apiVersion": "batch.volcano.sh/v1alpha1",
            "kind": "Job",
            "metadata": a_job(annotations=annotations).metadata.model_dump(by_alias=True),
            "spec": {"minAvailable": tasks, "queue": "research", "tasks": [{"name": "main", "replicas": tasks, "template": {}}]},
            "status": {
                "state": {"phase": phase, "message": message, "lastTransitionTime": at(9)},
                "minAvailable": tasks, "version": 1, **status,
            },
        }
    )  # fmt: skip


def a_workload(*conditions):
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "fed-j1-a1", "uid": UID, "controller": True}
    return Workload.model_validate(
        {"metadata": {"name": "job-fed-j1-a1-1", "ownerReferences": [owner]}, "status": {"conditions": list(conditions)}}
    )


def test_a_gang_of_volcano_starts_as_a_whole_and_never_again():
    job = object_of(a_run(tasks=3), SITE, settings(**VOLCANO), "a1b2")
    assert (job["apiVersion"], job["kind"]) == ("batch.volcano.sh/v1alpha1", "Job")
    spec = job["spec"]
    assert (spec["minAvailable"], spec["queue"], spec["schedulerName"], spec["maxRetry"]) == (3, "research", "volcano", 1)
    (task,) = spec["tasks"]
    assert task["replicas"] == 3
    env = {each["name"]: each for each in task["template"]["spec"]["containers"][0]["env"]}
    assert list(env)[:2] == ["FED_VERSION", "FED_JOB_UID"]  # Kubernetes reads $(FED_VERSION) from what stands before
    assert env["FED_JOB_UID"]["value"] == "a1b2.$(FED_VERSION)"
    assert "VC_TASK_INDEX" in task["template"]["spec"]["containers"][0]["command"][2]


def test_a_job_of_kueue_waits_in_its_queue_until_it_is_let_go():
    job = object_of(a_run(), SITE, settings(**KUEUE, queues={"vision": "v"}), "a1b2")
    assert job["metadata"]["labels"][KUEUE_QUEUE] == "v"
    assert job["spec"]["suspend"] is True
    assert object_of(a_run(), SITE, settings(), "a1b2") == job_of(a_run(), SITE, settings())


@pytest.mark.parametrize(
    ("phase", "state", "reason"),
    [
        ("", SiteState.QUEUED, None),
        ("Pending", SiteState.QUEUED, None),
        ("Running", SiteState.QUEUED, None),  # as long as no pod of it has started
        ("Aborting", SiteState.QUEUED, None),
        ("Restarting", SiteState.UNKNOWN, None),
        ("Enchanted", SiteState.UNKNOWN, None),
        ("Completed", SiteState.SUCCEEDED, None),
        ("Failed", SiteState.FAILED, None),
        ("Terminated", SiteState.FAILED, EndReason.PREEMPTED),
        ("Aborted", SiteState.FAILED, EndReason.PREEMPTED),
    ],
)
def test_phases_of_volcano(phase, state, reason):
    told = report_of(a_volcano_job(phase), [], [])
    assert (told.state, told.reason) == (state, reason)


def test_a_job_of_volcano_is_told_by_its_pods_while_they_are_there():
    both = [a_pod("Running", 0, runs(2)), a_pod("Running", 1, runs(3))]
    assert report_of(a_volcano_job("Running", running=2), both, []).state is SiteState.RUNNING
    failed = [a_pod("Failed", 0, ended(3, "ended 3 1.0 2.0")), a_pod("Failed", 1, ended(143, "ended 143 1.0 2.5 gang"))]
    told = report_of(a_volcano_job("Failed", failed=2), failed, [])
    assert (told.reason, told.exit_code) == (EndReason.PROGRAM_FAILED, 3)


def test_a_job_of_volcano_that_we_aborted_was_cancelled():
    assert report_of(a_volcano_job("Aborting", annotations=STOPPED, pending=2), [], []).state is SiteState.QUEUED
    assert report_of(a_volcano_job("Aborted", annotations=STOPPED), [], []).state is SiteState.CANCELLED
    command = abort_of(a_volcano_job("Pending"))
    assert (command["action"], command["target"]["name"], command["target"]["uid"]) == ("AbortJob", "fed-j1-a1", UID)


@pytest.mark.parametrize(
    ("metadata", "index"),
    [
        ({"name": "x-main-3", "labels": {"volcano.sh/job-name": "x", "volcano.sh/task-index": "3"}}, 3),
        ({"name": "x-main-12", "labels": {"volcano.sh/job-name": "x"}}, 12),
        ({"name": "x-main-12", "labels": {}}, -1),
    ],
)
def test_which_task_a_pod_of_volcano_is(metadata, index):
    assert index_of(Pod.model_validate({"metadata": metadata})) == index


def test_pending_admitted_and_evicted_workloads_are_told_apart():
    words = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 2 more needed"
    pending = a_workload({"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": words})
    assert (pending.job_uid, pending.waits, pending.evicted) == (UID, f"Kueue: {words}", "")
    admitted = a_workload(is_true("QuotaReserved"), is_true("Admitted", "Admitted", "The workload is admitted"))
    assert (admitted.waits, admitted.evicted) == ("", "")
    evicted = a_workload(is_true("Evicted", "Preempted", "Preempted to accommodate a workload"))
    assert evicted.evicted == "Kueue: Preempted: Preempted to accommodate a workload"
    assert a_workload(is_true("Evicted", "Deactivated", "by us")).evicted == ""


def test_a_run_that_kueue_evicted_was_preempted():
    job = a_job(is_true("Suspended"), suspend=True, annotations={GIVEN_UP: "preempted Kueue: Preempted: made room"})
    told = report_of(job, [], [])
    assert (told.state, told.reason, told.message) == (SiteState.FAILED, EndReason.PREEMPTED, "Kueue: Preempted: made room")


POOL = Pool("cpu", 4, Resources(4, 8))


def a_volcano_queue(state="Open", **allocated):
    spec = {"weight": 1, "capability": {"cpu": "12", "memory": "64Gi"}}
    return VolcanoQueue.model_validate(
        {"metadata": {"name": "research"}, "spec": spec, "status": {"state": state, "allocated": allocated}}
    )


def test_what_a_queue_of_volcano_leaves():
    # 12 cpus less 6 allocated, of which 4 are ours: 10 are left, 2 nodes and a half; memory: 64 GiB are more than all nodes have
    queues, ours = {"research": a_volcano_queue(cpu="6", memory="12Gi")}, [taking("n1", {"cpu": "4"})]
    rooms = queue_rooms([POOL], settings(**VOLCANO, capacity="queue"), queues, ours)
    assert rooms == {"cpu": Room.of([(Resources(4, 8), 2), (Resources(2, 4), 1)])}
    closed = {"research": a_volcano_queue("Closed")}
    assert queue_rooms([POOL], settings(**VOLCANO, capacity="queue"), closed, []) == {"cpu": Room()}
    assert queue_rooms([POOL], settings(**VOLCANO, capacity="queue"), {}, []) == {"cpu": Room()}


def test_what_a_queue_of_kueue_leaves():
    flavors = [{"name": "default", "resources": [{"name": "cpu", "nominalQuota": 9}, {"name": "memory", "nominalQuota": "36Gi"}]}]
    usage = [{"name": "default", "resources": [{"name": "cpu", "total": "1"}, {"name": "memory", "total": "4Gi"}]}]
    queue = ClusterQueue.model_validate(
        {
            "metadata": {"name": "centre"},
            "spec": {"resourceGroups": [{"coveredResources": ["cpu", "memory"], "flavors": flavors}], "stopPolicy": "None"},
            "status": {"flavorsUsage": usage},
        }
    )
    # 9 - 1 = 8 cpus are 2 nodes of 4; 36 - 4 = 32 GiB are 4 nodes of 8
    rooms = queue_rooms([POOL], settings(**KUEUE, capacity="queue"), {"team": queue}, [])
    assert rooms == {"cpu": Room.of([(Resources(4, 8), 2)])}
