"""What all kinds share whose runs are programs on this machine: their storage is a folder here, and files let them go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.contract.adapters import Does


class ProgramKind:
    """The part of a kind that is the same whichever engine starts the programs."""

    runs_programs = True
    sleep = "sleep"
    """How a program takes a while."""
    gate_poll_s = 0.05
    """How often a program that waits looks whether it may go on."""
    pause_s = 0.05
    """How long a claim waits before it asks the engine again."""

    def __init__(self, folder: Path, gates: str = "gates") -> None:
        """`gates` is the folder below `folder` that programs look in: it has to be one that they see."""
        self.storage = folder / "storage"
        self.storage.mkdir(parents=True)
        self.hall = folder / gates
        self.hall.mkdir()

    @staticmethod
    def missing() -> str:
        return ""

    def program(self, run: str, does: Does) -> tuple[str, ...]:
        parts = [f"printf %s '{does.output}'"]
        parts += [f"while [ ! -e {self.hall / run} ]; do sleep {self.gate_poll_s}; done"] if does.waits else []
        parts += [f"{self.sleep} {does.seconds}"] if does.seconds else []
        parts += [f"kill -{does.signal:d} $$" if does.signal else f"exit {does.exit_code}"]
        return ("sh", "-c", "; ".join(parts))

    def let_go(self, run: str) -> None:
        (self.hall / run).touch()

    def claim(self, path: str) -> None:
        self.put(path, "given up by the broker\n")

    def has_claim(self, path: str) -> bool:
        return (self.storage / path).exists()

    def put(self, path: str, content: str) -> None:
        target = self.storage / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)

    def content(self, path: str) -> str:
        return (self.storage / path).read_text()

    async def pause(self) -> None:
        await asyncio.sleep(self.pause_s)

    @contextmanager
    def without_storage(self) -> Iterator[None]:
        """While it lasts there is no storage."""
        away = self.storage.rename(self.storage.with_name("away"))
        try:
            yield
        finally:
            away.rename(self.storage)
