"""Addresses of Unix sockets: the kernel takes 107 bytes, and sites may lie deeper than that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_BYTES = 100


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for `path` that fits, for as long as the block lasts. Raises OSError when its folder is not there."""
    if len(os.fsencode(path)) <= MOST_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
