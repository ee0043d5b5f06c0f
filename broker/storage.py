"""Site storage over fsspec: claims, checksums and plain file work, off the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import posixpath
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from broker.checksums import checksum_of
from broker.documents.storage import TIMEOUT_S
from broker.file_systems import CannotOpen, Cure, Entry, FileSystem, cure_of, failures_of, opened
from broker.sites.layout import OURS
from topology.site import Site
from topology.site import Storage as SiteStorage

T = TypeVar("T")
Beat = Callable[[], None]
"""Says that work gets on."""

READ_BYTES = 2**20
MOST_WORDS = 500

GIVEN_UP = b"given up by the broker\n"
"""What the broker's own claims hold; those of runs hold anything else."""
PROBE = b"written and removed by the broker to see whether it can be\n"


class StorageError(Exception):
    """Storage does not answer, or refuses: the same call may succeed later."""


class WrongStorage(StorageError):
    """It answers, and says that our settings of it are wrong; or they cannot be used at all."""


class Unfit(StorageError):
    """What lies there can be no dataset: something in it is neither file nor folder, or points out of it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What lies at a path: bytes in all, and the checksum (see `checksums.py`)."""

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

    async def check(self, site: Site, timeout_s: float, is_fresh: bool = False) -> None:
        """Whether the storage is there and can be read and written: written to at first, after a failure, and where `is_fresh`.
        Raises StorageError, in no more than `timeout_s`, and WrongStorage where our settings are wrong."""


