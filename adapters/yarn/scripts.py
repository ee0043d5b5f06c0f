"""The scripts of an order: a run's claim, and its tasks. Pure.

Where nodes mount the site's storage, tasks get links to it; where it is in HDFS, the carried program brings and stores copies
(`master/staging.py`).
"""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from adapters.base import Run
from adapters.shell import LEAVE, claim_lines, program_lines, ready_lines, variable_lines
from adapters.yarn.master.staging import KEPT, OWN, Place, Stage
from adapters.yarn.master.task import LEFT

Storage = PurePosixPath | Place
"""Where tasks see the site's storage, or where it is in HDFS."""
CARRIED = "fed.zip"
"""The carried program's file in each container's directory."""
_START = '"$CONTAINER_ID"'
LEAVING = f'fed_left="$PWD/{LEFT}"\n{LEAVE}() {{ printf \'%s %s\\n\' "$1" "$2" > "$fed_left"; exit 1; }}\n'
"""How a script leaves past the program's own exit codes: what the master finds in this file is not the program's word."""


def claim_script(run: Run, storage: Storage, python: str) -> str:
    """Take the run's claim; run once, by the application master, before anything starts."""
    if isinstance(storage, PurePosixPath):
        return LEAVING + claim_lines(run, storage, _START)
    if not run.claim:
        return ""
    words = [Stage(storage).text(), run.claim, f"{run.federation} {run.name} "]
    return f"exec {python} -S -E {CARRIED} claim {shlex.join(words)}{_START}\n"


def task_script(run: Run, storage: Storage, python: str) -> str:
    """Run one task, whose number is the script's argument."""
    if isinstance(storage, PurePosixPath):
        before, ready = "", ready_lines(run, storage, f'"$PWD/{OWN}"')
    else:
        stage = shlex.quote(Stage(storage, run.inputs, run.outputs).text())
        before = f'[ -n "${KEPT}" ] || exec {python} -S -E {CARRIED} keep {stage} "$0" "$1"\nunset {KEPT}\n'
        ready = f'fed_own="$PWD/{OWN}"\nmkdir -p "$fed_own/work"\n'
    program = f'{program_lines(run)}{variable_lines(run)}exec "$@"\n'
    return f'{before}{LEAVING}export FED_TASK="$1"\n{ready}{program}'
