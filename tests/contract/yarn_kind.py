"""A real YARN under the contract: a resource manager and three node managers, that all tests share."""

from __future__ import annotations

import asyncio
import posixpath
import secrets
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from adapters.base import Layer, SiteAdapter
from adapters.yarn.adapter import YarnAdapter
from adapters.yarn.client import Opened, Web
from adapters.yarn.settings import YarnSettings
from broker.file_systems import opened
from broker.store.embedded import free_ports
from tests.contract.adapters import POOLS
from tests.contract.program_kind import ProgramKind
from tests.contract.reserving import Ids, ReservingAdapter
from tests.engines.hdfs import cluster as hdfs
from tests.engines.hdfs.cluster import HdfsCluster
from tests.engines.running import running
from tests.engines.yarn.cluster import YarnCluster, missing
from tests.engines.yarn.configuration import Node
from topology.site import Engine, Site, Storage


class YarnKind(ProgramKind):
    """Storage and federation are of each test alone."""

    name = "yarn"
    is_real = True
    capabilities = YarnAdapter.capabilities
    keeps_what_it_accepts = False
    """What a resource manager was about to start when it was killed is lost, and told to be: `test_faults.py` has that."""
    terminates_with = (None,)
    patience_s = 90.0

    @staticmethod
    def missing() -> str:
        return missing()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.federation = f"f{secrets.token_hex(4)}"
        self.cluster = self._cluster()
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

    async def restart_node(self, number: int) -> None:
        """Kill a node manager; returns once it is up again and the resource manager has heard of it."""
        began_ms = time.time() * 1000
        self.cluster.node_managers[number].end()
        self.cluster.node_managers[number].start()
        ending = f":{self.cluster.node_ports[number].rpc}"

        def is_back() -> bool:
            return any(node["id"].endswith(ending) and node["lastHealthUpdate"] > began_ms for node in self.cluster.seen_nodes())

        while not await asyncio.to_thread(is_back):
            await self.pause()

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
        site = Site("ams", Engine("yarn"), POOLS, self.site_storage)
        return YarnAdapter(site, read, federation or self.federation, web or Web(read))

    def _cluster(self) -> YarnCluster:
        return running("yarn", started)

    @property
    def site_storage(self) -> Storage:
        """As the site names it."""
        return Storage(f"file://{self.storage}")


class YarnHdfsKind(YarnKind):
    """Another cluster, whose sites have their storage in HDFS, which no node mounts."""

    name = "yarn-hdfs"

    @staticmethod
    def missing() -> str:
        return missing() or hdfs.missing()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.storage.rmdir()  # there is nothing that is seen as a folder
        self.root = f"/{uuid.uuid4().hex}"
        self.files = opened(Storage(f"webhdfs://{self.hdfs.host}:{self.hdfs.port}/", options={"user": "fed"}))
        self.files.make_folder(self.root)

    @property
    def hdfs(self) -> HdfsCluster:
        """The file system of a test session."""
        return running("hdfs", lambda folder: HdfsCluster(folder).start())

    @property
    def site_storage(self) -> Storage:
        return Storage(f"webhdfs://{self.hdfs.host}:{self.hdfs.port}{self.root}", options={"user": "fed"})

    def has_claim(self, path: str) -> bool:
        return self.files.info(f"{self.root}/{path}") is not None

    def put(self, path: str, content: str) -> None:
        full = f"{self.root}/{path}"
        self.files.make_folder(posixpath.dirname(full))
        self.files.create(full, content.encode())

    def content(self, path: str) -> str:
        return self.files.read(f"{self.root}/{path}").decode()

    @contextmanager
    def without_storage(self) -> Iterator[None]:
        self.files.rename(self.root, f"{self.root}-away")
        try:
            yield
        finally:
            self.files.rename(f"{self.root}-away", self.root)

    async def end(self) -> None:
        await super().end()
        self.files.close()

    def _cluster(self) -> YarnCluster:
        return running("yarn-hdfs", lambda folder: started(folder, self.hdfs.url))


def started(folder: Path, file_system: str = "file:///") -> YarnCluster:
    """The cluster of a test session: what the contract says that every engine has."""
    nodes = [Node(), Node(), Node(gpus={"a100": 2, "h100": 1}, label="gpu")]
    cluster = YarnCluster(folder, nodes, file_system=file_system)
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
