"""What a real Kubernetes does to us, and what we say of it."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace

import pytest

from adapters.base import Accepted, EndReason, Refused, SiteState, Unknown, Unreachable
from adapters.kubernetes.adapter import IN_FLIGHT
from tests.contract.adapters import CALL, LONG_S, Call, Does, a_run, finish, over, ref, running, sh, text, until
from tests.contract.kubernetes_kind import PODS, KubernetesKind
from tests.engines.kubernetes.images import BUSYBOX
from topology.resources import Resources

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(KubernetesKind.missing()), reason=KubernetesKind.missing()),
]
ROLE = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
]
"""What the README says that our login must be allowed in a namespace, and in the whole cluster."""
CLUSTER_ROLE = [{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list", "watch"]}]
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"


@pytest.fixture
async def kind(tmp_path):
    engine = KubernetesKind(tmp_path)
    yield engine
    await engine.end()


def pods_of(kind, run):
    found = kind.cluster.api.must("GET", PODS)["items"]
    return [pod for pod in found if pod["metadata"]["annotations"].get("fedbroker/run") == run.name]


async def test_an_image_that_is_nowhere_is_told_and_given_up(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, image="localhost/nowhere:1"))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.START_FAILED)
    assert "localhost/nowhere:1" in report.message
    assert pods_of(kind, a_run(kind)) == []


async def test_a_job_brings_its_image(kind, adapter):
    run = a_run(kind, command=sh("ls /usr | wc -l"), image=BUSYBOX)
    other = kind.open(mounts=[])
    assert (await finish(kind, other, run)).state is SiteState.SUCCEEDED
    assert await text(other, run) == "0\n"
    await other.close()


async def test_an_image_without_a_shell_is_told_from_a_program_that_fails(kind):
    adapter = kind.open(mounts=[])  # without the machine's /usr the image has nothing
    report = await finish(kind, adapter, a_run(kind))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.START_FAILED)
    assert "/bin/sh" in report.message
    await adapter.close()


async def test_a_program_that_takes_too_much_memory_is_told(kind, adapter):
    greedy = ("python3", "-c", "x = bytearray(200 * 2**20); print(len(x))")
    report = await finish(kind, adapter, a_run(kind, command=greedy, per_task=Resources(1, 0.0625)))
    assert (report.state, report.reason, report.signal) == (SiteState.FAILED, EndReason.OUT_OF_MEMORY, signal.SIGKILL)


async def test_a_drained_pod_was_preempted(kind, adapter):
    run = a_run(kind, does=Does(LONG_S))
    await adapter.submit([run], CALL)
    await running(kind, adapter, run)
    (pod,) = pods_of(kind, run)
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    kind.cluster.api.must("POST", f"{PODS}/{name}/eviction", eviction)
    (report,) = await over(kind, adapter, run)
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.PREEMPTED)


async def test_a_pod_that_made_room_for_another_was_preempted(kind, adapter):
    api = kind.cluster.api
    priority = {"metadata": {"name": kind.federation}, "value": 1000}
    api.must("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", priority)
    low, high = a_run(kind, "low", Does(LONG_S), tasks=8), a_run(kind, "high")
    urgent = kind.open(priority_class=kind.federation)
    await adapter.submit([low], CALL)
    await running(kind, adapter, low)
    await urgent.submit([high], CALL)
    report, done = await over(kind, adapter, low, high)
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.PREEMPTED)
    assert done.state is SiteState.SUCCEEDED
    await urgent.close()
    api.must("DELETE", f"/apis/scheduling.k8s.io/v1/priorityclasses/{kind.federation}")


async def test_a_gang_whose_node_dies_is_told_of_it_and_ends(kind, adapter):
    gang = a_run(kind, does=Does(LONG_S), tasks=8)
    await adapter.submit([gang], CALL)
    await running(kind, adapter, gang)
    node = kind.cluster.nodes[1]
    node.kill()
    try:
        seen = await until_long(kind, adapter, lambda reports: reports[gang.name].state.is_over)
        report = seen.reports[gang.name]
        assert (report.state, report.reason) == (SiteState.FAILED, EndReason.NODE_LOST)
        # one node of four cpus is left
        assert seen.rooms["cpu"].fit(Resources(1)) == 4
    finally:
        node.start()
        kind.cluster.start_nodes([node])
    await until(kind, adapter, lambda reports: True)


async def until_long(kind, adapter, holds):
    """As `until`, for what takes Kubernetes a while to believe."""
    deadline = time.monotonic() + 90
    while not holds((seen := await adapter.observe([], CALL)).reports):
        assert time.monotonic() < deadline, seen.reports
        await kind.pause()
    return seen


async def test_an_api_server_killed_while_it_is_sent_to_starts_each_run_once(kind):
    adapter, requests = kind.counted()
    runs = [a_run(kind, f"j{number}", Does(output="started.\n")) for number in range(IN_FLIGHT + 8)]
    sending = asyncio.create_task(adapter.submit(runs, CALL))
    while requests() <= IN_FLIGHT:  # one is through, others are under way, and some not yet sent
        await asyncio.sleep(0)
    kind.cluster.kill("kube-apiserver")
    assert {type(outcome) for outcome in (await sending).values()} == {Accepted, Unknown}
    await asyncio.to_thread(kind.cluster.restart_apiserver)
    assert {type(outcome) for outcome in (await adapter.submit(runs, CALL)).values()} == {Accepted}
    assert [report for report in await over(kind, adapter, *runs) if report.state is not SiteState.SUCCEEDED] == []
    assert {await text(adapter, run) for run in runs} == {"started.\n"}
    await adapter.close()


async def test_a_store_that_hangs_delays_and_doubles_nothing(kind, adapter):
    await adapter.observe([], CALL)
    runs = [a_run(kind, f"j{number}", Does(output="started.\n")) for number in range(8)]
    store = kind.cluster.process("etcd")
    store.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unreachable):
            await adapter.submit(runs, Call(5, 1.0))
        with pytest.raises(Unreachable):
            await adapter.observe([ref(run) for run in runs], Call(5, 1.0))
    finally:
        store.send_signal(signal.SIGCONT)
    await adapter.submit(runs, CALL)
    assert {report.state for report in await over(kind, adapter, *runs)} == {SiteState.SUCCEEDED}
    assert {await text(adapter, run) for run in runs} == {"started.\n"}


async def test_a_namespace_that_is_not_there_is_named(kind):
    adapter = kind.open(namespaces={"default": "nowhere"})
    run = a_run(kind)
    outcome = (await adapter.submit([run], CALL))[run.name]
    assert isinstance(outcome, Refused)
    assert "nowhere" in outcome.reason
    failed = (await adapter.probe(10))[-1]
    assert failed.is_misconfigured
    assert "nowhere" in failed.message
    await adapter.close()


async def test_a_name_that_a_stranger_has_is_refused_and_left_alone(kind, adapter):
    run = a_run(kind, does=Does(LONG_S))
    await adapter.submit([run], CALL)
    other = kind.adapter(f"{kind.federation}-b")
    outcome = (await other.submit([replace(run, federation=f"{kind.federation}-b")], CALL))[run.name]
    assert isinstance(outcome, Refused)
    assert isinstance((await adapter.submit([replace(run, tasks=2)], CALL))[run.name], Refused)
    await running(kind, adapter, run)
    await other.close()


async def test_a_token_that_expired_is_read_again_and_the_role_in_the_readme_is_enough(kind):
    api, name = kind.cluster.api, kind.federation
    subject = [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]
    api.must("POST", ACCOUNTS, {"metadata": {"name": name}})
    for where, role, rules in (("/namespaces/default", "Role", ROLE), ("", "ClusterRole", CLUSTER_ROLE)):
        api.must("POST", f"{RBAC}{where}/{role.lower()}s", {"metadata": {"name": name}, "rules": rules})
        bound = {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name}
        api.must(
            "POST", f"{RBAC}{where}/{role.lower()}bindings", {"metadata": {"name": name}, "roleRef": bound, "subjects": subject}
        )
    token = kind.storage / "token"
    token.write_text("of yesterday")
    server = {"url": f"https://127.0.0.1:{kind.cluster.port}", "ca_file": str(kind.cluster.authority)}
    adapter = kind.open(kubeconfig=None, server={**server, "token": {"file": str(token)}})
    run = a_run(kind, does=Does(output="started.\n"))
    with pytest.raises(Unreachable, match="401"):
        await adapter.submit([run], CALL)
    answer = api.must("POST", f"{ACCOUNTS}/{name}/token", {"spec": {}})
    token.write_text(answer["status"]["token"])
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert await text(adapter, run) == "started.\n"
    await adapter.forget([ref(run)], CALL)
    assert all(check.is_ok for check in await adapter.probe(20))
    api.must("DELETE", f"{RBAC}/clusterrolebindings/{name}")
    api.must("DELETE", f"{RBAC}/namespaces/default/rolebindings/{name}")
    other = kind.open(kubeconfig=None, server={**server, "token": {"file": str(token)}})
    failed = (await other.probe(20))[-1]
    assert failed.is_misconfigured
    assert "create jobs in namespace default" in failed.message
    assert "list nodes in the whole cluster" in failed.message
    await adapter.close()
    await other.close()
    for path in (f"{RBAC}/clusterroles/{name}", f"{RBAC}/namespaces/default/roles/{name}", f"{ACCOUNTS}/{name}"):
        api.must("DELETE", path)
