"""What runs leave at the site's storage, read where the broker can: at a path of its own machine, or by commands at the site."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from adapters.base import Unreachable
from adapters.commands import Commands

CHUNK_BYTES = 256 * 2**10
SMALL_BYTES = 4096
_CLEAN = ("work", "inputs", "outputs", "script", "task.sh", "first", "srun.log")


T = TypeVar("T")


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


class LocalFiles:
    """The storage is mounted on this machine: `mount` is how tasks see it, `here` how we do."""

    def __init__(self, mount: PurePosixPath, here: Path) -> None:
        self._mount = mount
        self._here = here

    async def chunk(self, log: PurePosixPath, end: PurePosixPath, offset: int, timeout_s: float) -> Chunk:
        """See `Files.chunk`."""

        def read() -> Chunk:
            has_end = self._path(end).exists()
            try:
                with self._path(log).open("rb") as file:
                    file.seek(offset)
                    return Chunk(file.read(CHUNK_BYTES), has_end)
            except FileNotFoundError:
                return Chunk(b"", has_end)

        return await _in_thread(read, timeout_s)

    async def small(self, paths: Collection[PurePosixPath], timeout_s: float) -> Mapping[PurePosixPath, str]:
        """See `Files.small`."""

        def read() -> dict[PurePosixPath, str]:
            found = {}
            for path in paths:
                with contextlib.suppress(FileNotFoundError), self._path(path).open("rb") as file:
                    found[path] = file.read(SMALL_BYTES).decode(errors="replace")
            return found

        return await _in_thread(read, timeout_s)

    async def clean(self, runs: Collection[PurePosixPath], timeout_s: float) -> None:
        """See `Files.clean`."""

        def remove() -> None:
            for run in runs:
                for name in _CLEAN:
                    path = self._path(run) / name
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)

        await _in_thread(remove, timeout_s)

    async def objection(self, storage: PurePosixPath, timeout_s: float) -> str:
        """See `Files.objection`."""

        def look() -> str:
            path = self._path(storage)
            if not path.is_dir():
                return f"{path} is no directory here: mount the site's storage, or give `command`"
            return "" if os.access(path, os.R_OK | os.X_OK) else f"{path} cannot be read"

        return await _in_thread(look, timeout_s)

    def _path(self, path: PurePosixPath) -> Path:
        return self._here / path.relative_to(self._mount)


class CommandFiles:
    """The storage is read by commands at the site."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def chunk(self, log: PurePosixPath, end: PurePosixPath, offset: int, timeout_s: float) -> Chunk:
        """See `Files.chunk`."""
        text = f"""[ -e {_quoted(end)} ] && echo 1 || echo 0
[ ! -e {_quoted(log)} ] || tail -c +{offset + 1} {_quoted(log)} | head -c {CHUNK_BYTES}
"""
        mark, _, content = (await self._sh(text, timeout_s)).partition(b"\n")
        return Chunk(content, mark == b"1")

    async def small(self, paths: Collection[PurePosixPath], timeout_s: float) -> Mapping[PurePosixPath, str]:
        """See `Files.small`."""
        ordered = list(paths)
        text = "".join(
            f"[ ! -e {_quoted(path)} ] || {{ echo {number}; head -c {SMALL_BYTES} {_quoted(path)}; printf '\\036'; }}\n"
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

    async def _sh(self, text: str, timeout_s: float) -> bytes:
        done = await self._commands.run(["sh", "-s"], stdin=text.encode(), timeout_s=timeout_s)
        if done.code:
            raise Unreachable(f"the site's storage cannot be read: {done.said}")
        return done.stdout


def _quoted(path: PurePosixPath) -> str:
    return shlex.quote(str(path))


async def _in_thread(work: Callable[[], T], timeout_s: float) -> T:
    """A file system that hangs keeps its thread, and no more."""
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.to_thread(work)
    except TimeoutError as error:
        raise Unreachable(f"the site's storage did not answer within {timeout_s:.3g} s") from error
    except OSError as error:
        raise Unreachable(f"the site's storage cannot be read: {error}") from error
