"""The engine's socket: one request a line, one line for its answer, both JSON; output of tasks follows its answer in frames.

`{"op": "submit", ...}` is answered `{"ok": ...}` or `{"error": word, "message": ...}`. A frame is a line `{"bytes": n}` and n
bytes; one of no bytes ends the output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from adapters.base import Unreachable
from adapters.process.codec import MAX_LINE_BYTES, outcome_to_json, pools_to_json, run_from_json
from adapters.process.engine import Engine, Stale
from adapters.threads import SiteThreads

log = logging.getLogger(__name__)

FRAME_BYTES = 2**18
FOLLOW_S = 0.1
STORAGE_S = 20.0
ROOT_UID = 0

Request = Mapping[str, Any]


class Server:
    """Answers whoever runs under the engine's own user, or root. `is_done` is set when the daemon was asked to end."""

    def __init__(self, engine: Engine) -> None:
        self.is_done = asyncio.Event()
        self._engine = engine
        self._threads = SiteThreads(engine.config.site)
        self._operations: Mapping[str, Callable[[Request], Awaitable[Any]]] = {
            "ping": self._ping,
            "storage": self._storage,
            "submit": self._submit,
            "observe": self._observe,
            "cancel": self._cancel,
            "forget": self._forget,
            "stop": self._stop,
            "shutdown": self._shutdown,
        }

    async def serve(self, listening: socket.socket) -> None:
        """Until `is_done`."""
        server = await asyncio.start_unix_server(self._connected, sock=listening, limit=MAX_LINE_BYTES)
        async with server:
            await self.is_done.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _peer_uid(writer) not in (os.getuid(), ROOT_UID):
                _answer(writer, {"error": "denied", "message": "this engine is another user's"})
                await writer.drain()
                return
            while line := await reader.readline():
                await self._one(line, reader, writer)
                await writer.drain()
        except ConnectionError:
            log.debug("a caller went away")
        except ValueError:
            _answer(writer, {"error": "bad-request", "message": f"a request has at most {MAX_LINE_BYTES} bytes"})
        finally:
            writer.close()

    async def _one(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request. Our bugs are logged and told; the engine goes on."""
        try:
            request = json.loads(line)
            if request["op"] == "logs":
                await self._logs(request, reader, writer)
            else:
                _answer(writer, {"ok": await self._operations[request["op"]](request)})
        except Stale as stale:
            _answer(writer, {"error": "stale-epoch", "message": str(stale)})
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            log.warning("a request that makes no sense: %r: %.200r", error, line)
            _answer(writer, {"error": "bad-request", "message": repr(error)})
        except ConnectionError:
            raise
        except Exception as error:
            log.exception("a request failed: %.200r", line)
            _answer(writer, {"error": "internal", "message": repr(error)})

    async def _ping(self, request: Request) -> Any:
        engine = self._engine
        return {"pid": os.getpid(), "life": engine.book.life, "pools": pools_to_json(engine.config.pools)}

    async def _storage(self, request: Request) -> Any:
        """What is wrong with the site's storage; empty when something can be created there, and removed. While it hangs, all else
        of the daemon goes on."""
        try:
            return await self._threads.run(lambda: _try_storage(self._engine.folders.storage), STORAGE_S)
        except Unreachable as error:
            return str(error)

    async def _submit(self, request: Request) -> Any:
        engine = self._engine
        await engine.guard(request["federation"], request["epoch"])
        runs = [run_from_json(each) for each in request["runs"]]
        outcomes = await engine.submit(request["federation"], runs)
        return {name: outcome_to_json(outcome) for name, outcome in outcomes.items()}

    async def _observe(self, request: Request) -> Any:
        await self._engine.guard(request["federation"], request["epoch"])
        return self._engine.listing(request["federation"])

    async def _cancel(self, request: Request) -> Any:
        await self._engine.guard(request["federation"], request["epoch"])
        await self._engine.cancel(request["federation"], request["names"])

    async def _forget(self, request: Request) -> Any:
        await self._engine.guard(request["federation"], request["epoch"])
        await self._engine.forget(request["federation"], request["names"])

    async def _stop(self, request: Request) -> Any:
        """End the daemon; its runs go on."""
        self.is_done.set()

    async def _shutdown(self, request: Request) -> Any:
        """End every run, and then the daemon."""
        await self._engine.end_all()
        self.is_done.set()

    async def _logs(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Output of one task from a byte on; while it is followed, until its run is over or the caller has gone."""
        name, offset = request["name"], request["offset"]
        path = self._engine.folders.log(Path(name).name, request["task"])
        _answer(writer, {"ok": None})
        while True:
            is_last = not request["follow"] or self._engine.is_over(name)
            while chunk := await asyncio.to_thread(_read, path, offset):
                offset += len(chunk)
                _answer(writer, {"bytes": len(chunk)})
                writer.write(chunk)
                await writer.drain()
            if is_last or reader.at_eof():
                break
            await asyncio.sleep(FOLLOW_S)
        _answer(writer, {"bytes": 0})


def _answer(writer: asyncio.StreamWriter, answer: Any) -> None:
    writer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    """Who is at the other end, as the kernel says."""
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _try_storage(storage: Path) -> str:
    """What is wrong with the site's storage; empty when nothing is."""
    probe = storage / f".fed-probe-{uuid.uuid4().hex}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        return f"{storage}: {error.strerror}"
    return ""


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(FRAME_BYTES)
    except FileNotFoundError:
        return b""  # not started, or dropped
