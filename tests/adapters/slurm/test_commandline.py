"""How calls of the contract become commands."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath

from adapters.base import Run, Unknown
from adapters.commands import no_end
from adapters.slurm import batch
from adapters.slurm.commandline import COMMANDS_AT_ONCE, RUNS_PER_COMMAND, CommandLine
from adapters.slurm.settings import SlurmSettings
from topology.resources import Resources

SETTINGS = SlurmSettings.model_validate({"command": {"kind": "local"}})


class Endless:
    """Commands that take all the time that they are given."""

    def __init__(self):
        self.count = 0

    async def run(self, argv, *, stdin=b"", timeout_s):
        self.count += 1
        await asyncio.sleep(timeout_s)
        raise no_end(argv, timeout_s)

    async def close(self):
        pass


async def test_all_commands_of_a_submit_share_its_time():
    runs = [
        Run(f"fed-j{number}-a1", "fed", f"j{number}", "default", 1, Resources(1, 1), "cpu", ("true",))
        for number in range(RUNS_PER_COMMAND * (COMMANDS_AT_ONCE + 1))
    ]
    commands = Endless()
    asked = [batch.submission(run, PurePosixPath("/s"), SETTINGS) for run in runs]
    outcomes = await CommandLine(commands).submit(asked, 0.05)
    # the first commands take all of it: the last one is not sent, and its runs are unknown
    assert commands.count == COMMANDS_AT_ONCE
    assert [type(outcomes[run.name]) for run in runs] == [Unknown] * len(runs)
