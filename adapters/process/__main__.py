"""The daemon: `python -m adapters.process --site-file FILE`. SIGTERM ends it alone: its runs go on, and the next finds them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import logging.handlers
import os
import resource
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

from adapters.process.codec import RUNS_ALREADY, EngineConfig, config_from_json
from adapters.process.engine import Engine
from adapters.process.journal import Journal
from adapters.process.server import Server
from adapters.process.sockets import short_path

log = logging.getLogger(__name__)

MOST_FILES = 65_536
LOG_BYTES = 5 * 2**20
LOCK_S = 10.0
ABANDONED_S = 2.0
LOCK_POLL_S = 0.02


def main() -> int:
    """Start the daemon; with `--detach`, return once it listens."""
    parser = argparse.ArgumentParser(prog="python -m adapters.process", description=__doc__)
    parser.add_argument("--site-file", type=Path, required=True, help="JSON as adapters.process.codec.config_to_json makes it")
    parser.add_argument("--detach", action="store_true", help="go on in the background, in a session of its own")
    arguments = parser.parse_args()
    config = config_from_json(json.loads(arguments.site_file.read_text()))
    state = Path(config.state_dir)
    for folder in (state, state / "runs", state / "logs"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _locked(lock, Path(config.socket)):
        print(f"another daemon has {state}", file=sys.stderr)
        return RUNS_ALREADY
    if not arguments.detach:
        _set_up(state)
        asyncio.run(_serve(config, lock))
        return 0
    return _detached(config, state, lock)


def _locked(lock: int, path: Path) -> bool:
    """Whether the state directory is ours; a daemon that is just ending, or just starting, is waited for."""
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if _answers(path) or time.monotonic() > deadline:
                return False
        time.sleep(LOCK_POLL_S)


def _answers(path: Path) -> bool:
    try:
        with short_path(path) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.connect(address)
    except OSError:
        return False
    return True


def _detached(config: EngineConfig, state: Path, lock: int) -> int:
    """Fork; the parent waits for the child's word that it listens, or why it does not."""
    hears, says = os.pipe()
    if os.fork():
        os.close(says)
        with open(hears, "rb") as words:
            heard = words.read().decode()
        if heard != "ready":
            print(heard or "the daemon died while it started", file=sys.stderr)
        return 0 if heard == "ready" else 1
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.chdir("/")
    _set_up(state)
    try:
        asyncio.run(_serve(config, lock, says))
    except BaseException:
        log.exception("the daemon ends")
        with contextlib.suppress(OSError):  # the pipe is closed once we were ready
            os.write(says, traceback.format_exc(limit=3).encode())
        os._exit(1)
    os._exit(0)


def _set_up(state: Path) -> None:
    """Logging, bounded, and enough file descriptors for one per task."""
    handler = logging.handlers.RotatingFileHandler(state / "daemon.log", maxBytes=LOG_BYTES, backupCount=1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", handlers=[handler])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MOST_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MOST_FILES) if hard > 0 else MOST_FILES, hard))


async def _serve(config: EngineConfig, lock: int, says: int | None = None) -> None:
    state = Path(config.state_dir)
    journal = Journal(state / "journal")
    engine = Engine(config, journal)
    engine.adopt()
    server = Server(engine)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.is_done.set)
    loop.add_signal_handler(signal.SIGINT, server.is_done.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    listening = _listen(Path(config.socket))
    _write_pid(state)
    parts = [asyncio.ensure_future(part) for part in (engine.run(), server.serve(listening), _until_abandoned(state, lock))]
    log.info("%s: listening at %s", config.site, config.socket)
    if says is not None:
        os.write(says, b"ready")
        os.close(says)
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in done:
            part.result()
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        await journal.commit()
    log.info("%s: ends; runs go on", config.site)


async def _until_abandoned(state: Path, lock: int) -> None:
    """Until the state directory was removed, or another one is in its place: nobody can reach us or learn what we know."""
    while True:
        await asyncio.sleep(ABANDONED_S)
        try:
            if (state / "lock").stat().st_ino != os.fstat(lock).st_ino:
                break
        except FileNotFoundError:
            break
        except OSError as error:
            log.warning("the state directory cannot be looked at: %s", error)
    log.error("%s is no longer ours", state)


def _listen(path: Path) -> socket.socket:
    """A socket that only our user can reach. We hold the lock, so one that is there is a dead daemon's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        with short_path(path) as address:
            listening.bind(address)
    finally:
        os.umask(mask)
    return listening


def _write_pid(state: Path) -> None:
    draft = state / "daemon.pid.new"
    draft.write_text(f"{os.getpid()}\n")
    draft.rename(state / "daemon.pid")


if __name__ == "__main__":
    sys.exit(main())
