"""One task of a run, as a process in its container, and how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Mapping  # noqa: UP035 - runs on older Pythons

MARK = "fed "
"""Begins what is ours of a line of diagnostics: YARN puts words of its own before it."""
LEFT = "fed-left"
"""File in the container's directory into which `fed_leave` writes a reason and a message."""
OURS = "FED_MASTER"
"""Environment variables that begin so are the master's, and nothing that a program should see."""
LOGS = "FED_MASTER_LOGS"
"""Environment variable that names the container's directory of logs."""


@dataclass(frozen=True)
class Ending:
    """How a task, or a run, ended. A `reason` is an `EndReason`'s value; without one the program itself decided."""

    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    message: str = ""
    has_started: bool = True
    """Whether the program, or what stands before it in its container, ran at all."""

    @property
    def is_success(self) -> bool:
        """Whether the program ran, and was content."""
        return self.exit_code == 0 and self.reason is None

    def line(self) -> str:
        """As one line that `read` finds in what YARN makes of it."""
        return MARK + json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def read(diagnostics: str) -> Ending | None:
        """The ending that somebody's diagnostics tell of, if they do: the last of ours in them."""
        for line in reversed(diagnostics.splitlines()):
            _, mark, words = line.partition(MARK + "{")
            if mark:
                try:
                    return Ending(**json.JSONDecoder().raw_decode("{" + words)[0])
                except (ValueError, TypeError):
                    continue
        return None


class Task:
    """A shell script that runs, in the directory and process group of this container: what ends the container ends it."""

    def __init__(self, script: str, number: int, log: Path) -> None:
        Path("fed-task.sh").write_bytes(script.encode())
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["/bin/sh", "./fed-task.sh", str(number)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment_of(os.environ),
            )

    def ending(self) -> Ending | None:
        """How it ended, once it has."""
        status = self._process.poll()
        if status is None:
            return None
        left = Path(LEFT)
        if left.exists():
            reason, _, message = left.read_text(errors="replace").strip().partition(" ")
            return Ending(reason=reason, message=message)
        return Ending(exit_code=status) if status >= 0 else Ending(signal=-status)

    def wait(self) -> Ending:
        """How it ended; waits for it."""
        self._process.wait()
        ending = self.ending()
        assert ending
        return ending


def environment_of(ours: Mapping[str, str]) -> dict[str, str]:
    """What a program sees of the container's environment."""
    return {name: value for name, value in ours.items() if not name.startswith(OURS)}


def signal_the_others(number: signal.Signals) -> bool:
    """Send a signal to every other process of this process group; whether there were any."""
    group, own = os.getpgrp(), os.getpid()
    others = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != own:
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:  # it ended while we looked
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                others.append(int(entry.name))
    for pid in others:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    return bool(others)
