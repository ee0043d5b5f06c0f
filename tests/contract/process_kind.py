"""A real process engine under the contract."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from adapters.base import Layer, SiteAdapter
from adapters.kinds import open_adapter
from adapters.process.adapter import ProcessAdapter, shut_down
from adapters.process.client import Connection, EngineClient
from adapters.process.settings import ProcessSettings, config_of, socket_of
from tests.contract.adapters import POOLS
from tests.contract.program_kind import ProgramKind
from tests.running import kill_daemon
from topology.site import Engine, Pool, Site, Storage


class ProcessKind(ProgramKind):
    """A daemon of its own below `folder`, started by the first call."""

    name = "process"
    is_real = False
    capabilities = ProcessAdapter.capabilities
    gate_poll_s = 0.02
    pause_s = 0.01
    terminates_with = (signal.SIGTERM, signal.SIGKILL)
    federation = "fed"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._state = folder / "engine"

    def adapter(self, federation: str | None = None) -> SiteAdapter:
        return open_adapter(self._site(), federation or self.federation)

    def counted(self) -> tuple[SiteAdapter, Callable[[], int]]:
        site = self._site()
        settings = ProcessSettings.model_validate(site.engine.settings)
        client = _CountingClient(config_of(site, settings), settings.autostart)
        return ProcessAdapter(client, self.federation), lambda: client.requests

    async def restart(self) -> None:
        await self._kill()
        assert (await self.adapter().probe(10))[-1].is_ok

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        await self.adapter().probe(10)
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)

    @asynccontextmanager
    async def broken(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        await self.adapter().probe(10)
        match layer:
            case Layer.REACH:
                await self._kill()
                yield self._open(autostart=False)
            case Layer.LOGIN:
                async with _denying(self.storage / "denying.sock") as path:
                    yield self._open(socket=str(path))
            case Layer.SCHEDULER:
                yield self._open(POOLS[:1], autostart=False)
            case Layer.STORAGE:
                with self.without_storage():
                    yield self._open()

    async def end(self) -> None:
        await shut_down(self._state)

    def _open(self, pools: Sequence[Pool] = POOLS, **settings: Any) -> SiteAdapter:
        return open_adapter(self._site(pools, **settings), self.federation)

    def _site(self, pools: Sequence[Pool] = POOLS, **settings: Any) -> Site:
        engine = Engine("process", {"cancel_grace_s": 0.5, "state_dir": str(self._state), **settings})
        return Site("ams", engine, tuple(pools), Storage(f"file://{self.storage}"))

    @property
    def _pid(self) -> int:
        """Of the daemon that runs, or ran last."""
        return int((self._state / "daemon.pid").read_text())

    async def _kill(self) -> None:
        """SIGKILL to the daemon; returns when it is gone."""
        await kill_daemon(self._pid, socket_of(self._state))


class _CountingClient(EngineClient):
    """One that counts the requests it sends."""

    requests = 0

    @asynccontextmanager
    async def connection(self, op: str, fields: dict[str, Any], timeout_s: float) -> AsyncIterator[Connection]:
        self.requests += 1
        async with super().connection(op, fields, timeout_s) as connection:
            yield connection


@asynccontextmanager
async def _denying(path: Path) -> AsyncIterator[Path]:
    """A socket at which another user's engine listens."""

    async def deny(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"error":"denied","message":"this engine is another user\'s"}\n')
        writer.close()

    server = await asyncio.start_unix_server(deny, str(path))
    async with server:
        yield path
