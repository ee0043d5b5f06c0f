"""Requests to a site's daemon, one connection each, and how a daemon that does not run is started."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import adapters
from adapters.base import LoginFailed, StaleEpoch, Unreachable
from adapters.process.codec import MAX_LINE_BYTES, RUNS_ALREADY, EngineConfig, config_to_json
from adapters.process.sockets import short_path
from adapters.threads import SiteThreads

START_S = 20.0
POLL_S = 0.02

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class EngineClient:
    """Everything it raises is `Unreachable` or `StaleEpoch`. With `autostart` it starts a daemon where none runs."""

    def __init__(self, config: EngineConfig, autostart: bool) -> None:
        self.config = config
        self.autostart = autostart
        self._threads = SiteThreads(config.site, at_once=1)
        self._starting: asyncio.Task[None] | None = None

    async def ask(self, op: str, timeout_s: float, **fields: Any) -> Any:
        """The answer to one request."""
        try:
            async with asyncio.timeout(timeout_s), self.connection(op, fields, timeout_s) as (reader, _):
                return await read_answer(op, reader, timeout_s)
        except TimeoutError as error:
            raise Unreachable(f"{op}: no answer within {timeout_s:g} s") from error

    @asynccontextmanager
    async def connection(self, op: str, fields: dict[str, Any], timeout_s: float) -> AsyncIterator[Connection]:
        """A connection on which a request was sent, within the time given. What goes wrong in the block becomes ours as well."""
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await self._connect()
            try:
                writer.write(json.dumps({"op": op, **fields}, separators=(",", ":")).encode() + b"\n")
                yield reader, writer
            finally:
                writer.close()
        except TimeoutError as error:
            raise Unreachable(f"{op}: no answer within {timeout_s:g} s") from error
        except PermissionError as error:
            raise LoginFailed(f"{self.config.socket}: {error.strerror}") from error
        except (OSError, ValueError) as error:
            raise Unreachable(f"{op}: {self.config.socket}: {error}") from error

    async def start(self) -> None:
        """Start a daemon unless one runs; return when one is there. Raises Unreachable. One start at a time."""
        if self._starting is None or self._starting.done():
            start = _start(self.config, self._threads)
            self._starting = asyncio.create_task(start, name=f"start the engine of {self.config.site}")
        await asyncio.shield(self._starting)

    async def close(self) -> None:
        """Leave a start that is under way to itself."""
        if self._starting:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        self._threads.close()

    async def _connect(self) -> Connection:
        try:
            return await self._open()
        except (FileNotFoundError, ConnectionRefusedError):
            if not self.autostart:
                raise
        await self.start()
        while True:
            try:
                return await self._open()
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(POLL_S)  # another one is just starting; our caller's time bounds this

    async def _open(self) -> Connection:
        with short_path(Path(self.config.socket)) as address:
            return await asyncio.open_unix_connection(address, limit=MAX_LINE_BYTES)


async def gone(state: Path) -> None:
    """Wait until no daemon has the state directory."""
    lock = os.open(state / "lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(POLL_S)
    finally:
        os.close(lock)


async def read_answer(op: str, reader: asyncio.StreamReader, timeout_s: float) -> Any:
    """What the engine says to a request. Raises StaleEpoch, LoginFailed, Unreachable, and TimeoutError."""
    async with asyncio.timeout(timeout_s):
        line = await reader.readline()
    if not line.endswith(b"\n"):
        raise Unreachable(f"{op}: the engine went away before it answered")
    try:
        answer = json.loads(line)
        if "ok" in answer:
            return answer["ok"]
        word, message = answer["error"], answer["message"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise Unreachable(f"{op}: the engine's answer makes no sense: {line[:200]!r}") from error
    if word == "stale-epoch":
        raise StaleEpoch(message)
    raise (LoginFailed if word == "denied" else Unreachable)(f"{op}: {word}: {message}")


async def read_frames(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Output in pieces, until its end. Raises Unreachable when the engine goes before that."""
    while True:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise Unreachable("logs: the engine went away")
        size = json.loads(line)["bytes"]
        if not size:
            return
        try:
            yield await reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise Unreachable("logs: the engine went away") from error


async def _start(config: EngineConfig, threads: SiteThreads) -> None:
    """Run the daemon's starter, which returns once the daemon listens."""
    if not await threads.run(lambda: os.path.isdir(config.storage), START_S):
        raise Unreachable(f"the engine cannot be started: the site's storage {config.storage} is not there")
    state = Path(config.state_dir)
    try:
        site_file = await asyncio.to_thread(_write_site_file, state, config)
        starter = await asyncio.to_thread(_run_starter, site_file)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"the engine cannot be started: {error!r}") from error
    if starter.returncode not in (0, RUNS_ALREADY):
        raise Unreachable(f"the engine cannot be started: {starter.stderr.decode(errors='replace').strip()}")


def _run_starter(site_file: Path) -> subprocess.CompletedProcess[bytes]:
    """In a thread, and not by the event loop: uvloop's children keep pipes open that the daemon would then hold for ever."""
    code_root = str(Path(adapters.__file__).parent.parent)
    known = os.environ.get("PYTHONPATH")
    return subprocess.run(
        [sys.executable, "-m", "adapters.process", "--site-file", str(site_file), "--detach"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{code_root}:{known}" if known else code_root},
        start_new_session=True,
        timeout=START_S,
        check=False,
    )


def _write_site_file(state: Path, config: EngineConfig) -> Path:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state / "site.json"
    draft = state / f"site.json.{uuid.uuid4().hex}"
    draft.write_text(json.dumps(config_to_json(config), indent=2))
    draft.rename(path)
    return path
