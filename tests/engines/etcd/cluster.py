"""A real etcd of one or three members on loopback, whose members can be killed, paused and started again, by pid."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker.store.embedded import clean_environment, ending_with_us, free_ports
from tests.engines.running import cache

BUILT_VERSION = "3.7.3"
START_TIMEOUT_S = 60.0


def built_binary() -> Path | None:
    """What build.sh made; None when it was not run."""
    binary = cache() / "bin" / f"etcd-{BUILT_VERSION}"
    return binary if os.access(binary, os.X_OK) else None


@dataclass
class Member:
    """One etcd: a process that may come and go, and a data directory and ports that stay."""

    name: str
    command: Sequence[str]
    client_port: int
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.client_port}"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, or start it again with what it has on disk. Does not wait: see `Cluster.wait_ready`."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                ending_with_us(self.command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=clean_environment()
            )

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def answer(self, path: str) -> str:
        """A page of its HTTP; empty when there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.client_port, timeout=1.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    def _end(self, number: signal.Signals) -> None:
        assert self.process
        if number is not signal.SIGKILL:
            self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        self.process.wait()
        self.process = None


@dataclass
class Cluster:
    """All members."""

    members: Sequence[Member]

    @property
    def endpoints(self) -> Sequence[str]:
        return [member.endpoint for member in self.members]

    def wait_ready(self) -> None:
        """Until every running member has a leader."""
        deadline = time.monotonic() + START_TIMEOUT_S
        for member in self.members:
            while member.is_running and '"health":"true"' not in member.answer("/health"):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{member.name} is not healthy; see {member.log}")
                time.sleep(0.05)
            if member.process and not member.is_running:
                raise RuntimeError(f"{member.name} ended; see {member.log}")

    def leader(self) -> Member:
        """The member that leads now, waiting for an election to end."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for member in self.members:
                if member.is_running and "\netcd_server_is_leader 1" in member.answer("/metrics"):
                    return member
            time.sleep(0.05)
        raise TimeoutError("no member leads")

    def followers(self) -> Sequence[Member]:
        leader = self.leader()
        return [member for member in self.members if member is not leader and member.is_running]


@contextmanager
def etcd_cluster(folder: Path, binary: Path, size: int = 1, flags: Sequence[str] = (), scheme: str = "http") -> Iterator[Cluster]:
    """Start `size` members on data directories below `folder`; all are ended when the block is left."""
    ports = free_ports(2 * size)
    peers: Mapping[str, str] = {f"m{number}": f"http://127.0.0.1:{ports[size + number]}" for number in range(size)}
    initial = ",".join(f"{name}={url}" for name, url in peers.items())
    members = []
    for number, (name, peer) in enumerate(peers.items()):
        client = f"{scheme}://127.0.0.1:{ports[number]}"
        command = [str(binary), f"--name={name}", f"--data-dir={folder / name}", "--log-level=warn"]
        command += [f"--initial-cluster={initial}", f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", *flags]
        members.append(Member(name, command, ports[number], folder / f"{name}.log"))
    cluster = Cluster(members)
    try:
        for member in members:
            member.start()
        if scheme == "http":
            cluster.wait_ready()
        yield cluster
    finally:
        for member in members:
            if member.is_running:
                member.kill()
