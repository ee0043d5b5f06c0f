"""Site storage over fsspec: claims, checksums and plain file work, off the event loop.

A tree's checksum is `sha256:` and the SHA-256 of, for each file in the order of its relative path: the path, a zero byte, and the
32 bytes of the file's own SHA-256. A dataset that is a single file has the empty path. Empty folders do not count.
To Linux a name is bytes: one that is no text is kept as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from broker.sites.layout import OURS
from topology.site import Site

T = TypeVar("T")

GIVEN_UP = b"given up by the broker\n"
"""What the broker's own claims hold; those of runs hold anything else."""


class StorageError(Exception):
    """Storage does not answer, or refuses: the same call may succeed later."""


class Unfit(StorageError):
    """What lies there can be no dataset: something in it is neither file nor folder, or points out of it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What lies at a path: bytes in all, and the checksum (see the module)."""

    size_bytes: int
    checksum: str


class Claims(Protocol):
    """Claims at sites' storage. A call repeated after a crash has no second effect."""

    async def create(self, site: Site, path: str) -> bool:
        """Take a claim in a run's place. True when it is the broker's, made now or by an earlier call: the run has never
        started and never will. False when the run made it. Raises StorageError."""


class Storage(Protocol):
    """What collecting asks of sites' storage."""

    async def measure(self, site: Site, path: str) -> Tree | None:
        """Read and sum up what lies at `path`; None when nothing does. Raises StorageError, and Unfit."""


class Folder:
    """One site's storage, called from threads. Paths are relative to it. Raises StorageError."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = url_to_fs(url)
        self._is_local = isinstance(self._fs, LocalFileSystem)

    def create_claim(self, path: str) -> bool:
        """See `Claims.create`. Atomic on a local file system; elsewhere as exclusive as the file system's `xb` is."""
        full = self._full(path)
        with _refusals(full):
            self._fs.makedirs(posixpath.dirname(full), exist_ok=True)
            try:
                self._create(full)
            except FileExistsError:
                return bool(self._fs.cat_file(full) == GIVEN_UP)
        return True

    def _create(self, full: str) -> None:
        """The file and its content at once: a crash between the two would leave a claim of nobody."""
        if not self._is_local:
            with self._fs.open(full, "xb") as claim:
                claim.write(GIVEN_UP)
            return
        draft = f"{full}.{uuid.uuid4().hex}"
        Path(draft).write_bytes(GIVEN_UP)
        try:
            os.link(draft, full)
        finally:
            os.unlink(draft)

    def files(self, path: str) -> Mapping[str, int] | None:
        """Relative path to size in bytes of every file at `path`; None when nothing is there."""
        full = self._full(path)
        with _refusals(full):
            if not self._fs.exists(full):
                return None
            if self._is_local and path.startswith(f"{OURS}/") and os.path.islink(full):
                raise Unfit("a link lies there, and not the files themselves")
            if self._fs.isfile(full):
                return {"": int(self._fs.size(full))}
            found = self._fs.find(full, withdirs=False, detail=True)
            return {posixpath.relpath(name, full): self._size(name, entry, full) for name, entry in sorted(found.items())}

    def _size(self, name: str, entry: Mapping[str, Any], within: str) -> int:
        """A file's size. A link may lead to a file of the same tree only: a job must not publish what the broker may read."""
        if self._is_local and os.path.islink(name):
            target = os.path.realpath(name)
            if not (os.path.isfile(target) and Path(target).is_relative_to(os.path.realpath(within))):
                raise Unfit(f"{_told(name, within)} is a link to something else than a file beside it")
            return os.path.getsize(target)
        if entry["type"] != "file":
            raise Unfit(f"{_told(name, within)} is no plain file")
        return int(entry["size"])

    def measure(self, path: str) -> Tree | None:
        """See `Storage.measure`."""
        files = self.files(path)
        if files is None:
            return None
        tree = hashlib.sha256()
        for name in sorted(files):
            with _refusals(path), self.open(posixpath.join(path, name) if name else path, "rb") as file:
                tree.update(os.fsencode(name) + b"\0" + hashlib.file_digest(file, "sha256").digest())
        return Tree(sum(files.values()), f"sha256:{tree.hexdigest()}")

    def open(self, path: str, mode: str) -> Any:
        """A file to read (`rb`) or write (`wb`); folders above it are made for writing."""
        full = self._full(path)
        with _refusals(full):
            if "w" in mode:
                self._fs.makedirs(posixpath.dirname(full), exist_ok=True)
            return self._fs.open(full, mode)

    def names(self, path: str) -> list[str]:
        """Names in the folder `path`; none when it is not there."""
        full = self._full(path)
        with _refusals(full):
            self._fs.invalidate_cache()
            return sorted(posixpath.basename(name) for name in self._fs.ls(full, detail=False)) if self._fs.isdir(full) else []

    def make_folder(self, path: str) -> None:
        """With those above it; one that is there is not an error."""
        full = self._full(path)
        with _refusals(full):
            self._fs.makedirs(full, exist_ok=True)

    def rename(self, path: str, to: str) -> None:
        """Atomic on a local file system. `to` must not be there, or be a file."""
        full, full_to = self._full(path), self._full(to)
        with _refusals(full):
            self._fs.makedirs(posixpath.dirname(full_to), exist_ok=True)
            if self._is_local:
                os.rename(full, full_to)
            else:
                self._fs.mv(full, full_to, recursive=True)

    def remove(self, path: str) -> None:
        """With all below it; nothing there is not an error."""
        full = self._full(path)
        with _refusals(full):
            if self._fs.exists(full):
                self._fs.rm(full, recursive=True)

    def _full(self, path: str) -> str:
        full = posixpath.normpath(posixpath.join(self._root, path))
        if posixpath.relpath(full, self._root).startswith(".."):
            raise StorageError(f"{path} is outside the site's storage")
        return full


@contextmanager
def _refusals(path: str) -> Iterator[None]:
    """What the operating system and fsspec raise, as ours."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageError(f"{_told(path)}: {error.strerror or error}") from error


def _told(name: str, within: str = "") -> str:
    """A path as text that can be stored and sent, whatever bytes it is made of; `within` a folder when one is given."""
    return os.fsencode(posixpath.relpath(name, within) if within else name).decode(errors="backslashreplace")


class SiteStorages:
    """Every site's storage, worked by a few threads of our own."""

    def __init__(self, threads: int = 8) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="storage")
        self._folders: dict[str, Folder] = {}

    async def create(self, site: Site, path: str) -> bool:
        """See `Claims.create`."""
        return await self.run(lambda: self.at(site).create_claim(path))

    async def measure(self, site: Site, path: str) -> Tree | None:
        """See `Storage.measure`."""
        return await self.run(lambda: self.at(site).measure(path))

    def at(self, site: Site) -> Folder:
        """One site's storage. To be called in `run`."""
        url = site.storage.url
        folder = self._folders.get(url)
        if folder is None:
            with _refusals(url):
                folder = self._folders[url] = Folder(url)
        return folder

    async def run(self, work: Callable[[], T]) -> T:
        """Blocking work in one of our threads. Cancelling the caller does not stop it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
