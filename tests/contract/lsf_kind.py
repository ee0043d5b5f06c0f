"""The stand-in for LSF under the contract. No real LSF has been seen: see tests/engines/lsf/README.md."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh

from adapters.base import Layer, SiteAdapter
from adapters.kinds import open_adapter
from broker.store.embedded import free_ports
from tests.contract.adapters import POOLS
from tests.contract.program_kind import ProgramKind
from tests.engines.lsf.cluster import A100, H100, TWO_POOLS, LsfCluster
from topology.site import Engine, Pool, Site, Storage

PACK = 250


def _site(storage: Path, pools: Sequence[Pool] = POOLS, **settings: Any) -> Site:
    return Site("lsf", Engine("lsf", settings), tuple(pools), Storage(f"file://{storage}"))


class LsfKind(ProgramKind):
    """A cluster of its own below `folder`: our stand-in, whose commands are called on this machine."""

    name = "lsf"
    is_real = False
    capabilities = open_adapter(_site(Path("/srv/lsf")), "fed").capabilities
    pause_s = 0.1
    terminates_with = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, None)
    federation = "fed"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder
        self.cluster = LsfCluster(folder, replace(TWO_POOLS, max_pack_jobs=PACK)).start()

    def adapter(self, federation: str | None = None) -> SiteAdapter:
        return open_adapter(self._site(), federation or self.federation)

    def counted(self) -> tuple[SiteAdapter, Callable[[], int]]:
        before = self.cluster.calls
        return self.adapter(), lambda: self.cluster.calls - before

    async def restart(self) -> None:
        self.cluster.kill_mbatchd()
        self.cluster.start_mbatchd()

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        with self.cluster.stopped():
            yield

    @asynccontextmanager
    async def broken(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        match layer:
            case Layer.REACH:
                yield self._open(transport=self._login_node(free_ports(1)[0]))
            case Layer.LOGIN:
                async with self._refusing_everybody() as port:
                    yield self._open(transport=self._login_node(port))
            case Layer.SCHEDULER:
                self.cluster.kill_mbatchd()
                yield self._open()
                self.cluster.start_mbatchd()
            case Layer.STORAGE:
                with self.without_storage():
                    yield self._open()

    async def end(self) -> None:
        self.cluster.stop()

    def _login_node(self, port: int) -> dict[str, Any]:
        """Settings for commands at a login node with this port, and its key and ours in files."""
        key = self._folder / "key"
        if not key.exists():
            asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
            public = asyncssh.read_private_key(key).export_public_key().decode()
            (self._folder / "known_hosts").write_text(f"* {public}")
        return {
            "kind": "ssh",
            "host": "127.0.0.1",
            "port": port,
            "user": "nobody",
            "key": {"file": str(key)},
            "known_hosts": str(self._folder / "known_hosts"),
        }

    @asynccontextmanager
    async def _refusing_everybody(self) -> AsyncIterator[int]:
        """The port of an SSH server that knows no keys."""
        self._login_node(0)
        async with await asyncssh.listen("127.0.0.1", 0, server_host_keys=[str(self._folder / "key")]) as server:
            yield server.get_port()

    def _open(self, **settings: Any) -> SiteAdapter:
        return open_adapter(self._site(**settings), self.federation)

    def _site(self, **settings: Any) -> Site:
        return _site(self.storage, bin=str(self.cluster.bin), gpus={"a100": A100, "h100": H100}, pack=PACK, **settings)
