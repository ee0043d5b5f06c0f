"""Starts the stand-in for LSF, breaks it, and ends it: for tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engines.lsf.records import Config, Host, Queue

ROOT = Path(__file__).parents[3]
COMMANDS = (
    *("bsub", "bjobs", "bkill", "bstop", "bresume", "bpeek", "bhist", "bacct"),
    *("bhosts", "bqueues", "bparams", "bmgroup", "lsid", "lshosts", "lsload"),
)
START_S = 20.0
A100, H100 = "NVIDIAA100_SXM4_80GB", "NVIDIAH100_80GBHBM3"
TWO_POOLS = Config(
    hosts=(
        Host("cpu-1", "cpus", 4, 8192),
        Host("cpu-2", "cpus", 4, 8192),
        Host("gpu-1", "gpus", 4, 8192, (A100, A100, H100)),
    ),
    queues=(Queue("cpu", "cpus"), Queue("gpu", "gpus")),
    default_queue="cpu",
)
"""Two hosts of 4 slots and 8 GiB in one queue; one with two A100 and an H100 in another."""


@dataclass(frozen=True)
class Said:
    """What a command printed and ended with."""

    code: int
    out: str
    err: str


class LsfCluster:
    """A cluster in a folder: `bin` has the commands, any user of the machine's loopback is its user."""

    def __init__(self, folder: Path, config: Config = TWO_POOLS) -> None:
        self.home = folder / "lsf"
        self.bin = self.home / "bin"
        self.config = config
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> LsfCluster:
        """Make its files and start mbatchd; returns once it answers."""
        self.bin.mkdir(parents=True)
        self.config.save(self.home / "cluster.json")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            (self.home / "port").write_text(str(free.getsockname()[1]))
        programs = self.home / "lib"  # a folder of its own, so that what Python compiles is kept there
        programs.mkdir()
        for name in ("client.py", "blaunch.py"):
            shutil.copy(Path(__file__).with_name(name), programs)
        call = f"import sys; sys.path.insert(0, {str(programs)!r})"
        for name in COMMANDS:
            self._program(name, f"{call}\nfrom client import main\nsys.exit(main({str(self.home)!r}, sys.argv))\n")
        self._program("blaunch", f"{call}\nfrom blaunch import main\nsys.exit(main(sys.argv[1:]))\n")
        self.start_mbatchd()
        return self

    def stop(self) -> None:
        """End the daemon and every job."""
        self.kill_mbatchd()
        for pid in self._of_jobs():
            _send(pid, signal.SIGKILL)

    def start_mbatchd(self) -> None:
        """Start it, as after a kill; returns once it answers."""
        with (self.home / "mbatchd.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.engines.lsf.mbatchd", str(self.home)]
            self._daemon = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while self._daemon.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise RuntimeError(f"mbatchd does not start: {(self.home / 'mbatchd.log').read_text()[-2000:]}")

    def kill_mbatchd(self) -> None:
        """As a crash does. Jobs that run go on; commands wait for it to come back."""
        if self._daemon is not None:
            self._daemon.send_signal(signal.SIGCONT)
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """While it lasts mbatchd takes connections and answers none; what was sent has its effect afterwards."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._daemon.send_signal(signal.SIGCONT)

    def switch(self, **settings: Any) -> None:
        """What every command does first: `noise` (lines; `noise_on` stdout or stderr), `esub` (lines of bsub), `esub_refuses` (a
        reason), `lim_is_down`, `user` (who calls). What is not named is off."""
        _replace(self.home / "switches.json", settings)

    def close_hosts(self, *names: str) -> None:
        """As `badmin hclose` does; what is not named is open."""
        self._control(shut=list(names))

    def lose_hosts(self, *names: str) -> None:
        """Hosts that were switched off, with what ran there; what is not named came back."""
        self._control(lost=list(names))
        for folder in (self.home / "work").glob("*"):
            job, runner = folder / "job.json", folder / "runner.pid"
            if job.exists() and json.loads(job.read_text())["host"] in names:
                _wait_for(runner)
                for pid in self._of_jobs(folder):
                    _send(pid, signal.SIGKILL)

    def call(self, *words: str, stdin: str = "", env: Mapping[str, str] | None = None, timeout_s: float = 30.0) -> Said:
        """Run a command."""
        path = f"{self.bin}:{os.environ['PATH']}"
        whole = {**os.environ, "PATH": path, **(env or {})}
        done = subprocess.run(words, input=stdin, env=whole, capture_output=True, text=True, timeout=timeout_s, check=False)
        return Said(done.returncode, done.stdout, done.stderr)

    @property
    def calls(self) -> int:
        """How many commands were called so far."""
        path = self.home / "calls"
        return len(path.read_text().splitlines()) if path.exists() else 0

    @property
    def _port(self) -> int:
        return int((self.home / "port").read_text())

    def _program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(f"#!{sys.executable} -IS\n{text}")
        path.chmod(0o755)

    def _control(self, **changes: Sequence[str]) -> None:
        path = self.home / "control.json"
        found = json.loads(path.read_text()) if path.exists() else {"shut": [], "lost": []}
        _replace(path, {**found, **changes})

    def _of_jobs(self, within: Path | None = None) -> Iterator[int]:
        """Runners, and the processes of their jobs' sessions."""
        sessions = set()
        for path in (within or self.home / "work").glob("runner.pid" if within else "*/runner.pid"):
            text = path.read_text()
            runner = json.loads(text) if text else {}
            if runner and not (path.parent / "end.json").exists():
                sessions.add(runner["job"])
                yield runner["runner"]
        for pid, session in _sessions():
            if session in sessions:
                yield pid


def _sessions() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(path.parent.name), int(fields[3])


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait_for(runner: Path) -> None:
    """Until a runner that was just started has said who it is."""
    deadline = time.monotonic() + START_S
    while not (runner.exists() and runner.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)


def _replace(path: Path, content: Any) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content))
    draft.replace(path)
