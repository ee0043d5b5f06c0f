"""The commands of LSF and the shell of the machine they are run on, each as one call."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath

from adapters.base import Misconfigured, Outcome, Unknown, Unreachable
from adapters.commands import NOT_FOUND, Commands, Completed
from adapters.lsf import script
from adapters.lsf.codec import JOB_FIELDS, Job, job_of, outcome, records_of, said, submitted
from adapters.lsf.reports import Seen, seen_of
from adapters.lsf.rooms import HOST_FIELDS, QUEUE_FIELDS, Host, Queue, busy_gpus, hosts_of, queues_of

READ_ENV = ("env", "TZ=UTC0", "LC_ALL=C", "LSB_BJOBS_DISPLAY_YEAR=Y")
"""Before commands that read: times are printed in the zone of who asks."""
KILLED_AT_ONCE = 500
LOG_BYTES = 2**20
DEFAULT_CLEAN_S = 3600.0
"""CLEAN_PERIOD of a cluster that does not say
(https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_config_ref/lsb.params.clean_period.5.html)."""

_ENDING = re.compile(r"is being (?:terminated|signaled)|already finished|No matching job|is not found|No (?:\w+ )?job found")
_CLEAN = re.compile(r"CLEAN_PERIOD\s*=\s*(\d+)")


class NotInstalled(Misconfigured):
    """There is no such command where our settings say."""


class LsfClient:
    """LSF as one user of it sees it. Everything raises Unreachable where there is no answer."""

    def __init__(self, commands: Commands, bin: str | None, mount: PurePosixPath, federation: str) -> None:
        self.commands = commands
        self._bin = bin
        self._mount = str(mount)
        self._base = str(script.base_of(mount, federation))
        self._federation = federation

    async def jobs(self, timeout_s: float) -> list[Job]:
        """Every job whose name begins as ours do, those that ended lately too; one call."""
        name = f"{self._federation}-*"
        argv = ["bjobs", "-a", "-J", name, "-json", "-o", " ".join(JOB_FIELDS)]
        return [job_of(record) for record in await self._records(argv, timeout_s)]

    async def queues(self, timeout_s: float) -> dict[str, Queue]:
        """All queues, by name."""
        return queues_of(await self._records(["bqueues", "-json", "-o", " ".join(QUEUE_FIELDS)], timeout_s))

    async def hosts(self, names: Sequence[str], timeout_s: float) -> list[Host]:
        """These hosts and those of these host groups; all where none is named."""
        return hosts_of(await self._records(["bhosts", "-json", "-o", " ".join(HOST_FIELDS), *names], timeout_s))

    async def busy_gpus(self, names: Sequence[str], timeout_s: float) -> dict[str, dict[str, int]]:
        """GPUs in use by host and model."""
        done = await self._lsf(["bhosts", "-gpu", "-w", *names], timeout_s)
        return busy_gpus(done.stdout.decode(errors="replace"))

    async def submit(self, options: Sequence[str], text: str, timeout_s: float) -> Outcome:
        """One job. A call that was not answered leaves it unknown."""
        try:
            done = await self._run(["bsub", *options], timeout_s, stdin=text.encode())
        except Unreachable as error:
            return Unknown(str(error))
        return outcome(done.code, said(done.stdout, done.stderr))

    async def submit_pack(self, jobs: Sequence[script.PackedJob], timeout_s: float) -> int:
        """Several jobs by one command; how many of them, from the first on, it took. It stops at one that LSF refuses
        (https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_command_ref/bsub.pack.1.html)."""
        deadline = time.monotonic() + timeout_s
        base, pack = PurePosixPath(self._base), secrets.token_hex(8)
        text = script.pack_script(base, pack, jobs)
        written = await self.commands.run(["sh", "-s"], stdin=text.encode(), timeout_s=timeout_s)
        if written.code:
            raise Unreachable(f"the site's storage cannot be used: {written.said}")
        path = str(base / "packs" / pack)
        done = await self._run(["bsub", "-pack", path], max(deadline - time.monotonic(), 0.0))
        await self.commands.run(["rm", "-f", path], timeout_s=max(deadline - time.monotonic(), 0.0))
        return submitted(said(done.stdout, done.stderr))

    async def kill(self, ids: Sequence[str], timeout_s: float) -> None:
        """Ask for these jobs to end. Those that are over are no error."""
        for begin in range(0, len(ids), KILLED_AT_ONCE):
            done = await self._run(["bkill", *ids[begin : begin + KILLED_AT_ONCE]], timeout_s)
            if not _ENDING.search(said(done.stdout, done.stderr)):
                raise Unreachable(f"bkill ended with {done.code}: {done.said}")

    async def is_up(self, timeout_s: float) -> None:
        """Raises Unreachable where the cluster does not say its name."""
        done = await self._lsf(["lsid"], timeout_s)
        if done.code:
            raise Unreachable(f"lsid ended with {done.code}: {done.said}")

    async def clean_period_s(self, timeout_s: float) -> float:
        """How long LSF lists a job that ended."""
        done = await self._lsf(["bparams", "-a"], timeout_s)
        if done.code:
            raise Unreachable(f"bparams ended with {done.code}: {done.said}")
        found = _CLEAN.search(done.stdout.decode(errors="replace"))
        return float(found[1]) if found else DEFAULT_CLEAN_S

    async def seen(self, timeout_s: float) -> Seen:
        """What our jobs told; one call."""
        done = await self._sh(script.READ, (self._mount, self._base), timeout_s)
        return seen_of(done.stdout.decode(errors="replace"))

    async def forget(self, runs: Collection[str], jobs: Collection[str], clean_s: float, timeout_s: float) -> None:
        """Put down that LSF's listing of these jobs is not to be told of any more, and remove what the runs left."""
        minutes = str(int(clean_s // 60) * 2 + 60)
        text = script.forget_lines(runs, jobs)
        await self._sh(script.FORGET, (self._mount, self._base, minutes), timeout_s, text)

    async def log(self, run: str, task: int, offset: int, timeout_s: float) -> tuple[str, bytes]:
        """Whether a task's output is `open`, `over` or not there (`none`), and at most `LOG_BYTES` of it from `offset` on."""
        words = (self._mount, self._base, run, str(task), str(offset + 1), str(LOG_BYTES))
        done = await self._sh(script.LOG, words, timeout_s)
        word, _, content = done.stdout.partition(b"\n")
        return word.decode(errors="replace"), content

    async def write_test(self, timeout_s: float) -> None:
        """Write and remove a file of ours in the site's storage."""
        await self._sh(script.WRITE_TEST, (self._mount, self._base), timeout_s)

    async def _records(self, argv: Sequence[str], timeout_s: float) -> list[Mapping[str, str]]:
        done = await self._lsf(argv, timeout_s)
        return records_of(argv[0], done.code, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    async def _lsf(self, argv: Sequence[str], timeout_s: float) -> Completed:
        """A command that reads. Raises NotInstalled."""
        return await self._run(argv, timeout_s, before=READ_ENV)

    async def _run(
        self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", before: Sequence[str] = ()
    ) -> Completed:
        command = argv[0] if self._bin is None else f"{self._bin}/{argv[0]}"
        done = await self.commands.run([*before, command, *argv[1:]], stdin=stdin, timeout_s=timeout_s)
        if done.code == NOT_FOUND:
            raise NotInstalled(f"there is no command {command}: set bin or transport.env.PATH: {done.said}")
        return done

    async def _sh(self, text: str, words: Sequence[str], timeout_s: float, stdin: str = "") -> Completed:
        """Run one of our scripts. It is given as a word, so that what it reads is its own."""
        done = await self.commands.run(["sh", "-c", text, "sh", *words], stdin=stdin.encode(), timeout_s=timeout_s)
        if done.code == script.ABSENT_CODE:
            raise Unreachable(f"the site's storage is not at {self._mount} of the machine that LSF's commands are run on")
        if done.code:
            raise Unreachable(f"the site's storage cannot be used: {done.said}")
        return done
