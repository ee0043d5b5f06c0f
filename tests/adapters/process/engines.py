"""Real engines for tests: a site below a temporary folder, its adapter, and blows to its daemon."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from adapters.base import Accepted, Call, Run, RunRef
from adapters.process.adapter import open_process, shut_down
from adapters.process.settings import ProcessSettings, socket_of, state_dir_of
from tests.running import kill_daemon
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

FEDERATION = "fed"
CALL = Call(epoch=1, timeout_s=20.0)
WITHIN_S = 20.0
POLL_S = 0.01


async def until(condition, within_s=WITHIN_S):
    """What `condition` gives once it is true; it is asked again and again, and may be awaitable. Fails when time is up."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, "it did not become so in time"
        await asyncio.sleep(POLL_S)


def a_pool(name="cpu", nodes=1, cpus=4.0, **gpus):
    return Pool(name, nodes, Resources.of(cpus, 16.0, gpus))


def a_site(storage, *pools):
    return Site("ams", Engine("process"), pools or (a_pool(),), Storage(f"file://{storage}"))


def a_run(name, *command, script=None, tasks=1, cpus=1.0, federation=FEDERATION, gpus=None, **more):
    """A run of `<name>-a1`; a command of one word is for sh."""
    command = ("sh", "-c", command[0]) if len(command) == 1 else command
    per_task = Resources.of(cpus, 0.1, gpus or {})
    more = {"pool": "cpu", "claim": f".fed/claims/{federation}-{name}-a1", **more}
    return Run(f"{federation}-{name}-a1", federation, name, "vision", tasks, per_task, command=command, script=script, **more)


def ref(run):
    return RunRef(run.name)


def is_alive(pid):
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class RealEngine:
    """One site's engine through all its lives, and an adapter to it."""

    def __init__(self, storage, *pools, federation=FEDERATION, **settings):
        storage.mkdir(parents=True, exist_ok=True)
        self.storage = storage
        self.site = a_site(storage, *pools)
        self.settings = ProcessSettings(cancel_grace_s=settings.pop("cancel_grace_s", 0.3), **settings)
        self.state_dir = Path(self.settings.state_dir) if self.settings.state_dir else state_dir_of(storage)
        self.adapter = self.open(federation)

    def open(self, federation=FEDERATION, **changes):
        """One more adapter."""
        settings = self.settings.model_copy(update=changes)
        return open_process(self.site, settings, federation)

    @property
    def pid(self):
        """The daemon's."""
        return int((self.state_dir / "daemon.pid").read_text().split()[0])

    async def kill(self):
        """SIGKILL to the daemon, and wait until it is gone. The next call starts another."""
        await kill_daemon(self.pid, socket_of(self.state_dir))

    async def submit(self, *runs, call=CALL):
        return await self.adapter.submit(runs, call)

    async def accept(self, *runs):
        """Submit, and see that all are taken."""
        outcomes = await self.submit(*runs)
        assert {name: type(outcome) for name, outcome in outcomes.items()} == {run.name: Accepted for run in runs}

    async def report(self, run):
        return (await self.adapter.observe((), CALL)).reports.get(run.name)

    async def reports(self, *runs):
        """Reports of these, in their order."""
        seen = (await self.adapter.observe((), CALL)).reports
        return [seen.get(run.name) for run in runs]

    async def state(self, run):
        return (await self.report(run)).state

    async def ended(self, *runs, within_s=WITHIN_S):
        """The reports of these runs once all are over."""

        async def all_over():
            found = await self.reports(*runs)
            return found if all(report and report.state.is_over for report in found) else None

        return await until(all_over, within_s)

    async def end(self, run, within_s=WITHIN_S):
        """Submit one, and its report once it is over."""
        await self.accept(run)
        return (await self.ended(run, within_s=within_s))[0]

    async def log(self, run, task=0, offset=0, follow=True):
        return b"".join([chunk async for chunk in self.adapter.logs(ref(run), task, offset, follow)])

    async def close(self):
        await self.adapter.close()
        await shut_down(self.state_dir)


def with_epoch(epoch):
    return replace(CALL, epoch=epoch)
