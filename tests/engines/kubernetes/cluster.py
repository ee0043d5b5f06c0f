"""A real Kubernetes on loopback: its control plane and any number of nodes, as foreground processes that can be killed by pid."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from broker.store.embedded import free_ports
from tests.engines.etcd.cluster import built_binary
from tests.engines.kubernetes.api import Api
from tests.engines.kubernetes.images import STATIC, write_images
from tests.engines.kubernetes.node import Node, NodeSpec, end, start
from tests.engines.running import cache

VERSION = "1.36.3"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
READY_S = 90.0
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
STATUS = "application/strategic-merge-patch+json"


def programs() -> Path:
    """Where build.sh puts them."""
    return cache() / "bin" / f"kubernetes-{VERSION}"


def missing() -> str:
    """What this machine lacks to run a cluster with nodes; empty when nothing."""
    if os.geteuid() != 0:
        return "Kubernetes: nodes need root"
    if (os.cpu_count() or 0) < 2:
        return "Kubernetes: nodes need two cpus"
    if built_binary() is None or not all(os.access(programs() / name, os.X_OK) for name in PROGRAMS):
        return "Kubernetes: run tests/engines/kubernetes/build.sh, which needs Go"
    tools = [name for name in ("containerd", "ctr", "runc", "openssl") if shutil.which(name) is None]
    tools += [] if STATIC.exists() else ["busybox-static"]
    tools += [] if Path("/usr/lib/cni/ptp").exists() else ["containernetworking-plugins"]
    return f"Kubernetes: run tests/engines/kubernetes/build.sh; missing are {', '.join(tools)}" if tools else ""


class KubernetesCluster:
    """Starts with the constructor, in some seconds; all that it has is below `folder`, which is new. `flags` are more for the
    API server."""

    def __init__(self, folder: Path, nodes: Sequence[NodeSpec], flags: Sequence[str] = ()) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._pki, self._flags = folder / "pki", flags
        self._etcd_port, self._etcd_peer, self.port, self._controllers_port, self._scheduler_port = free_ports(5)
        self.kubeconfig = folder / "admin.conf"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._make_certificates()
        self._write_kubeconfig()
        self.api = Api(self.port, self._pki)
        self.nodes = [
            Node(spec, folder / f"n{number}", self.kubeconfig, programs()) for number, spec in enumerate(nodes)
        ]
        try:
            images = write_images(folder)
            with ThreadPoolExecutor() as pool:
                for node in self.nodes:
                    node.start()
                loading = [pool.submit(node.load, images) for node in self.nodes]
                self.start_control()
                for each in loading:
                    each.result()
            self.start_nodes(self.nodes)
        except BaseException:
            self.stop()
            raise

    @property
    def authority(self) -> Path:
        """The certificate by which its API server is known."""
        return self._pki / "ca.crt"

    def start_control(self) -> None:
        """etcd, API server, controllers and scheduler, with what they have on disk; returns once they work."""
        self._start_etcd()
        self._start_apiserver()
        _until(lambda: self.api.ask("GET", "/readyz")[0] == 200, "the API server is not ready")
        for name in ("kube-controller-manager", "kube-scheduler"):
            self.api.ask("DELETE", f"{LEASES}/{name}")  # nobody holds it who was killed
            self.start_servant(name)
        _until(self._has_service_account, "the controllers do not work")
        _until(lambda: self.api.ask("GET", f"{LEASES}/kube-scheduler")[0] == 200, "the scheduler does not work")

    def kill_control(self) -> None:
        """SIGKILL to each process of the control plane. Nodes and what they run go on."""
        for process in self._processes.values():
            end(process, signal.SIGKILL)

    def start_nodes(self, nodes: Sequence[Node]) -> None:
        """Kubelets of these; returns once all are ready and have what they should."""
        for node in nodes:
            node.start_kubelet()
        for node in nodes:
            _until(lambda node=node: self.is_ready(node), f"node {node.name} is not ready")  # type: ignore[misc]
            if node.spec.extended:
                amounts = {name: str(count) for name, count in node.spec.extended.items()}
                change = {"status": {"capacity": amounts, "allocatable": amounts}}
                self.api.must("PATCH", f"/api/v1/nodes/{node.name}/status", change, STATUS)

    def is_ready(self, node: Node) -> bool:
        """Whether the cluster takes this node for ready."""
        status, answer = self.api.ask("GET", f"/api/v1/nodes/{node.name}")
        if status != 200:
            return False
        return any(each["type"] == "Ready" and each["status"] == "True" for each in answer["status"].get("conditions", ()))

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """One of the control plane: `etcd`, `kube-apiserver`, `kube-controller-manager` or `kube-scheduler`."""
        return self._processes[name]

    def kill(self, name: str) -> None:
        """SIGKILL to one of the control plane."""
        end(self._processes[name], signal.SIGKILL)

    def start_servant(self, name: str) -> None:
        """Controllers or scheduler."""
        port = self._scheduler_port if name == "kube-scheduler" else self._controllers_port
        command = [
            f"--kubeconfig={self.kubeconfig}", "--bind-address=127.0.0.1", f"--secure-port={port}",
            "--leader-elect-retry-period=500ms",
            "--leader-elect-lease-duration=120s", "--leader-elect-renew-deadline=110s",  # who loses its lease ends itself
            "--kube-api-qps=40", "--kube-api-burst=80",
        ]  # fmt: skip
        if name == "kube-controller-manager":
            command += [
                f"--service-account-private-key-file={self._pki / 'sa.key'}", f"--root-ca-file={self._pki / 'ca.crt'}",
                "--node-monitor-grace-period=20s",
            ]  # fmt: skip
        self._run(name, [str(programs() / name), *command])

    def restart_apiserver(self) -> None:
        """SIGKILL and a new one on the same port; returns once it is ready."""
        self.kill("kube-apiserver")
        self._start_apiserver()
        _until(lambda: self.api.ask("GET", "/readyz")[0] == 200, "the API server is not ready")

    def stop(self) -> None:
        """End all of it and leave neither process nor mount."""
        for node in self.nodes:
            node.stop()
        self.kill_control()

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._etcd_peer}"
        command = [
            str(built_binary()), f"--data-dir={self.folder / 'etcd'}", f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}", "--log-level=error",
            "--unsafe-no-fsync",  # what a killed process wrote is there: only a lost machine would take it
        ]  # fmt: skip
        self._run("etcd", command)

    def _start_apiserver(self) -> None:
        pki = self._pki
        command = [
            str(programs() / "kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.port}",
            f"--tls-cert-file={pki / 'apiserver.crt'}", f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={pki / 'ca.crt'}", f"--service-account-key-file={pki / 'sa.pub'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}", "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC", "--allow-privileged=true",
            "--kubelet-preferred-address-types=Hostname", "--delete-collection-workers=8",
            "--default-not-ready-toleration-seconds=2", "--default-unreachable-toleration-seconds=2", *self._flags,
        ]  # fmt: skip
        self._run("kube-apiserver", command)

    def _run(self, name: str, command: Sequence[str]) -> None:
        self._processes[name] = start(command, self.folder / f"{name}.log")

    def _has_service_account(self) -> bool:
        return self.api.ask("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200

    def _make_certificates(self) -> None:
        self._pki.mkdir()
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        authority = ["-CA", "ca.crt", "-CAkey", "ca.key"]
        usages = "-addext", "basicConstraints=critical,CA:TRUE"
        self._openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca", "-days", "30", *usages)
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sa.key")
        self._openssl("ec", "-in", "sa.key", "-pubout", "-out", "sa.pub")
        names = "subjectAltName=DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1"
        for name, subject in (("apiserver", "/CN=kube-apiserver"), ("admin", "/O=system:masters/CN=admin")):
            self._openssl(
                "req", "-x509", *authority, *key, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", subject,
                "-days", "30", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE",
            )  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self._pki, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _write_kubeconfig(self) -> None:
        pki = self._pki
        self.kubeconfig.write_text(
            f"""apiVersion: v1
kind: Config
current-context: admin
clusters: [{{name: here, cluster: {{server: "https://127.0.0.1:{self.port}", certificate-authority: {pki}/ca.crt}}}}]
users: [{{name: admin, user: {{client-certificate: {pki}/admin.crt, client-key: {pki}/admin.key}}}}]
contexts: [{{name: admin, context: {{cluster: here, user: admin}}}}]
"""
        )


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + READY_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} after {READY_S:.0f} s")
        time.sleep(0.1)
