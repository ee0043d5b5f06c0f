"""A real YARN on loopback: one resource manager and its node managers, that can be killed and started again, by pid."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.store.embedded import ending_with_us, free_ports
from tests.engines.running import cache
from tests.engines.yarn.configuration import ManagerPorts, Node, NodePorts, manager_properties, node_properties, write

VERSION = "3.4.2"
SPARK_VERSION = "4.3.0"
START_TIMEOUT_S = 300.0
_OPENED = ("io", "lang", "lang.reflect", "math", "net", "nio", "text", "util", "util.concurrent", "util.zip")
JAVA_OPTIONS = (
    *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED),
    *(f"--add-opens=java.base/sun.{package}=ALL-UNNAMED" for package in ("nio.ch", "security.util", "security.x509")),
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.net.preferIPv4Stack=true",
)
"""Hadoop 3.4 reaches into packages that Java 17 keeps to itself; the rest saves memory and start time."""
YARN = "org.apache.hadoop.yarn.server"


def jars() -> Path | None:
    """What build.sh fetched; None when it was not run."""
    folder = cache() / "yarn" / f"lib-{VERSION}"
    return folder if folder.is_dir() else None


def spark_home() -> Path | None:
    """What spark/build.sh fetched; None when it was not run."""
    home = cache() / "spark" / f"home-{SPARK_VERSION}"
    return home if home.is_dir() else None


def missing() -> str:
    """What this machine lacks to start one; empty when nothing."""
    if not shutil.which("java"):
        return "YARN needs Java 17"
    return "" if jars() else "YARN is not there: run `make engines`"


@dataclass
class Daemon:
    """One Java process that may come and go, with a configuration and ports that stay."""

    name: str
    main: str
    folder: Path
    memory_mib: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, or start it again with what it has on disk. Does not wait."""
        configuration = self.folder / "conf"
        java = shutil.which("java")
        assert java
        classpath = f"{configuration}:{jars()}/*"
        command = [java, *JAVA_OPTIONS, f"-Xmx{self.memory_mib}m", f"-Dyarn.log.dir={self.folder}", "-cp", classpath, self.main]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "JAVA_HOME": str(Path(java).resolve().parent.parent),
            "HADOOP_CONF_DIR": str(configuration),
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ending_with_us(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder
            )

    def send(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def end(self) -> None:
        """SIGKILL, and wait until it is gone. What it holds on disk stays."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class YarnCluster:
    """`nodes` are started with the manager, each in its partition."""

    def __init__(self, folder: Path, nodes: Sequence[Node], expiry_s: float = 20.0, file_system: str = "file:///") -> None:
        ports = free_ports(5 + 4 * len(nodes))
        self._folder = folder
        self.nodes = nodes
        self.ports = ManagerPorts(*ports[:5])
        self.node_ports = [NodePorts(*ports[5 + 4 * number :][:4]) for number in range(len(nodes))]
        labels = frozenset(node.label for node in nodes if node.label)
        largest = max(nodes, key=lambda node: node.memory_mib)
        self.manager = Daemon("manager", f"{YARN}.resourcemanager.ResourceManager", folder / "manager", 320)
        properties = manager_properties(folder / "manager", self.ports, largest, expiry_s, bool(labels))
        write(folder / "manager" / "conf", properties, labels, file_system, {})
        self.node_managers = []
        for number, node in enumerate(nodes):
            own = folder / f"node{number}"
            write(own / "conf", node_properties(own, self.ports, self.node_ports[number], node), labels, file_system, node.gpus)
            self.node_managers.append(Daemon(own.name, f"{YARN}.nodemanager.NodeManager", own, 192))
        self._labels = sorted(labels)

    @property
    def url(self) -> str:
        """Of the resource manager's REST interface."""
        return f"http://127.0.0.1:{self.ports.web}"

    def start(self) -> None:
        """Start all, and return once every node is there and in its partition. Leaves nothing behind when it fails."""
        try:
            self.manager.start()
            for node in self.node_managers:
                node.start()
            self.wait_ready()
            self._label()
        except BaseException:
            self.end()
            raise

    def _label(self) -> None:
        if self._labels:
            names = [{"name": label, "exclusivity": True} for label in self._labels]
            self.ask("POST", "/ws/v1/cluster/add-node-labels", {"nodeLabelInfo": names})
            labelled = [
                # by the name that the node gave itself: another name of the same host is taken and does nothing
                {"nodeId": seen["id"], "labels": [node.label]}
                for seen in self.seen_nodes()
                for node, ports in zip(self.nodes, self.node_ports, strict=True)
                if node.label and seen["id"].endswith(f":{ports.rpc}")
            ]
            self.ask("POST", "/ws/v1/cluster/replace-node-to-labels", {"nodeToLabels": labelled})

    def wait_ready(self) -> None:
        """Until the manager is active and all nodes that were started have registered."""
        expected = sum(node.is_running for node in self.node_managers)
        self._until(lambda: len([node for node in self.seen_nodes() if node["state"] == "RUNNING"]) >= expected)

    def seen_nodes(self) -> list[dict[str, Any]]:
        """The manager's list of nodes; empty while it is not active."""
        status = self.answer("GET", "/ws/v1/cluster/info")
        if (status or {}).get("clusterInfo", {}).get("haState") != "ACTIVE":
            return []
        listing = self.answer("GET", "/ws/v1/cluster/nodes") or {}
        return list((listing.get("nodes") or {}).get("node", []))

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """An answer of the REST interface. Raises AssertionError for any but 2xx."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.web, timeout=10.0)
        try:
            headers = {"Accept": "application/json", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            reply = connection.getresponse()
            text = reply.read().decode()
        finally:
            connection.close()
        assert reply.status < 300, f"{method} {path}: {reply.status} {text}"
        return json.loads(text) if text.startswith(("{", "[")) else text

    def answer(self, method: str, path: str) -> Any:
        """An answer; None while there is none."""
        try:
            return self.ask(method, path)
        except (OSError, http.client.HTTPException, AssertionError, ValueError):
            return None

    def end_apps(self) -> None:
        """Kill what waits, then what runs; returns once no node has a container."""
        for states in ("NEW,NEW_SAVING,SUBMITTED,ACCEPTED", "NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING"):
            listing = self.ask("GET", f"/ws/v1/cluster/apps?states={states}&deSelects=resourceRequests")
            for app in (listing.get("apps") or {}).get("app", []):
                self.ask("PUT", f"/ws/v1/cluster/apps/{app['id']}/state?user.name=broker", {"state": "KILLED"})
        self._until(lambda: bool(nodes := self.seen_nodes()) and not any(node["numContainers"] for node in nodes))

    def stop(self) -> None:
        """End all, and what they run."""
        try:
            if self.manager.is_running:
                self.end_apps()
        finally:
            self.end()

    def end(self) -> None:
        """Kill all of its processes, and of containers those whose directory is one of ours."""
        for daemon in (*self.node_managers, self.manager):
            daemon.end()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):  # it ended while we looked, or is another user's
                    if os.readlink(entry / "cwd").startswith(f"{self._folder}/"):
                        os.kill(int(entry.name), signal.SIGKILL)

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not holds():
            for daemon in (self.manager, *self.node_managers):
                if daemon.process and not daemon.is_running:
                    raise RuntimeError(f"{daemon.name} ended; see {daemon.folder / 'log'}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"YARN is not ready; see {self.manager.folder / 'log'}")
            time.sleep(0.1)
