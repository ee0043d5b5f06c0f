"""What runs leave at the site's storage, read where the broker can: at a path of its own machine, or by commands at the site."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from adapters.base import Unreachable
from adapters.commands import Commands
from adapters.threads import SiteThreads

CHUNK_BYTES = 256 * 2**10
SMALL_BYTES = 4096
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
_OWN_DEPTH = 2
"""Below `.fed/runs`, a run's folder is its own."""
_CLEAN = ("work", "inputs", "outputs", "script", "task.sh", "first", "srun.log")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of a log. `has_end`: the mark of its end was there before this was read."""

    content: bytes
    has_end: bool


class Files(Protocol):
    """Paths are as tasks at the site see them. Every call raises Unreachable and nothing else."""

    async def chunk(self, log: PurePosixPath, end: PurePosixPath, offset: int, timeout_s: float) -> Chunk:
        """From `offset` on, at most `CHUNK_BYTES`; nothing of a log that is not there."""

    async def small(self, paths: Collection[PurePosixPath], timeout_s: float) -> Mapping[PurePosixPath, str]:
        """Those of these small files that are there."""

    async def clean(self, runs: Collection[PurePosixPath], timeout_s: float) -> None:
        """Of these runs' directories, remove what nobody reads any more; logs stay."""

    async def objection(self, storage: PurePosixPath, timeout_s: float) -> str:
        """Why the storage cannot be used; empty when it can."""

    async def close(self) -> None:
        """Give back connections and threads."""


class LocalFiles:
    """The storage is mounted on this machine: `mount` is how tasks see it, `here` how we do. What lies there was made by jobs,
    and we may have rights that they have not: no link below `here` is followed, and only regular files are read."""

    def __init__(self, mount: PurePosixPath, here: Path, threads: SiteThreads) -> None:
        self._mount = mount
        self._here = here
        self._threads = threads

    async def chunk(self, log: PurePosixPath, end: PurePosixPath, offset: int, timeout_s: float) -> Chunk:
        """See `Files.chunk`."""

        def read() -> Chunk:
            has_end = self._read(end, 0, 0) is not None
            return Chunk(self._read(log, offset, CHUNK_BYTES) or b"", has_end)

        return await self._threads.run(read, timeout_s)

    async def small(self, paths: Collection[PurePosixPath], timeout_s: float) -> Mapping[PurePosixPath, str]:
        """See `Files.small`."""

        def read() -> dict[PurePosixPath, str]:
            found = {path: self._read(path, 0, SMALL_BYTES) for path in paths}
            return {path: content.decode(errors="replace") for path, content in found.items() if content is not None}

        return await self._threads.run(read, timeout_s)

    async def clean(self, runs: Collection[PurePosixPath], timeout_s: float) -> None:
        """See `Files.clean`."""

        def remove() -> None:
            for run in runs:
                with self._opened(run, os.O_DIRECTORY) as folder:
                    if folder is None:
                        continue
                    for name in _CLEAN:
                        _remove(name, folder)

        await self._threads.run(remove, timeout_s)

    async def objection(self, storage: PurePosixPath, timeout_s: float) -> str:
        """See `Files.objection`."""

        def look() -> str:
            path = self._here / storage.relative_to(self._mount)
            if not path.is_dir():
                return f"{path} is no directory here: mount the site's storage, or give `command`"
            return "" if os.access(path, os.R_OK | os.X_OK) else f"{path} cannot be read"

        return await self._threads.run(look, timeout_s)

    async def close(self) -> None:
        """See `Files.close`."""
        self._threads.close()

    def _read(self, path: PurePosixPath, offset: int, most: int) -> bytes | None:
        """Some of a regular file; None where there is none."""
        with self._opened(path, os.O_NONBLOCK) as file:
            if file is None or not stat.S_ISREG(os.fstat(file).st_mode):
                return None
            return os.pread(file, most, offset)

    @contextlib.contextmanager
    def _opened(self, path: PurePosixPath, flags: int) -> Iterator[int | None]:
        """The file descriptor of what lies there, reached one folder after the other; None where there is nothing for us, or a
        link on the way. `here` itself may be reached by links: those are the admin's. Raises OSError."""
        *folders, name = path.relative_to(self._mount).parts
        steps = [*((folder, os.O_DIRECTORY) for folder in folders), (name, flags)]
        with contextlib.ExitStack() as stack:
            at = os.open(self._here, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            stack.callback(os.close, at)
            is_there = True
            for depth, (part, more) in enumerate(steps):
                try:
                    at = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | more, dir_fd=at)
                except OSError as error:
                    # what a job has shut is its own loss, and not that of every run of the site
                    if error.errno in _NOTHING or (error.errno == errno.EACCES and depth >= _OWN_DEPTH):
                        is_there = False
                        break
                    raise
                stack.callback(os.close, at)
            yield at if is_there else None


def _remove(name: str, folder: int) -> None:
    """Whatever has this name in a folder that is open; what a link points at stays."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


class CommandFiles:
    """The storage is read by commands at the site, with the rights of its user, whom jobs run as too: links are followed."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def chunk(self, log: PurePosixPath, end: PurePosixPath, offset: int, timeout_s: float) -> Chunk:
        """See `Files.chunk`."""
        text = f"""[ -f {_quoted(end)} ] && echo 1 || echo 0
[ ! -f {_quoted(log)} ] || tail -c +{offset + 1} {_quoted(log)} | head -c {CHUNK_BYTES}
"""
        mark, _, content = (await self._sh(text, timeout_s)).partition(b"\n")
        return Chunk(content, mark == b"1")

    async def small(self, paths: Collection[PurePosixPath], timeout_s: float) -> Mapping[PurePosixPath, str]:
        """See `Files.small`."""
        ordered = list(paths)
        text = "".join(
            f"[ ! -f {_quoted(path)} ] || {{ echo {number}; head -c {SMALL_BYTES} {_quoted(path)}; printf '\\036'; }}\n"
            for number, path in enumerate(ordered)
        )
        said = (await self._sh(text, timeout_s)).decode(errors="replace")
        parts = (part.partition("\n") for part in said.split("\x1e")[:-1])
        return {ordered[int(number)]: content for number, _, content in parts}

    async def clean(self, runs: Collection[PurePosixPath], timeout_s: float) -> None:
        """See `Files.clean`."""
        if runs:
            words = " ".join(_quoted(run / name) for run in runs for name in _CLEAN)
            await self._sh(f"rm -rf {words}\n", timeout_s)

    async def objection(self, storage: PurePosixPath, timeout_s: float) -> str:
        """See `Files.objection`."""
        place = _quoted(storage)
        text = f"if [ ! -d {place} ]; then echo is no directory there; elif [ ! -w {place} ]; then echo cannot be written; fi\n"
        said = (await self._sh(text, timeout_s)).decode(errors="replace").strip()
        return f"{storage} {said}" if said else ""

    async def close(self) -> None:
        """See `Files.close`."""
        await self._commands.close()

    async def _sh(self, text: str, timeout_s: float) -> bytes:
        done = await self._commands.run(["sh", "-s"], stdin=text.encode(), timeout_s=timeout_s)
        if done.code:
            raise Unreachable(f"the site's storage cannot be read: {done.said}")
        return done.stdout


def _quoted(path: PurePosixPath) -> str:
    return shlex.quote(str(path))
