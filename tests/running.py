"""`fed` as a process: what a call of it came to, and a broker that can be killed."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from adapters.process.sockets import short_path
from tests.engines.etcd.cluster import built_binary

FED = [sys.executable, "-m", "broker"]
START_S = 60.0


@dataclass(frozen=True)
class Said:
    """What a call of `fed` came to."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def run_fed(*arguments, url="http://127.0.0.1:9", stdin="", path=""):
    """Call `fed` and wait for its end; `path` stands before PATH."""
    programs = os.pathsep.join([*([str(path)] if path else []), os.environ["PATH"]])
    environment = {**os.environ, "FED_URL": url, "COLUMNS": "200", "PATH": programs}
    command = [*FED, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, timeout=100, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


class Up:
    """`fed up` with an embedded etcd, on one port through all its lives. If one was built that may be killed, it is that."""

    def __init__(self, folder: Path, **settings: float):
        self.folder = folder
        self._settings = {"observe_interval_s": 0.1, "probe_interval_s": 0.5, **settings}
        self.port = 0
        self.url = ""
        self._process = None

    def start(self):
        """Start it, and wait until it listens."""
        path = os.pathsep.join([str(self._programs()), os.environ["PATH"]])
        config = self.folder / "broker.yaml"
        config.write_text("".join(f"{name}: {value}\n" for name, value in self._settings.items()))
        command = [*FED, "up", "--data-dir", str(self.folder / "state"), "--port", str(self.port), "--config", str(config)]
        environment = {**os.environ, "PATH": path}
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        self.url = self._said_url()
        self.port = int(self.url.rpartition(":")[2])

    def kill(self):
        """As a crash does."""
        self._end(signal.SIGKILL)

    def stop(self):
        """As an admin does; the exit code."""
        return self._end(signal.SIGTERM)

    def fed(self, *arguments, stdin=""):
        """Call `fed` against it."""
        return run_fed(*arguments, url=self.url, stdin=stdin, path=self._programs())

    @property
    def etcd(self):
        """The process id of its etcd."""
        return int(json.loads((self.folder / "state" / "etcd.pid").read_text())["pid"])

    def _programs(self):
        """A folder for PATH, with the etcd that may be killed under its usual name."""
        folder, built = self.folder / "bin", built_binary()
        folder.mkdir(exist_ok=True)
        if built and not (folder / "etcd").exists():
            (folder / "etcd").symlink_to(built)
        return folder

    def _said_url(self):
        ready, _, _ = select.select([self._process.stdout], [], [], START_S)
        line = self._process.stdout.readline() if ready else ""
        assert "listening on" in line, (self.folder / "broker.log").read_text()[-3000:]
        return line.split()[-1]

    def _end(self, number):
        if self._process is None:
            return None
        self._process.send_signal(number)
        code = self._process.wait(60)
        self._process.stdout.close()
        self._process = None
        return code


async def kill_daemon(pid: int, socket: Path) -> None:
    """SIGKILL, and wait until nobody listens: a child that was just being started has the socket until its exec."""
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while True:
            try:
                with short_path(socket) as address:
                    _, writer = await asyncio.open_unix_connection(address)
            except (FileNotFoundError, ConnectionRefusedError):
                return
            writer.close()
            await asyncio.sleep(0.01)
