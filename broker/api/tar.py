"""Folders at a site as one tar stream, made as it is read: nothing is kept in memory but the chunk in hand."""

from __future__ import annotations

import asyncio
import posixpath
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import closing

from broker.storage import Folder, StorageError
from topology.site import Storage

CHUNK_BYTES = 2**18


async def tar_of(storage: Storage, paths: Mapping[str, str], at: float, threads: Executor) -> AsyncIterator[bytes]:
    """A tar archive with a folder for each of `paths` (name to path below the storage), all of it as old as `at` (epoch seconds),
    read in `threads`. Raises StorageError."""
    chunks, loop = archive(storage, paths, at), asyncio.get_running_loop()
    while (chunk := await loop.run_in_executor(threads, next, chunks, None)) is not None:
        yield chunk


def archive(storage: Storage, paths: Mapping[str, str], at: float) -> Iterator[bytes]:
    """As `tar_of`, reading as it goes."""
    with closing(Folder(storage)) as folder:
        for name, path in paths.items():
            files = folder.files(path)
            if files is None:
                raise StorageError(f"nothing is at {path} any more")
            yield _header(f"{name}/", 0, tarfile.DIRTYPE, at)
            for inside, size in files.items():
                yield _header(posixpath.join(name, inside), size, tarfile.REGTYPE, at)
                yield from _content(folder, posixpath.join(path, inside), size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _content(folder: Folder, path: str, size: int) -> Iterator[bytes]:
    """Content and padding of one file. One that grew meanwhile is cut at the size it had; one that shrank is an error."""
    left = size
    with folder.open(path, "rb") as content:
        while left:
            chunk = content.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise StorageError(f"{path} became shorter while it was read")
            left -= len(chunk)
            yield chunk
    if size % tarfile.BLOCKSIZE:
        yield bytes(-size % tarfile.BLOCKSIZE)


def _header(name: str, size: int, kind: bytes, at: float) -> bytes:
    header = tarfile.TarInfo(name)
    header.mtime = int(at)
    header.type, header.size, header.mode = kind, size, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return header.tobuf(tarfile.PAX_FORMAT)
