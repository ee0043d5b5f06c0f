"""The most memory that a process has had, by Linux."""

from __future__ import annotations

import os
import re
from pathlib import Path


def peak_mib(pid: int | None = None) -> float:
    """Of a process, this one unless told, since its program began: `ru_maxrss` also counts what started it."""
    status = Path(f"/proc/{pid or os.getpid()}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024
