"""Storage that is a directory of the broker's machine."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from broker.file_systems.base import Fsspec


class LocalFiles(Fsspec):
    """`file`: a directory of the broker's machine."""

    def __init__(self, root: str) -> None:
        super().__init__(LocalFileSystem(skip_instance_cache=True), root)

    def is_link(self, full: str) -> bool:
        """See `FileSystem`."""
        return os.path.islink(full)

    def real(self, full: str) -> str:
        """See `FileSystem`."""
        return os.path.realpath(full)

    def create(self, full: str, content: bytes) -> None:
        """See `FileSystem`. A crash between creating and writing would leave a claim of nobody: so a draft gets the name."""
        draft = f"{full}.{uuid.uuid4().hex}"
        Path(draft).write_bytes(content)
        try:
            os.link(draft, full)
        finally:
            os.unlink(draft)

    def rename(self, full: str, to: str) -> None:
        """See `FileSystem`."""
        os.rename(full, to)
