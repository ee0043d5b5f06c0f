"""A task that is an application master itself, as Spark's is: it registers, asks for its executors, and tells of its success.
Of the rest we tell: that it failed, with what, or that it ran for too long."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

from adapters.yarn.master.task import Ending, Task

LOOK_S = 0.1
MOST_TAIL = 1 << 18
MOST_WORDS = 700
_WORDS = re.compile(r"ERROR ApplicationMaster: (.+(?:\n(?![0-9/]+ [0-9:]+ )\S.*)?)")
"""What Spark's master says of its end, with the exception that may be on the line after it."""
_STATUS = re.compile(r"User application exited with status ([0-9]+)$")


def drive(script: str, output: Path, walltime_s: float | None) -> Ending:
    """Run it to its end."""
    began = time.monotonic()
    driver = Task(script, 0, output)
    while True:
        ending = driver.ending()
        if ending is not None:
            break
        if walltime_s is not None and time.monotonic() - began > walltime_s:
            return Ending(reason="walltime", message=f"ran for longer than {walltime_s:g} s")
        time.sleep(LOOK_S)
    if ending.is_success or ending.reason:
        return ending
    words = words_of(tail(output))
    own = _STATUS.match(words)  # of a program that ended before it had registered Spark's master exits with a code of its own
    return replace(ending, message=words, exit_code=int(own[1]) if own else ending.exit_code)


def words_of(printed: str) -> str:
    """Why it failed, from what it printed; empty where it did not say. What the program did comes before what came of it."""
    found = _WORDS.findall(printed)
    words = next((each for each in found if each.startswith("User ")), found[-1] if found else "")
    return " ".join(words.split())[:MOST_WORDS]


def tail(path: Path) -> str:
    """The end of a file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MOST_TAIL))
        return file.read().decode(errors="replace")
