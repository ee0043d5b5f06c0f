"""A real YARN under the contract: a resource manager and three node managers, that all tests share."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from adapters.base import Layer, SiteAdapter
from adapters.yarn.adapter import YarnAdapter
from adapters.yarn.client import Opened, Web
from adapters.yarn.settings import YarnSettings
from broker.store.embedded import free_ports
from tests.contract.adapters import POOLS
from tests.contract.program_kind import ProgramKind
from tests.contract.reserving import Ids, ReservingAdapter
from tests.engines.running import running
from tests.engines.yarn.cluster import YarnCluster, missing
from tests.engines.yarn.configuration import Node
from topology.site import Engine, Site, Storage


class YarnKind(ProgramKind):
    """Storage and federation are of each test alone."""

    name = "yarn"
    is_real = True
    capabilities = YarnAdapter.capabilities
    terminates_with = (None,)
    patience_s = 90.0

    @staticmethod
    def missing() -> str:
        return missing()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.federation = f"f{secrets.token_hex(4)}"
        self.cluster = running("yarn", started)
        self._ids = Ids()

    def adapter(self, federation: str | None = None, **settings: Any) -> SiteAdapter:
        return ReservingAdapter(self._open(federation=federation, **settings), self._ids)

    def bare(self) -> SiteAdapter:
        """An adapter that takes the ids it is given."""
        return self._open()

    def counted(self) -> tuple[SiteAdapter, Callable[[], int]]:
        web = _CountingWeb(self._settings())
        return ReservingAdapter(self._open(web=web), self._ids), lambda: web.requests

    async def restart(self) -> None:
        self.cluster.manager.end()
        self.cluster.manager.start()  # not in a thread: it would end with that
        await asyncio.to_thread(self.cluster.wait_ready)

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        self.cluster.manager.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.cluster.manager.send(signal.SIGCONT)

    @asynccontextmanager
    async def broken(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        match layer:
            case Layer.REACH:
                yield self._open(resource_manager=[f"http://127.0.0.1:{free_ports(1)[0]}"])
            case Layer.LOGIN:
                async with _denying() as url:
                    yield self._open(resource_manager=[url])
            case Layer.SCHEDULER:
                yield self._open(queue="nowhere")
            case Layer.STORAGE:
                with self.without_storage():
                    yield self._open()

    async def end(self) -> None:
        await asyncio.to_thread(self.cluster.end_apps)

    def _settings(self, **settings: Any) -> YarnSettings:
        given = {
            "resource_manager": [self.cluster.url],
            "user": "broker",
            "queue": "batch",
            "labels": {"gpu": "gpu"},
            "gpus": {"a100": "a100", "h100": "h100"},
            "grace_s": 0.5,
        }
        return YarnSettings.model_validate({**given, **settings})

    def _open(self, federation: str | None = None, web: Web | None = None, **settings: Any) -> SiteAdapter:
        read = self._settings(**settings)
        site = Site("ams", Engine("yarn"), POOLS, Storage(f"file://{self.storage}"))
        return YarnAdapter(site, read, federation or self.federation, web or Web(read))


def started(folder: Path) -> YarnCluster:
    """The cluster of a test session: what the contract says that every engine has."""
    cluster = YarnCluster(folder, [Node(), Node(), Node(gpus={"a100": 2, "h100": 1}, label="gpu")])
    cluster.start()
    return cluster


class _CountingWeb(Web):
    """One that counts the requests it makes."""

    requests = 0

    @asynccontextmanager
    async def opened(self, *args: Any, **query: Any) -> AsyncIterator[Opened]:
        self.requests += 1
        async with super().opened(*args, **query) as reply:
            yield reply


@asynccontextmanager
async def _denying() -> AsyncIterator[str]:
    """The address of a gateway that will have nobody."""

    async def deny(request: web.Request) -> web.Response:
        return web.Response(status=401, text="<html>Authentication required</html>", content_type="text/html")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", deny)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        (port,) = free_ports(1)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
