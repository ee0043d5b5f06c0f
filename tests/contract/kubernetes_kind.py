"""A real Kubernetes under the contract: two nodes of one pool, one of another, and GPUs that are only counted."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from adapters.base import Layer, SiteAdapter
from adapters.kinds import open_adapter
from adapters.kubernetes.adapter import KubernetesAdapter
from adapters.kubernetes.codec import FEDERATION
from broker.store.embedded import free_ports
from tests.contract.adapters import POOLS
from tests.contract.program_kind import ProgramKind
from tests.engines.kubernetes.cluster import KubernetesCluster, missing
from tests.engines.kubernetes.images import HOST
from tests.engines.kubernetes.node import NodeSpec
from tests.engines.running import running
from topology.site import Engine, Site, Storage

NODES = (
    NodeSpec({"pool": "cpu"}),
    NodeSpec({"pool": "cpu"}),
    NodeSpec({"pool": "gpu"}, {"example.com/a100": 2, "example.com/h100": 1}),
)
SETTINGS: dict[str, Any] = {
    "image": HOST,
    "image_pull_policy": "Never",
    "mounts": [{"host_path": "/usr", "at": "/usr"}],
    "pools": {"cpu": {"labels": {"pool": "cpu"}}, "gpu": {"labels": {"pool": "gpu"}}},
    "gpus": {"a100": {"resource": "example.com/a100"}, "h100": {"resource": "example.com/h100"}},
    "cpu_request": 0.5,  # nodes of two cpus, as this machine has, for pools of four
    "grace_s": 1,
}
JOBS = "/apis/batch/v1/namespaces/default/jobs"
PODS = "/api/v1/namespaces/default/pods"


def started(folder: Path) -> KubernetesCluster:
    """The cluster that tests share."""
    return KubernetesCluster(folder, NODES)


class KubernetesKind(ProgramKind):
    """The cluster of this session, and a federation of the test's own in it."""

    name = "kubernetes"
    is_real = True
    capabilities = KubernetesAdapter.capabilities
    patience_s = 60.0  # the kubelet looks once a second, and a busy machine has three of them
    probe_timeout_s = 30.0
    terminates_with = (signal.SIGTERM, signal.SIGKILL, None)

    @staticmethod
    def missing() -> str:
        return missing()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, gates="storage/.gates")
        self.cluster = self._cluster()
        self.federation = f"f{secrets.token_hex(3)}"

    def adapter(self, federation: str | None = None) -> SiteAdapter:
        return self.open(federation)

    def open(self, federation: str | None = None, **settings: Any) -> KubernetesAdapter:
        """An adapter with other settings than usual."""
        adapter = open_adapter(self._site(**settings), federation or self.federation)
        assert isinstance(adapter, KubernetesAdapter)
        return adapter

    def counted(self) -> tuple[SiteAdapter, Callable[[], int]]:
        adapter = self.open()
        return adapter, lambda: adapter.client.requests

    async def restart(self) -> None:
        self.cluster.kill_control()
        await asyncio.to_thread(self.cluster.start_control)

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        server = self.cluster.process("kube-apiserver")
        server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            server.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def broken(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        match layer:
            case Layer.REACH:
                # the server itself is killed in tests/engines/kubernetes: those that talk to it take a while to come back
                (port,) = free_ports(1)
                config = self.storage / "elsewhere.conf"
                config.write_text(self.cluster.kubeconfig.read_text().replace(f":{self.cluster.port}", f":{port}"))
                yield self.open(kubeconfig=str(config))
            case Layer.LOGIN:
                token = self.storage / "token"
                token.write_text("of nobody")
                server = {"url": f"https://127.0.0.1:{self.cluster.port}", "ca_file": str(self.cluster.authority)}
                yield self.open(kubeconfig=None, server={**server, "token": {"file": str(token)}})
            case Layer.SCHEDULER:
                yield self.open(namespace="nowhere")
            case Layer.STORAGE:
                with self.without_storage():
                    yield self.open()

    async def end(self) -> None:
        """What this test left is removed; that which takes room from the next is waited for."""
        api, ours = self.cluster.api, f"labelSelector={FEDERATION}+in+({self.federation},{self.federation}-b,other)"
        at_once = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
        deadline = time.monotonic() + 90
        await asyncio.to_thread(api.ask, "DELETE", f"{JOBS}?{ours}", at_once)
        while pods := (await asyncio.to_thread(api.must, "GET", f"{PODS}?{ours}"))["items"]:
            if any("deletionTimestamp" not in pod["metadata"] for pod in pods):
                await asyncio.to_thread(api.ask, "DELETE", f"{PODS}?{ours}", at_once)
            elif not any("nodeName" in pod["spec"] for pod in pods):
                return
            assert time.monotonic() < deadline, "pods of a test do not go"
            await self.pause()

    def _cluster(self) -> KubernetesCluster:
        return running("kubernetes", started)

    def _site(self, **settings: Any) -> Site:
        given = {**SETTINGS, "kubeconfig": str(self.cluster.kubeconfig), **settings}
        return Site("ams", Engine("kubernetes", given), POOLS, Storage(f"file://{self.storage}"))


class SmallKubernetesKind(KubernetesKind):
    """Another cluster, of one node."""

    name = "kubernetes-small"

    def _cluster(self) -> KubernetesCluster:
        return running("kubernetes-small", lambda folder: KubernetesCluster(folder, NODES[:1]))