class Folder:
    """One site's storage, called from threads. Paths are relative to it. Raises StorageError."""

    def __init__(self, storage: SiteStorage) -> None:
        self._storage = storage
        self._is_proven = False
        with self._refusals(storage.url):
            self._fs: FileSystem = opened(storage)

    def check(self, is_fresh: bool) -> None:
        """See `Storage.check`. What a write takes is tried with a small file of our own, once: many services charge for it."""
        with self._refusals(self._storage.url):
            there = self._fs.info(self._fs.root)
            if there is not None and there["type"] not in ("directory", "link"):
                raise WrongStorage(f"{self._storage.url} is no folder: mend storage.url")
        if self._is_proven and not is_fresh:
            return
        full = self._full(f"{OURS}/probe-{uuid.uuid4().hex}")
        with self._refusals(self._storage.url):
            self._fs.make_folder(posixpath.dirname(full))
            self._fs.create(full, PROBE)
            found = self._fs.read(full)
            self._fs.remove(full)
            if found != PROBE:
                raise StorageError(f"{self._storage.url}: what was written there a moment ago reads as {found[:40]!r}")
        self._is_proven = True

    def create_claim(self, path: str) -> bool:
        """See `Claims.create`; how exclusive that is by scheme is told in `file_systems`."""
        full = self._full(path)
        with self._refusals(full):
            self._fs.make_folder(posixpath.dirname(full))
            try:
                self._fs.create(full, GIVEN_UP)
            except FileExistsError:
                return self._fs.read(full) == GIVEN_UP
        return True

    def files(self, path: str) -> Mapping[str, int] | None:
        """Relative path to size in bytes of every file at `path`; None when nothing is there."""
        full = self._full(path)
        with self._refusals(full):
            there = self._fs.info(full)
            if there is None:
                return None
            if path.startswith(f"{OURS}/") and self._fs.is_link(full):
                raise Unfit("a link lies there, and not the files themselves")
            if there["type"] == "file":
                return {"": int(there["size"])}
            found = {posixpath.relpath(entry["name"], full): entry for entry in self._fs.files(full)}
            return {name: self._size(entry, full) for name, entry in sorted(found.items())}

    def _size(self, entry: Entry, within: str) -> int:
        """A file's size. A link may lead to a file of the same tree only: a job must not publish what the broker may read."""
        name = entry["name"]
        if entry["type"] == "link" or entry.get("islink"):
            target = self._fs.real(name)
            there = self._fs.info(target) if Path(target).is_relative_to(self._fs.real(within)) else None
            if there is None or there["type"] != "file":
                raise Unfit(f"{_told(name, within)} is a link to something else than a file beside it")
            return int(there["size"])
        if entry["type"] != "file":
            raise Unfit(f"{_told(name, within)} is no plain file")
        return int(entry["size"])

    def measure(self, path: str, beat: Beat = lambda: None) -> Tree | None:
        """See `Storage.measure`. `beat` is called whenever it got on."""
        files = self.files(path)
        if files is None:
            return None
        digests = {}
        for name in files:
            beat()
            with self._refusals(path), self.open(posixpath.join(path, name) if name else path, "rb") as file:
                digests[name] = _digest(file, beat)
        return Tree(sum(files.values()), checksum_of(digests))

    def open(self, path: str, mode: str) -> Any:
        """A file to read (`rb`) or write (`wb`); folders above it are made for writing."""
        full = self._full(path)
        with self._refusals(full):
            if "w" in mode:
                self._fs.make_folder(posixpath.dirname(full))
            return self._fs.open(full, mode)

    def write(self, path: str, chunks: Iterable[bytes]) -> None:
        """A file of these pieces; folders above it are made. An OSError of `chunks` is taken for the storage's."""
        with self._refusals(path), self.open(path, "wb") as file:
            for chunk in chunks:
                file.write(chunk)

    def names(self, path: str) -> list[str]:
        """Names in the folder `path`; none when it is not there."""
        full = self._full(path)
        with self._refusals(full):
            there = self._fs.info(full)
            if there is None or there["type"] != "directory":
                return []
            return sorted(posixpath.basename(entry["name"].rstrip("/")) for entry in self._fs.entries(full))

    def make_folder(self, path: str) -> None:
        """With those above it; one that is there is not an error."""
        full = self._full(path)
        with self._refusals(full):
            self._fs.make_folder(full)

    def rename(self, path: str, to: str) -> None:
        """Atomic but on `s3`. `to` must not be there, or be a file."""
        full, full_to = self._full(path), self._full(to)
        with self._refusals(full):
            self._fs.make_folder(posixpath.dirname(full_to))
            self._fs.rename(full, full_to)

    def remove(self, path: str) -> None:
        """With all below it; nothing there is not an error."""
        full = self._full(path)
        with self._refusals(full):
            self._fs.remove(full)

    def pass_on(self, reader: Any, writer: Any, most: int) -> int:
        """Write here what can be read at once, at most so many bytes; how many there were."""
        with self._refusals("copying"):
            chunk = reader.read(most)
            if chunk:
                writer.write(chunk)
            return len(chunk)

    def close(self) -> None:
        """Give back connections."""
        self._fs.close()

    def _full(self, path: str) -> str:
        full = posixpath.normpath(posixpath.join(self._fs.root, path))
        if posixpath.relpath(full, self._fs.root).startswith(".."):
            raise StorageError(f"{path} is outside the site's storage")
        return full

    @contextmanager
    def _refusals(self, path: str) -> Iterator[None]:
        """What the operating system, fsspec and the libraries below it raise, as ours, with the cure where one is known."""
        try:
            yield
        except StorageError:
            raise
        except CannotOpen as error:
            raise WrongStorage(str(error)) from error
        except Exception as error:
            # which errors a library has is known only once it was imported, which `opened` does
            if not isinstance(error, (OSError, *failures_of(self._storage.url))):
                raise
            cure = cure_of(self._storage.url, error)
            kind = WrongStorage if cure and not cure.is_passing else StorageError
            raise kind(_explained(path, error, cure)) from error


def _digest(file: Any, beat: Beat) -> bytes:
    found = hashlib.sha256()
    while chunk := file.read(READ_BYTES):
        found.update(chunk)
        beat()
    return found.digest()


def _explained(path: str, error: Exception, cure: Cure | None) -> str:
    text = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[:MOST_WORDS]
    return f"{_told(path)}: {text}" + (f": {cure.words}" if cure and cure.words else "")


def _told(name: str, within: str = "") -> str:
    """A path as text that can be stored and sent, whatever bytes it is made of; `within` a folder when one is given."""
    return os.fsencode(posixpath.relpath(name, within) if within else name).decode(errors="backslashreplace")


