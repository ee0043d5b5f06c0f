"""What is sent to Volcano and Kueue, against definitions of their kinds on a real API server. No controller of theirs runs: what
they would answer is written by the test."""

from __future__ import annotations

import asyncio

import pytest

from adapters.base import Accepted, EndReason, SiteState
from tests.contract.adapters import CALL, Does, a_run, finish, listed, over, ref, text
from tests.contract.kubernetes_kind import KubernetesKind
from topology.resources import Resources

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(KubernetesKind.missing()), reason=KubernetesKind.missing()),
]
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KINDS = (
    ("batch.volcano.sh", "v1alpha1", "Job", "jobs", "Namespaced"),
    ("bus.volcano.sh", "v1alpha1", "Command", "commands", "Namespaced"),
    ("scheduling.volcano.sh", "v1beta1", "Queue", "queues", "Cluster"),
    ("kueue.x-k8s.io", "v1beta1", "Workload", "workloads", "Namespaced"),
    ("kueue.x-k8s.io", "v1beta1", "LocalQueue", "localqueues", "Namespaced"),
    ("kueue.x-k8s.io", "v1beta1", "ClusterQueue", "clusterqueues", "Cluster"),
)
VOLCANO = "/apis/batch.volcano.sh/v1alpha1/namespaces/default/jobs"
QUEUES = "/apis/scheduling.volcano.sh/v1beta1/queues"
COMMANDS = "/apis/bus.volcano.sh/v1alpha1/namespaces/default/commands"
WORKLOADS = "/apis/kueue.x-k8s.io/v1beta1/namespaces/default/workloads"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
MERGE = "application/merge-patch+json"


@pytest.fixture
async def kind(tmp_path):
    engine = KubernetesKind(tmp_path)
    await asyncio.to_thread(define, engine.cluster.api)
    yield engine
    for path in (VOLCANO, WORKLOADS, COMMANDS, QUEUES):
        engine.cluster.api.ask("DELETE", path)
    await engine.end()


def define(api):
    """The kinds, with any content: their own definitions are theirs to install."""
    for group, version, kind, plural, scope in KINDS:
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        body = {
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": scope,
                "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
                "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
            },
        }
        if group.endswith("volcano.sh") or group.endswith("k8s.io"):
            body["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, for tests"}
        api.ask("POST", DEFINITIONS, body)
        where = "/namespaces/default" if scope == "Namespaced" else ""
        while api.ask("GET", f"/apis/{group}/{version}{where}/{plural}")[0] != 200:
            pass


async def test_a_run_is_a_job_of_volcano(kind):
    api = kind.cluster.api
    api.must("POST", QUEUES, {
        "apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue", "metadata": {"name": "research"},
        "spec": {"capability": {"cpu": "2"}}, "status": {"state": "Open"},
    })  # fmt: skip
    adapter = kind.open(scheduler="volcano", queue="research", capacity="queue")
    run = a_run(kind, tasks=2)
    outcome = (await adapter.submit([run], CALL))[run.name]
    assert isinstance(outcome, Accepted)
    assert (await adapter.submit([run], CALL))[run.name] == outcome
    seen = await listed(kind, adapter, run)
    assert seen.reports[run.name].state is SiteState.QUEUED
    assert seen.rooms["cpu"].fit(Resources(1)) == 4  # 2 cpus of the queue at half a cpu each
    stored = api.must("GET", f"{VOLCANO}/{run.name}")
    assert stored["spec"]["minAvailable"] == 2
    await adapter.cancel([ref(run)], CALL)
    (command,) = api.must("GET", COMMANDS)["items"]
    assert (command["action"], command["target"]["uid"]) == ("AbortJob", outcome.native_id)
    api.must("PATCH", f"{VOLCANO}/{run.name}", {"status": {"state": {"phase": "Aborted"}}}, MERGE)
    (report,) = await over(kind, adapter, run)
    assert report.state is SiteState.CANCELLED
    await adapter.forget([ref(run)], CALL)
    assert (await adapter.observe([ref(run)], CALL)).reports == {}
    await adapter.close()


async def test_a_run_waits_for_kueue_and_runs_when_it_is_let_go(kind):
    api = kind.cluster.api
    adapter = kind.open(scheduler="kueue", queue="team", capacity="declared")
    run, never = a_run(kind, does=Does(output="started.\n")), a_run(kind, "never")
    await adapter.submit([run, never], CALL)
    await listed(kind, adapter, run, never)
    uid = api.must("GET", f"{JOBS}/{run.name}")["metadata"]["uid"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": run.name, "uid": uid, "controller": True}
    held = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "insufficient quota"}
    api.must("POST", WORKLOADS, {
        "apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "Workload",
        "metadata": {"name": run.name, "ownerReferences": [owner]}, "status": {"conditions": [held]},
    })  # fmt: skip
    seen = await adapter.observe([], CALL)
    while not seen.reports[run.name].message:
        await kind.pause()
        seen = await adapter.observe([], CALL)
    assert (seen.reports[run.name].state, seen.reports[run.name].message) == (SiteState.QUEUED, "Kueue: insufficient quota")
    await adapter.cancel([ref(never)], CALL)
    (report,) = await over(kind, adapter, never)
    assert report.state is SiteState.CANCELLED
    assert "kueue.x-k8s.io/queue-name" not in api.must("GET", f"{JOBS}/{never.name}")["metadata"]["labels"]
    api.must("PATCH", f"{JOBS}/{run.name}", {"spec": {"suspend": False}}, MERGE)
    (report,) = await over(kind, adapter, run)
    assert report.state is SiteState.SUCCEEDED
    assert await text(adapter, run) == "started.\n"
    await adapter.close()


async def test_a_run_that_kueue_sends_back_to_its_queue_ends_as_preempted(kind):
    api = kind.cluster.api
    adapter = kind.open(scheduler="kueue", queue="team", capacity="declared")
    run = a_run(kind)
    await adapter.submit([run], CALL)
    uid = api.must("GET", f"{JOBS}/{run.name}")["metadata"]["uid"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": run.name, "uid": uid, "controller": True}
    evicted = {"type": "Evicted", "status": "True", "reason": "Preempted", "message": "made room"}
    api.must("POST", WORKLOADS, {
        "apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "Workload",
        "metadata": {"name": run.name, "ownerReferences": [owner]}, "status": {"conditions": [evicted]},
    })  # fmt: skip
    report = await finish(kind, adapter, run)
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.PREEMPTED)
    assert report.message == "Kueue: Preempted: made room"
    await adapter.close()
