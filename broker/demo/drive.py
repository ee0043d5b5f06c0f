"""The processes of the demo: a broker, the engines it starts, and how both are killed, started again and ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapters.process.adapter import shut_down

START_S = 30.0
"""How long a verb waits for a broker that is starting, or starting again."""
STOP_S = 15.0
POLL_S = 0.1
ENGINE = ".fed/engine"
"""Where a process site's engine lives, below the site's storage; see adapters/process/README.md."""
MARK = "DEMO_DIR"
"""Set to the demo's directory for all that the demo starts and all that those start; jobs.yaml sets it for tasks."""


class DemoError(Exception):
    """A part of the demo did not do what it should; the message says which and where its output is."""


class Federation:
    """A broker on a free port of this machine, with all its files below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = {**os.environ, MARK: str(root), "FED_URL": self.url}
        self._broker: asyncio.subprocess.Process | None = None

    @property
    def journal(self) -> Path:
        """Where every task writes a line first: outside of all sites."""
        return self.root / "journal"

    @property
    def sites(self) -> Path:
        """The storages of the sites, by name."""
        return self.root / "sites"

    async def start_broker(self) -> None:
        """`fed up`, on the same port and records each time. Returns at once: the verbs wait until it answers."""
        command = [*_fed(), "up", "--data-dir", str(self.root / "broker"), "--port", str(self.port)]
        with (self.root / "broker.log").open("ab") as log:
            self._broker = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=self._env, start_new_session=True
            )

    async def kill_broker(self) -> int:
        """SIGKILL; its etcd ends with it. Returns its pid."""
        if self._broker is None:
            raise DemoError("there is no broker to kill")
        self._broker.kill()
        await self._broker.wait()
        return self._broker.pid

    async def kill_engine(self, site: str) -> int:
        """SIGKILL to the daemon of a site; its tasks go on, and the broker starts another. Returns its pid."""
        pid = self.engine(site)
        os.kill(pid, signal.SIGKILL)
        return pid

    def engine(self, site: str) -> int:
        """The pid of the daemon of a site."""
        return int((self.sites / site / ENGINE / "daemon.pid").read_text())

    async def fed(self, *arguments: str | Path) -> str:
        """A verb of `fed`, and what it printed. Raises DemoError with what it said when it fails."""
        process = await asyncio.create_subprocess_exec(
            *_fed(), "--patience", str(START_S), *map(str, arguments), env=self._env,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            said, complaint = await process.communicate()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode:
            what = f"fed {' '.join(map(str, arguments))}: {complaint.decode(errors='replace').strip()}"
            raise DemoError(f"{what}; the broker's own words are in {self.root / 'broker.log'}")
        return said.decode()

    async def ask(self, *arguments: str | Path) -> Any:
        """A verb of `fed` with `-o json`, and its answer."""
        return json.loads(await self.fed(*arguments, "-o", "json"))

    async def stop(self) -> list[str]:
        """End the broker, then the engines with all they run, and wait until nothing carries our mark. What did not end by itself
        is killed; returns what was wrong."""
        if self._broker and self._broker.returncode is None:
            self._broker.terminate()
            try:
                await asyncio.wait_for(self._broker.wait(), STOP_S)
            except TimeoutError:
                self._broker.kill()
                await self._broker.wait()
        engines = [site / ENGINE for site in self.sites.glob("*")]
        ends = await asyncio.gather(*map(shut_down, engines), return_exceptions=True)
        wrong = [f"{engine}: {end}" for engine, end in zip(engines, ends, strict=True) if end]
        for _ in range(int(STOP_S / POLL_S)):
            if not self.left():
                break
            await asyncio.sleep(POLL_S)
        for pid, what in self.left().items():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wrong.append(f"process {pid} was left running, and is killed: {what}")
        return wrong

    def left(self) -> dict[int, str]:
        """Processes that carry our mark, by pid: what they run."""
        mark = f"{MARK}={self.root}".encode()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended, or is another user's
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(process.name)] = command.decode(errors="replace").strip()
        return found


def _fed() -> Sequence[str]:
    """The `fed` command of this Python."""
    return (sys.executable, "-m", "broker")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
