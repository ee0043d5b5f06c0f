"""The copying itself: a dataset from one site's storage to another's, at a rate, whole or not at all.

It arrives below a temporary name that carries the owner's epoch. A new owner renames that folder to its own epoch's name: what is
whole there is kept, what an old owner is still writing goes nowhere. Only what has the right checksum gets the replica's name.
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from broker.clock import Clock
from broker.sites.layout import incoming_path, replica_path
from broker.storage import Beat, Folder, SiteStorages, StorageError, Tree
from topology.dataset import DatasetId
from topology.site import Site

CHUNK_BYTES = 2**20
CHUNK_S = 0.1
"""A chunk is at most what the rate moves in this time, so that the rate is kept from second to second."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to bring. `checksum` as in `broker.checksums`; None when it is not known: then the source is measured."""

    dataset: DatasetId
    source: Site
    source_path: str
    target: Site
    epoch: int
    bytes_per_s: float
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class Brought:
    """The dataset is at `replica_path`. `moved_bytes` came over the link this time, in `seconds`."""

    tree: Tree
    moved_bytes: int
    seconds: float


class Mover(Protocol):
    """What transfers ask."""

    async def bring(self, order: Order) -> Brought:
        """Copy, check, rename. May be repeated, and may be cut off anywhere. Raises StorageError, also when what arrived is not
        what was sent."""


class Throttle:
    """Lets `bytes_per_s` through."""

    def __init__(self, bytes_per_s: float, clock: Clock) -> None:
        self.bytes_per_s = max(bytes_per_s, 1.0)
        self._clock = clock
        self._free_at = clock.boottime()

    @property
    def chunk_bytes(self) -> int:
        """How much to send at once."""
        return max(min(CHUNK_BYTES, int(self.bytes_per_s * CHUNK_S)), 1)

    async def sent(self, count: int) -> None:
        """Wait until the rate allows more, after `count` bytes."""
        now = self._clock.boottime()
        self._free_at = max(self._free_at, now - CHUNK_S) + count / self.bytes_per_s
        if self._free_at > now:
            await self._clock.sleep(self._free_at - now)


class FileMover:
    """A `Mover` over site storage, file by file. `count` is told of moved bytes: source, target, how many."""

    def __init__(self, storages: SiteStorages, clock: Clock, count: Callable[[str, str, int], None]) -> None:
        self._storages = storages
        self._clock = clock
        self._count = count

    async def bring(self, order: Order) -> Brought:
        """See `Mover.bring`."""
        storages = self._storages
        run = partial(storages.run, order.target)
        source = await storages.run(order.source, lambda: storages.at(order.source))
        target = await run(lambda: storages.at(order.target))
        expected = order.checksum
        if not expected:
            measured = await storages.run_on(order.source, lambda beat: _measured(source, order.source_path, beat))
            expected = measured.checksum
        final, folder = replica_path(order.dataset), incoming_path(order.dataset)
        there = await storages.run_on(order.target, lambda beat: _kept(target, final, expected, beat))
        if there:
            return Brought(there, 0, 0.0)
        await run(lambda: adopt(target, folder, order.epoch))
        began = self._clock.boottime()
        moved = await self._copy(order, source, target, f"{folder}/{order.epoch}")
        took = self._clock.boottime() - began
        tree = await storages.run_on(order.target, lambda beat: _checked(target, f"{folder}/{order.epoch}", expected, beat))
        await run(lambda: target.rename(f"{folder}/{order.epoch}", final))
        return Brought(tree, moved, took)

    async def _copy(self, order: Order, source: Folder, target: Folder, arriving: str) -> int:
        """Bring the files that are not there whole; bytes moved."""
        run = partial(self._storages.run, order.target)
        files = await self._storages.run(order.source, lambda: source.files(order.source_path))
        if files is None:
            raise StorageError(f"nothing is at {order.source_path} of {order.source.name}")
        there = await run(lambda: _cleared(target, arriving, files))
        throttle = Throttle(order.bytes_per_s, self._clock)
        moved = 0
        for name in sorted(files.keys() - there.keys()):
            path, part = _below(order.source_path, name), f"{arriving}.part"
            copying = self._by_chunk(order, source, path, target, part, throttle)
            if files[name] <= throttle.chunk_bytes:
                copying = self._at_once(order, source, path, target, part)
            async with aclosing(copying) as counts:
                async for count in counts:
                    moved += count
                    self._count(order.source.name, order.target.name, count)
                    await throttle.sent(count)
            await run(partial(target.rename, part, _below(arriving, name)))
        return moved

    async def _at_once(self, order: Order, source: Folder, path: str, target: Folder, to: str) -> AsyncGenerator[int, None]:
        """Copy a small file in one go; yields its bytes."""

        def copy() -> int:
            with source.open(path, "rb") as reader, target.open(to, "wb") as writer:
                return target.pass_on(reader, writer, -1)

        yield await self._storages.run(order.target, copy)

    async def _by_chunk(
        self, order: Order, source: Folder, path: str, target: Folder, to: str, throttle: Throttle
    ) -> AsyncGenerator[int, None]:
        """Copy a file chunk by chunk, as fast as it is asked for; yields the bytes of each."""
        run = partial(self._storages.run, order.target)
        reader, writer = await run(lambda: (source.open(path, "rb"), target.open(to, "wb")))
        try:
            while count := await run(lambda: target.pass_on(reader, writer, throttle.chunk_bytes)):
                yield count
        finally:
            await run(lambda: _close(reader, writer))


