"""The stores that the contract is checked on: the twin in memory, one real etcd, and three."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from broker.clock import SystemClock
from broker.store.base import Store, StoreUnavailable
from broker.store.etcd import EtcdStore
from broker.store.memory import MemoryServer, MemoryStore
from tests.engines.etcd.cluster import Cluster

CLOCK = SystemClock()


class MemoryKind:
    """The twin. Its failures are those of the network between."""

    ttl_s = 2.0

    def __init__(self) -> None:
        self.server = MemoryServer(CLOCK)

    def client(self) -> Store:
        """A new client, as of another process."""
        return MemoryStore(self.server)

    async def with_lost_reply(self, act: Callable[[Store], Awaitable[Any]], written: str) -> Any:
        """`act` on a client that never hears of its first transaction, which happens."""
        replies = count()

        async def network(operation: str, stage: str) -> None:
            if (operation, stage) == ("commit", "reply") and next(replies) == 0:
                raise StoreUnavailable("the reply is lost")

        return await act(MemoryStore(self.server, network))

    @asynccontextmanager
    async def disturbed(self) -> AsyncIterator[Store]:
        """A client whose every seventh message is lost, requests and replies in turn."""
        messages = count(1)

        async def network(operation: str, stage: str) -> None:
            await asyncio.sleep(0)
            if next(messages) % 7 == 0:
                raise StoreUnavailable(f"{operation}: the {stage} is lost")

        yield MemoryStore(self.server, network)


class EtcdKind:
    """A real etcd. Its failures are those of its processes, and of a connection cut by a proxy."""

    ttl_s = 2.0

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def client(self) -> Store:
        """A new client, as of another process."""
        return EtcdStore(self.cluster.endpoints, clock=CLOCK)

    async def with_lost_reply(self, act: Callable[[Store], Awaitable[Any]], written: str) -> Any:
        """`act` on a client that never hears of its first transaction, which happens: it writes the key `written`."""
        witness = self.client()
        async with mute_proxy(self.cluster.members[0].client_port) as proxy:
            store = EtcdStore([f"127.0.0.1:{proxy.port}"], clock=CLOCK)
            await store.get([written])
            proxy.is_mute = True
            begun = (await witness.read(written)).revision
            acting = asyncio.ensure_future(act(store))
            async for batch in witness.watch(written, begun + 1):
                if batch.events:
                    break
            proxy.cut()
            outcome = await acting
            await store.close()
        await witness.close()
        return outcome

    @asynccontextmanager
    async def disturbed(self) -> AsyncIterator[Store]:
        """A client, while members go and come back: the one that leads first, killed where there are three of them."""
        store = EtcdStore(self.cluster.endpoints, clock=CLOCK, timeout_s=20.0)
        breaking = asyncio.create_task(self._break_and_mend(), name="breaking")
        try:
            yield store
        finally:
            await breaking
            await store.close()

    async def _break_and_mend(self) -> None:
        is_alone = len(self.cluster.members) == 1
        leader = await asyncio.to_thread(self.cluster.leader)
        for victim in (leader, *(member for member in self.cluster.members if member is not leader)):
            if is_alone:
                victim.stop()  # the binary of a single one may be of a version that must not be killed
            else:
                victim.kill()
                await asyncio.to_thread(self.cluster.leader)
            victim.start()
            await asyncio.to_thread(self.cluster.wait_ready)


class MuteProxy:
    """Loopback TCP in front of a server: while mute, requests reach it and its replies do not come back."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.is_mute = False
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        """End all connections; new ones work."""
        self.is_mute = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, both ways."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += (writer, server_writer)
        await asyncio.gather(self._pump(reader, server_writer, False), self._pump(server_reader, writer, True))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_reply: bool) -> None:
        try:
            while chunk := await reader.read(65536):
                if not (is_reply and self.is_mute):
                    writer.write(chunk)
                    await writer.drain()
        except ConnectionError:
            pass  # cut
        finally:
            writer.close()


@asynccontextmanager
async def mute_proxy(target: int) -> AsyncIterator[MuteProxy]:
    """A `MuteProxy` in front of the loopback port `target`."""
    proxy = MuteProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()


Kind = MemoryKind | EtcdKind
KINDS: Sequence[str] = ("memory", "etcd", "cluster")
