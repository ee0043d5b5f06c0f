"""An append-only file of JSON records that survives the death of its process and, once committed, that of the machine."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Journal:
    """One writer; the engine's lock sees to it. An error while writing is not to be survived: what is in memory would be ahead
    of what is on disk, so it ends the process, and the next one reads what is true."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._written = 0
        self._committed = 0
        self._committing = asyncio.Lock()

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return os.fstat(self._file).st_size

    def read(self) -> list[Record]:
        """Every record, in order. A last line without an end was never committed and does not count."""
        try:
            whole = self._path.read_bytes()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in whole[: whole.rfind(b"\n") + 1].splitlines()]

    def begin(self, records: Iterable[Record]) -> None:
        """Make the file hold just these, at once or not at all, and go on from there."""
        draft = self._path.with_suffix(".new")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _write(file, _lines(records))
        os.fsync(file)
        os.rename(draft, self._path)
        _sync_directory(self._path.parent)
        if self._file >= 0:
            os.close(self._file)
        self._file = file
        self._committed = self._written

    def add(self, *records: Record) -> None:
        """Append: from now on a restarted daemon knows it. What must survive the machine as well waits for `commit`."""
        _write(self._file, _lines(records))
        self._written += 1

    async def commit(self) -> None:
        """Wait until everything added so far is on the disk. Callers at the same time share one sync."""
        wanted = self._written
        async with self._committing:
            if self._committed >= wanted:
                return
            reached = self._written
            await asyncio.to_thread(os.fdatasync, self._file)
            self._committed = reached

    async def renew(self, records: Callable[[], Iterable[Record]]) -> None:
        """`begin` while others may commit."""
        async with self._committing:
            self.begin(records())


def _lines(records: Iterable[Record]) -> bytes:
    return b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records)


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