def adopt(target: Folder, folder: str, epoch: int) -> None:
    """Make what an earlier owner left ours: its newest tree gets our epoch's name, all else goes. Raises StorageError when a
    newer owner is at work."""
    left = target.names(folder)
    epochs = sorted(int(stem) for name in left if (stem := name.removesuffix(".part")).isdecimal())
    if epochs and epochs[-1] > epoch:
        raise StorageError(f"{folder}: the owner of epoch {epochs[-1]} is at work")
    keep = max((int(name) for name in left if name.isdecimal()), default=epoch)
    if keep != epoch:
        target.rename(f"{folder}/{keep}", f"{folder}/{epoch}")
    for name in left:
        if name not in (str(keep), str(epoch)):
            target.remove(f"{folder}/{name}")


def _cleared(target: Folder, arriving: str, files: Mapping[str, int]) -> Mapping[str, int]:
    """The files that are there whole, after all else in the folder is gone."""
    there = target.files(arriving) or {}
    for name, size in there.items():
        if files.get(name) != size:
            target.remove(_below(arriving, name))
    if "" not in files:
        target.make_folder(arriving)
    return {name: size for name, size in there.items() if files.get(name) == size}


def _kept(target: Folder, path: str, expected: str, beat: Beat) -> Tree | None:
    """What a crash left after the last rename, if it is right; else it is removed."""
    tree = target.measure(path, beat)
    if tree is None or tree.checksum == expected:
        return tree
    target.remove(path)
    return None


def _measured(folder: Folder, path: str, beat: Beat) -> Tree:
    tree = folder.measure(path, beat)
    if tree is None:
        raise StorageError(f"nothing is at {path}")
    return tree


def _checked(folder: Folder, path: str, expected: str, beat: Beat) -> Tree:
    """What arrived, if it is what was sent; else it is removed, to be brought anew."""
    tree = _measured(folder, path, beat)
    if tree.checksum != expected:
        folder.remove(path)
        raise StorageError(f"checksum of what arrived is {tree.checksum}, not {expected}")
    return tree


def _close(*files: Any) -> None:
    try:
        for file in files:
            file.close()
    except OSError as error:
        raise StorageError(f"closing: {error.strerror or error}") from error


def _below(path: str, name: str) -> str:
    return posixpath.join(path, name) if name else path
