"""A real Ray cluster on this machine: a head that runs no tasks, and nodes that have what they are told to have."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.store.embedded import free_ports
from tests.engines.running import cache

READY_S = 300.0
END_S = 10.0
MOST_STARTS = 4
"""Of one node, before it is given up."""
GIVE_UP_S = 75.0
"""A head that is well answers before that, also on a busy machine: 10 to 60 s."""
HEAD = "head"
RECONNECT_S = 30
"""How long a node looks for its head before it ends itself with all that it runs; twice that where nobody says."""
AFTERLIFE_S = 60
"""Nodes end themselves 49 to 57 s after their head was killed and came back at once, whether they look for it for 30 s or 60."""
MARK = "FED_TEST_RAY"
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
    """Starts with the constructor; what it prints is below `folder`, which is new. Every request needs a token. Its head is
    `head`, its nodes are `node0`, `node1` and so on."""

    def __init__(self, folder: Path, nodes: Sequence[NodeSpec]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        # its own, and short: Ray's sockets are 67 characters below it, and a socket's path has 107 at most
        self._temp = Path(tempfile.mkdtemp(prefix="ray-"))
        self.token = TOKEN
        self._specs = {HEAD: NodeSpec(0, 1), **{f"node{number}": spec for number, spec in enumerate(nodes)}}
        self._port, self.dashboard_port = free_ports(2)
        self._starts = 0
        self._began = 0.0
        self._running: dict[str, subprocess.Popen[bytes]] = {}
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
    def names(self) -> Sequence[str]:
        """Of head and nodes."""
        return tuple(self._specs)

    @property
    def is_up(self) -> bool:
        """Whether all of it was started, and nothing stopped or killed since."""
        return self._running.keys() == self._specs.keys()

    def start(self, *names: str) -> None:
        """Start what does not run of these, or of head and nodes; returns once the API answers and lists every one. What gives up
        on a busy machine is started again."""
        most = self._starts + MOST_STARTS * len(self._specs)
        wanted = list(names or self._specs)

        def are_up(names: Sequence[str], holds: Callable[[], bool]) -> bool:
            for name in names:
                process = self._running.get(name)
                if process is None or process.poll() is not None:
                    if self._starts >= most:
                        raise RuntimeError(f"Ray: {name} does not start: {self._said()}")
                    self.kill(name)
                    self._start_one(name)
            if holds():
                return True
            if time.monotonic() - self._began > GIVE_UP_S and HEAD in names:
                self.kill(HEAD)  # its dashboard has died while the machine was busy, and Ray starts it not again
            return False

        self._until(lambda: are_up([HEAD], lambda: self.ask("/api/version")[0] == 200), "the head does not answer")
        self._until(lambda: are_up(wanted, lambda: len(self.nodes()) == len(wanted)), "a node does not join")
        self._until(lambda: self.ask("/api/jobs/nothing/logs")[0] == 404, "the head takes no jobs")

    def stop(self) -> None:
        """End every process of it, and wait until they are gone."""
        for pid in self._pids():
            _kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + END_S
        while self._pids() and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.05)
        self.kill(*self.names)
        shutil.rmtree(self._temp, ignore_errors=True)

    def kill(self, *names: str) -> None:
        """SIGKILL to all that these are; returns when they are gone."""
        while pids := [pid for name in names for pid in self._pids(name)]:
            for pid in pids:
                _kill(pid, signal.SIGKILL)
            self._reap()
            time.sleep(0.05)
        for name in names:
            if (process := self._running.pop(name, None)) is not None:
                process.wait()

    def wait_idle(self) -> None:
        """Until nothing is in use, as the autoscaler sees it."""
        self._until(lambda: self._used() == 0, "something is in use")

    def pids(self, words: str) -> list[int]:
        """Of its processes whose command line has these words."""
        return [pid for pid in self._pids() if words in _command(pid)]

    def node_id(self, name: str) -> str:
        """Ray's id of a node, by what it alone was told to have."""
        (found,) = [node["node_id"] for node in self.nodes() if node["labels"].get("node") == name]
        return str(found)

    def nodes(self) -> list[Any]:
        """Of the cluster that are alive, the head among them."""
        status, answer = self.ask("/api/v0/nodes?limit=1000&detail=1")
        return [node for node in answer["data"]["result"]["result"] if node["state"] == "ALIVE"] if status == 200 else []

    def ask(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Status and JSON, or text where it is none; 0 where nobody listens."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, method=method, data=content)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, None

    def _start_one(self, name: str) -> None:
        self._starts += 1
        self._began = time.monotonic()
        spec, folder = self._specs[name], self.folder / f"{name}.{self._starts}"
        folder.mkdir()
        listen, grpc, runtime_env, metrics, client = free_ports(5)
        where = [f"--address=127.0.0.1:{self._port}"]
        if name == HEAD:
            where = [
                "--head", f"--port={self._port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard_port}",
                f"--ray-client-server-port={client}",
            ]  # fmt: skip
        labels = ",".join(f"{key}={value}" for key, value in {"node": name, **spec.labels}.items())
        command = [
            str(programs() / "ray"), "start", "--block", "--node-ip-address=127.0.0.1", f"--num-cpus={spec.cpus}",
            f"--num-gpus={spec.gpus}", f"--memory={spec.memory_gib * 2**30}", "--object-store-memory=80000000",
            f"--resources={json.dumps(dict(spec.resources))}", f"--labels={labels}", f"--temp-dir={self._temp / folder.name}",
            f"--dashboard-agent-listen-port={listen}", f"--dashboard-agent-grpc-port={grpc}",
            f"--runtime-env-agent-port={runtime_env}", f"--metrics-export-port={metrics}",
            # any that is free: Ray's own range for workers has free ports in it that were found for the others
            "--min-worker-port=0", "--max-worker-port=0",
            "--include-log-monitor=false", "--disable-usage-stats", *where,
        ]  # fmt: skip
        environment = {
            "PATH": f"{programs()}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_enable_worker_prestart": "0",
            "RAY_prestart_worker_first_driver": "0",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_gcs_rpc_server_reconnect_timeout_s": str(RECONNECT_S),
            MARK: f"{self.folder}:{name}",
        }
        with (folder / "out").open("wb") as out:
            self._running[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def _used(self) -> float:
        status, answer = self.ask("/api/cluster_status?format=0")
        if status != 200 or not answer["data"]["clusterStatus"]:
            return -1
        usage = answer["data"]["clusterStatus"]["loadMetricsReport"]["usage"]
        return sum(used for name, (used, _) in usage.items() if name != "objectStoreMemory")

    def _pids(self, name: str = "") -> list[int]:
        """All that has our mark in its environment: Ray's processes leave their group."""
        mark = f"\0{MARK}={self.folder}:{name}".encode() + (b"\0" if name else b"")
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if mark in b"\0" + (path / "environ").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue  # it ended while we looked
        return found

    def _reap(self) -> None:
        for process in self._running.values():
            process.poll()

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_S
        while not holds():
            if time.monotonic() > deadline:
                raise RuntimeError(f"Ray: {what}: {self._said()}")
            time.sleep(0.1)

    def _said(self) -> str:
        return "\n".join(path.read_text()[-1000:] for path in sorted(self.folder.glob("*/out")))


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