class SiteStorages:
    """Every site's storage. Each is worked by a few threads of its own, so that one that hangs holds up no other."""

    def __init__(self, threads: int = 4) -> None:
        self._at_once = threads
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._folders: dict[str, Folder] = {}
        self._checkers: dict[str, ThreadPoolExecutor] = {}
        self._checking: dict[tuple[str, bool], asyncio.Future[None]] = {}
        """Checks under way, by storage and whether they are fresh: of one that hangs no second is begun."""

    async def create(self, site: Site, path: str) -> bool:
        """See `Claims.create`."""
        return await self.run(site, lambda: self.at(site).create_claim(path))

    async def measure(self, site: Site, path: str) -> Tree | None:
        """See `Storage.measure`."""
        return await self.run_on(site, lambda beat: self.at(site).measure(path, beat))

    async def check(self, site: Site, timeout_s: float, is_fresh: bool = False) -> None:
        """See `Storage.check`. In threads of their own: the site's others may be busy with large trees."""
        key = _key(site)
        doing = self._checking.get((key, is_fresh))
        if doing is None or doing.done():
            threads = self._checkers.setdefault(key, ThreadPoolExecutor(2, thread_name_prefix=f"check of {site.name}"))
            work = asyncio.get_running_loop().run_in_executor(threads, lambda: self.at(site).check(is_fresh))
            doing = self._checking[key, is_fresh] = work
            doing.add_done_callback(lambda over: over.cancelled() or over.exception())  # nobody may be waiting for it any more
        done, _ = await asyncio.wait([doing], timeout=timeout_s)
        try:
            if not done:
                raise _silence(site, timeout_s)
            doing.result()
        except StorageError:
            self._drop(key)
            raise

    def at(self, site: Site) -> Folder:
        """One site's storage. To be called in `run`."""
        key = _key(site)
        folder = self._folders.get(key)
        if folder is None:
            folder = self._folders.setdefault(key, Folder(site.storage))
        return folder

    async def run(self, site: Site, work: Callable[[], T]) -> T:
        """Blocking work of no more than one operation, in a thread of the site's. Raises StorageError, also when it takes longer
        than the storage's `timeout_s`: it may then still have its effect."""
        return await self.run_on(site, lambda beat: work())

    async def run_on(self, site: Site, work: Callable[[Beat], T]) -> T:
        """Work of any length, that says by `beat` whenever it gets on. Raises as `run`, when it does not for too long. Cancelling
        the caller does not stop it."""
        key, timeout_s, loop = _key(site), _timeout_s(site), asyncio.get_running_loop()
        threads = self._threads.get(key)
        if threads is None:
            threads = self._threads[key] = ThreadPoolExecutor(self._at_once, thread_name_prefix=f"storage of {site.name}")
        beats = [loop.time()]

        def beat() -> None:
            beats[0] = loop.time()

        doing = loop.run_in_executor(threads, lambda: work(beat))
        try:
            while not doing.done():
                left = beats[0] + timeout_s - loop.time()
                if left <= 0:
                    doing.cancel()
                    raise _silence(site, timeout_s)
                await asyncio.wait([doing], timeout=left)
            return doing.result()
        except StorageError as error:
            if not isinstance(error, Unfit):
                self._drop(key)
            raise

    def _drop(self, key: str) -> None:
        """Connect anew next time, with the secrets of then. What is under way keeps the old connection."""
        self._folders.pop(key, None)

    def close(self) -> None:
        """Let the threads end."""
        for threads in (*self._threads.values(), *self._checkers.values()):
            threads.shutdown(wait=False, cancel_futures=True)
        for folder in self._folders.values():
            folder.close()


def _silence(site: Site, seconds: float) -> StorageError:
    return StorageError(f"{site.storage.url} gives no answer for {seconds:g} s: see that it is up and reached")


def _key(site: Site) -> str:
    return f"{site.storage.url} {json.dumps(site.storage.options, sort_keys=True, default=str)}"


def _timeout_s(site: Site) -> float:
    return float(site.storage.options.get("timeout_s", TIMEOUT_S))
