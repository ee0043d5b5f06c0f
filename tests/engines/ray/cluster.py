"""A real Ray cluster on this machine: a head that runs no tasks, and nodes that have what they are told to have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.store.embedded import free_ports
from tests.engines.running import cache

READY_S = 300.0
END_S = 10.0
TOKEN = "the-token-of-the-ray-under-test"


def programs() -> Path:
    """Where build.sh puts them."""
    return cache() / "ray" / "bin"


def missing() -> str:
    """What this machine lacks; empty when nothing."""
    return "" if os.access(programs() / "ray", os.X_OK) else "Ray: run tests/engines/ray/build.sh"


@dataclass(frozen=True)
class NodeSpec:
    """What a node says it has. Memory in GiB. `labels` are Ray's own, see
    https://docs.ray.io/en/latest/ray-core/scheduling/labels.html"""

    cpus: int
    memory_gib: int
    gpus: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


class RayCluster:
    """Starts with the constructor; all that it has is below `folder`, which is new. Asks for a token in every request."""

    def __init__(self, folder: Path, nodes: Sequence[NodeSpec]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._specs = folder, nodes
        self.token = TOKEN
        self._port, self.dashboard_port = free_ports(2)
        self._starts = 0
        self._groups: list[subprocess.Popen[bytes]] = []
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Where its Jobs API listens."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def is_up(self) -> bool:
        """Whether it was started, and not stopped or killed since."""
        return bool(self._groups)

    def wait_idle(self) -> None:
        """Until nothing is in use, as the autoscaler sees it."""
        self._until(lambda: self._used() == 0, "something is in use")

    def start(self) -> None:
        """Start head and nodes; returns once the API answers and lists every node."""
        self._starts += 1
        ports = [f"--port={self._port}", f"--dashboard-port={self.dashboard_port}", "--dashboard-host=127.0.0.1"]
        self._start_one("head", NodeSpec(0, 1), ["--head", *ports])
        self._until(lambda: self.ask("/api/version")[0] == 200, "the head does not answer")
        for number, spec in enumerate(self._specs):
            self._start_one(f"node{number}", spec, [f"--address=127.0.0.1:{self._port}"])
        self._until(lambda: len(self.nodes()) == len(self._specs) + 1, "a node does not join")
        self._until(lambda: self._takes_jobs(), "the head takes no jobs")

    def stop(self) -> None:
        """End every process of it, and wait until they are gone."""
        for signal_ in (signal.SIGTERM, signal.SIGKILL):
            for group in self._pids():
                _kill(group, signal_)
            deadline = time.monotonic() + END_S
            while self._pids() and time.monotonic() < deadline:
                for process in self._groups:
                    process.poll()
                time.sleep(0.05)
        for process in self._groups:
            process.wait()
        self._groups.clear()

    def kill(self) -> None:
        """SIGKILL to all that it is; returns when it is gone."""
        while pids := self._pids():
            for pid in pids:
                _kill(pid, signal.SIGKILL)
            for process in self._groups:
                process.poll()
            time.sleep(0.05)
        for process in self._groups:
            process.wait()
        self._groups.clear()

    def pids(self, words: str) -> list[int]:
        """Of its processes whose command line has these words."""
        return [pid for pid in self._pids() if words in _command(pid)]

    def nodes(self) -> list[Any]:
        """Of the cluster that are alive, the head among them."""
        status, answer = self.ask("/api/v0/nodes?limit=1000&detail=1")
        return [node for node in answer["data"]["result"]["result"] if node["state"] == "ALIVE"] if status == 200 else []

    def ask(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Status and JSON, or text where it is none; 0 where nobody listens."""
        request = urllib.request.Request(self.url + path, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, None

    def _start_one(self, name: str, spec: NodeSpec, more: Sequence[str]) -> None:
        folder = self.folder / f"{name}.{self._starts}"
        folder.mkdir()
        own_ports = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export", "ray-client-server")
        ports = [f"--{kind}-port={port}" for kind, port in zip(own_ports, free_ports(len(own_ports)), strict=True)]
        ports = ports if "--head" in more else ports[:-1]
        environment = {
            "PATH": f"{programs()}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_enable_worker_prestart": "0",
            "RAY_prestart_worker_first_driver": "0",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "FED_TEST_CLUSTER": str(self.folder),
            "RAY_agent_register_timeout_ms": "240000",
            "OMP_NUM_THREADS": "1",
        }
        command = [
            str(programs() / "ray"), "start", "--block", "--node-ip-address=127.0.0.1", f"--num-cpus={spec.cpus}",
            f"--num-gpus={spec.gpus}", f"--memory={spec.memory_gib * 2**30}", "--object-store-memory=80000000",
            f"--resources={json.dumps(dict(spec.resources))}", "--disable-usage-stats", f"--temp-dir={folder}",
            "--include-log-monitor=false", *ports, *more,
        ]  # fmt: skip
        if spec.labels:
            command.append("--labels=" + ",".join(f"{key}={value}" for key, value in spec.labels.items()))
        with (folder / "out").open("wb") as out:
            starting = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, "start_new_session": True}
            self._groups.append(subprocess.Popen(command, env=environment, **starting))

    def _used(self) -> float:
        status, answer = self.ask("/api/cluster_status?format=0")
        if status != 200 or not answer["data"]["clusterStatus"]:
            return -1
        usage = answer["data"]["clusterStatus"]["loadMetricsReport"]["usage"]
        return sum(used for name, (used, _) in usage.items() if name != "objectStoreMemory")

    def _takes_jobs(self) -> bool:
        """Whether its agent answers, by asking to stop what is not there."""
        return self.ask("/api/jobs/nothing/logs")[0] == 404

    def _pids(self) -> list[int]:
        """All that has our mark in its environment: Ray's processes leave their group."""
        mark = f"FED_TEST_CLUSTER={self.folder}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (path / "environ").read_bytes().split(b"\0"):
                    found.append(int(path.name))
            except OSError:
                continue  # it ended while we looked
        return found

    def _until(self, holds: Any, what: str) -> None:
        deadline = time.monotonic() + READY_S
        while not holds():
            ended = [process.args for process in self._groups if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                said = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*/out"))
                raise RuntimeError(f"Ray: {what}: {ended}\n{said}")
            time.sleep(0.1)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _kill(pid: int, signal_: int) -> None:
    try:
        os.kill(pid, signal_)
    except ProcessLookupError:
        return
