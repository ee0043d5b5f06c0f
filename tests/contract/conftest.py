from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker.store.base import Store
from broker.store.embedded import EmbeddedError, find_binary
from broker.store.memory import MemoryServer, MemoryStore
from tests.contract.stores import CLOCK, KINDS, EtcdKind, Kind, MemoryKind
from tests.engines.etcd.cluster import Cluster, built_binary, etcd_cluster


@pytest.fixture(scope="session")
def single_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        binary = find_binary()
    except EmbeddedError as missing:
        pytest.skip(str(missing))
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), binary) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def three_etcds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    binary = built_binary()
    if binary is None:
        pytest.skip("no etcd that may be killed: run tests/engines/etcd/build.sh, which needs Go")
    with etcd_cluster(tmp_path_factory.mktemp("etcds"), binary, size=3) as cluster:
        yield cluster


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One after the other, each kind of store."""
    if request.param == "memory":
        return MemoryKind()
    return EtcdKind(request.getfixturevalue("single_etcd" if request.param == "etcd" else "three_etcds"))


@pytest.fixture
async def store(kind: Kind) -> AsyncIterator[Store]:
    client = kind.client()
    yield client
    await client.close()


@pytest.fixture(params=("memory", "etcd"))
async def full_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store that is full, or will be after a few MB. (3.5.1 refuses deletions too when it is full; later ones do not.)"""
    if request.param == "memory":
        server = MemoryServer(CLOCK)
        server.is_full = True
        yield MemoryStore(server)
        return
    binary = built_binary()
    if binary is None:
        pytest.skip("no etcd of a later version: run tests/engines/etcd/build.sh, which needs Go")
    with etcd_cluster(tmp_path, binary, flags=["--quota-backend-bytes=4000000"]) as cluster:
        client = EtcdKind(cluster).client()
        yield client
        await client.close()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Keys of this test alone: the servers are shared."""
    return f"/{request.node.name}/"
