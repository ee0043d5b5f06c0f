"""The etcd that a broker starts for itself, and what is left of it when the broker is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.access import Role, add_token
from broker.app import running_broker
from broker.clock import SystemClock
from broker.config import Listen, Settings
from broker.store.base import Put, Record, StoreError
from broker.store.embedded import EmbeddedError, embedded_etcd, find_binary, is_safe, version_of
from broker.store.etcd import EtcdStore

BROKER = """
import asyncio, sys
from pathlib import Path
from broker.store.embedded import embedded_etcd

async def main():
    async with embedded_etcd(Path(sys.argv[1])) as etcd:
        print(etcd.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
"""A broker that does nothing but keep its etcd."""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    try:
        find_binary()
    except EmbeddedError as missing:
        pytest.skip(str(missing))
    return tmp_path / "data"


async def start_broker(data_dir: Path) -> tuple[asyncio.subprocess.Process, int]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", BROKER, str(data_dir), stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    return process, int(await process.stdout.readline())


async def test_what_was_written_is_there_when_the_broker_comes_back(data_dir: Path) -> None:
    for expected in ([None], [b"kept"]):
        async with embedded_etcd(data_dir) as etcd:
            store = EtcdStore([etcd.endpoint], clock=SystemClock())
            assert [record and record.value for record in await store.get(["/a"])] == expected
            await store.commit([[Put("/a", b"kept", None)]])
            await store.close()
        with pytest.raises(ProcessLookupError):
            os.kill(etcd.pid, 0)


async def test_the_etcd_of_a_killed_broker_never_blocks_the_next(data_dir: Path) -> None:
    broker, first = await start_broker(data_dir)
    broker.send_signal(signal.SIGKILL)
    await broker.wait()
    async with embedded_etcd(data_dir) as etcd:
        assert etcd.pid != first


async def test_an_etcd_that_outlived_its_broker_is_ended(data_dir: Path) -> None:
    broker, first = await start_broker(data_dir)
    os.kill(first, signal.SIGSTOP)  # paused, it cannot follow the signal that its parent's death sends
    broker.send_signal(signal.SIGKILL)
    await broker.wait()
    async with embedded_etcd(data_dir) as etcd:
        assert etcd.pid != first


async def test_an_etcd_that_was_killed_is_there_again_at_the_same_place_and_ends_with_its_broker(data_dir: Path) -> None:
    async with embedded_etcd(data_dir) as etcd:
        store = EtcdStore([etcd.endpoint], clock=SystemClock(), timeout_s=1.0)
        await store.commit([[Put("/a", b"kept", None)]])
        os.kill(etcd.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while (found := await answered(store)) is None:
                await SystemClock().sleep(0.1)
        assert [record and record.value for record in found] == [b"kept"]
        second = json.loads((data_dir / "etcd.pid").read_text())["pid"]
        assert second != etcd.pid
        await store.close()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


async def answered(store: EtcdStore) -> Sequence[Record | None] | None:
    """What the store has at /a; None while it does not answer."""
    try:
        return await store.get(["/a"])
    except StoreError:
        return None


async def test_two_brokers_cannot_share_a_data_directory(data_dir: Path) -> None:
    async with embedded_etcd(data_dir):
        with pytest.raises(EmbeddedError, match="another broker"):
            async with embedded_etcd(data_dir):
                pass


async def test_a_data_directory_that_cannot_be_written_is_named(data_dir: Path) -> None:
    no_directory = find_binary()
    with pytest.raises(EmbeddedError, match="cannot be written"):
        async with embedded_etcd(no_directory):
            pass


@pytest.mark.parametrize("version", ["3.4.20", "3.5.3", "3.6.0-rc.1", "3.7.3"])
def test_an_etcd_that_keeps_its_word_is_safe(version: str) -> None:
    assert is_safe(version)


@pytest.mark.parametrize("version", ["3.5.0", "3.5.1", "3.5.2"])
def test_an_etcd_that_can_lose_writes_when_it_is_killed_is_not(version: str) -> None:
    assert not is_safe(version)


@pytest.fixture
def old_etcd(tmp_path: Path) -> Path:
    program = tmp_path / "etcd"
    program.write_text("#!/bin/sh\necho 'etcd Version: 3.5.1'\n")
    program.chmod(0o755)
    return program


async def test_production_refuses_an_etcd_that_can_lose_writes(data_dir: Path, old_etcd: Path) -> None:
    assert await version_of(old_etcd) == "3.5.1"
    with pytest.raises(EmbeddedError, match=r"3\.5\.3 or later"):
        async with embedded_etcd(data_dir, old_etcd, production=True):
            pass


async def test_a_broker_in_production_does_not_begin_on_such_an_etcd(
    data_dir: Path, old_etcd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(old_etcd.parent), prepend=":")
    add_token(data_dir.parent / "tokens", "ops", Role.ADMIN, None, None)
    tokens = str(data_dir.parent / "tokens")
    settings = Settings(listen=Listen(port=0), data_dir=str(data_dir), mode="production", token_file=tokens)
    with pytest.raises(EmbeddedError, match=r"3\.5\.3 or later"):
        async with running_broker(settings):
            pass
