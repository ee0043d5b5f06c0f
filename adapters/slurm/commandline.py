"""Slurm by its commands."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from adapters.base import Layer, Outcome, RunName, Unknown, Unreachable
from adapters.calls import each, seconds_left
from adapters.commands import Commands, Completed, probe_login
from adapters.probing import Answers
from adapters.slurm import commandline_codec as codec
from adapters.slurm.batch import Submission
from adapters.slurm.codec import Job, Listing, lacking

RUNS_PER_COMMAND = 25
COMMANDS_AT_ONCE = 4


class CommandLine:
    """One site's Slurm, through commands run here or at a login node."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def submit(self, submissions: Sequence[Submission], timeout_s: float) -> Mapping[RunName, Outcome]:
        """Many by each command, a few commands at once, all within the time. A command without an end leaves its own unknown."""
        deadline = time.monotonic() + timeout_s

        async def send(part: Sequence[Submission]) -> Mapping[RunName, Outcome]:
            try:
                done = await self._sh(codec.submit_script(part), seconds_left(deadline))
                return codec.submit_outcomes(part, done.stdout.decode(errors="replace"))
            except Unreachable as error:
                return {submission.name: Unknown(str(error)) for submission in part}

        parts = [submissions[at : at + RUNS_PER_COMMAND] for at in range(0, len(submissions), RUNS_PER_COMMAND)]
        told = await each(send, parts, COMMANDS_AT_ONCE)
        return {name: outcome for outcomes in told for name, outcome in outcomes.items()}

    async def listing(self, prefix: str, timeout_s: float) -> Listing:
        """Nodes, then this user's jobs, by one command. Raises Unreachable."""
        done = await self._sh(codec.list_script(prefix), timeout_s)
        if done.code:
            raise Unreachable(f"squeue: {done.said}")
        return codec.listing_from_text(done.stdout.decode(errors="replace"))

    async def cancel(self, jobs: Collection[Job], timeout_s: float) -> None:
        """By id, and each only where it still has its name. Raises Unreachable."""
        done = await self._sh(codec.cancel_script(jobs), timeout_s)
        if done.code:
            raise Unreachable(f"scancel: {done.said}")

    async def history(self, names: Collection[RunName], timeout_s: float) -> Sequence[Job]:
        """What accounting says of these names. Raises Unreachable."""
        done = await self._sh(codec.history_script(names), timeout_s)
        if done.code:
            raise Unreachable(f"sacct: {done.said}")
        return codec.history_from_text(done.stdout.decode(errors="replace"))

    async def probe(self, partitions: Collection[str], timeout_s: float) -> Answers:
        """REACH, LOGIN and SCHEDULER, as far as they go."""
        answers = await probe_login(self._commands, timeout_s)
        if not answers.is_ok:
            return answers
        try:
            done = await self._sh(codec.PARTITIONS_SCRIPT, timeout_s)
        except Unreachable as error:
            answers.failed(str(error))
            return answers
        if done.code and codec.is_login_failure(done.said):
            answers.refuted(Layer.LOGIN, done.said, is_misconfigured=True)
        elif done.code:
            answers.failed(done.said)
        else:
            there = {word.strip("*") for word in done.stdout.decode(errors="replace").split()}
            message = lacking(sorted(set(partitions) - there))
            answers.answered(Layer.SCHEDULER, message, is_misconfigured=bool(message))
        return answers

    async def close(self) -> None:
        """End what still runs."""
        await self._commands.close()

    async def _sh(self, text: str, timeout_s: float) -> Completed:
        return await self._commands.run(["sh", "-s"], stdin=text.encode(), timeout_s=timeout_s)
