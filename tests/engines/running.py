"""Real engines of a test session: each is started when a test first asks for it, shared by all, and ended with the session."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar, cast


class RealEngine(Protocol):
    """What was started."""

    def stop(self) -> None:
        """End every process of it, by pid, and wait until they are gone."""


E = TypeVar("E", bound=RealEngine)
_RUNNING: dict[str, tuple[RealEngine, Path]] = {}


def running(name: str, start: Callable[[Path], E]) -> E:
    """The engine of this name; `start` gets a folder of its own, which is removed when the session ends."""
    if name not in _RUNNING:
        folder = Path(tempfile.mkdtemp(prefix=f"fed-{name}-"))
        _RUNNING[name] = start(folder), folder
    return cast(E, _RUNNING[name][0])


def end_all() -> None:
    """End what was started, the last one first. Raises what the first failing stop raised, after all were asked."""
    failures: list[Exception] = []
    while _RUNNING:
        _, (engine, folder) = _RUNNING.popitem()
        try:
            engine.stop()
        except Exception as error:  # noqa: BLE001 - the others are to be ended too; it is raised below
            failures.append(error)
        shutil.rmtree(folder, ignore_errors=True)
    if failures:
        raise failures[0]


def cache() -> Path:
    """Where what was built or downloaded for engines is kept, outside the repository."""
    return Path(os.environ.get("FEDBROKER_CACHE") or Path.home() / ".cache" / "fedbroker")
