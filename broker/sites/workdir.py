"""A program that works in a copy of a dataset, one for each task: as a command that any engine can run."""

from __future__ import annotations

import shlex

from broker.packing import WORKDIR_FILE

UNPACK = """fed_from="$FED_INPUTS"/{name}
command -p mkdir -p "task-${{FED_TASK:-0}}" && cd "task-${{FED_TASK:-0}}" &&
if [ -f "$fed_from/{file}" ]; then command -p tar -xf "$fed_from/{file}"; else command -p cp -R "$fed_from/." .; fi || {{
    echo "fedbroker: the working directory {name} cannot be unpacked here: is there a tar, and room?" >&2
    exit 126
}}
unset fed_from
"""
"""Utilities by `command -p`: the PATH is the program's. What a task that was started again finds is replaced."""
COMMAND = 'exec "$@"'
SCRIPT = """printf '%s' "$1" > .fed-script && command -p chmod 700 .fed-script
exec {shell}./.fed-script
"""


def in_workdir(name: str, command: tuple[str, ...], script: str | None) -> tuple[str, ...]:
    """The command that copies dataset `name`, an input of the run, and then becomes `command`, or `script`. A dataset that has
    a file `workdir.tar` is unpacked, with the modes and links in it; any other is copied as it is."""
    unpack = UNPACK.format(name=shlex.quote(name), file=WORKDIR_FILE)
    if script is None:
        return ("sh", "-c", unpack + COMMAND, "fedbroker", *command)
    shell = "" if script.startswith("#!") else "/bin/sh "
    return ("sh", "-c", unpack + SCRIPT.format(shell=shell), "fedbroker", script)
