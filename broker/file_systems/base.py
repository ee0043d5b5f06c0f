"""What a file system of storage does, and what is the same for all that fsspec opens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

Entry = Mapping[str, Any]
"""As fsspec's `info`: `name`, `type` (`file`, `directory`, `link`, others), `size`."""


class CannotOpen(Exception):
    """Storage that cannot be opened as its settings are: the message says what and the cure."""


class FileSystem(Protocol):
    """Paths are the file system's own, absolute. Raises OSError, and `failures_of` its scheme."""

    root: str

    def info(self, full: str) -> Entry | None:
        """What is there; None when nothing is."""

    def entries(self, full: str) -> list[Entry]:
        """What is in a folder."""

    def files(self, full: str) -> Iterator[Entry]:
        """All that is below a folder and is no folder."""

    def is_link(self, full: str) -> bool:
        """Whether the path itself is a symbolic link."""

    def real(self, full: str) -> str:
        """The path with all links followed."""

    def make_folder(self, full: str) -> None:
        """With those above it; one that is there is not an error."""

    def create(self, full: str, content: bytes) -> None:
        """A new file with this content, at once. Raises FileExistsError."""

    def read(self, full: str) -> bytes:
        """A small file's content."""

    def open(self, full: str, mode: str) -> Any:
        """A file to read (`rb`) or write (`wb`)."""

    def rename(self, full: str, to: str) -> None:
        """A file or a folder; the folder above `to` is there."""

    def remove(self, full: str) -> None:
        """With all below it; nothing there is not an error."""

    def close(self) -> None:
        """Give back connections."""


class Fsspec:
    """What is the same for all that are opened by fsspec."""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs = fs
        self.root = root

    def info(self, full: str) -> Entry | None:
        """See `FileSystem`."""
        try:
            found: Entry = self._fs.info(full)
        except FileNotFoundError:
            self._see_root()
            return None
        return found

    def _see_root(self) -> None:
        """Storage that is not mounted, or that somebody removed, must not be taken for storage with nothing in it."""
        try:
            self._fs.info(self.root)
        except FileNotFoundError as error:
            raise OSError(f"{self.root} itself is not there: make it, or see that it is mounted") from error

    def entries(self, full: str) -> list[Entry]:
        """See `FileSystem`."""
        return [entry for entry in self._fs.ls(full, detail=True) if entry["name"].rstrip("/") != full.rstrip("/")]

    def files(self, full: str) -> Iterator[Entry]:
        """See `FileSystem`."""
        for entry in self.entries(full):
            if entry["type"] == "directory":
                yield from self.files(entry["name"])
            else:
                yield entry

    def is_link(self, full: str) -> bool:
        """See `FileSystem`."""
        return False

    def real(self, full: str) -> str:
        """See `FileSystem`."""
        return full

    def make_folder(self, full: str) -> None:
        """See `FileSystem`."""
        self._fs.makedirs(full, exist_ok=True)

    def read(self, full: str) -> bytes:
        """See `FileSystem`."""
        content: bytes = self._fs.cat_file(full)
        return content

    def open(self, full: str, mode: str) -> Any:
        """See `FileSystem`."""
        return self._fs.open(full, mode)

    def remove(self, full: str) -> None:
        """See `FileSystem`."""
        if self.info(full) is not None:
            self._fs.rm(full, recursive=True)

    def close(self) -> None:
        """See `FileSystem`: nothing is held."""
