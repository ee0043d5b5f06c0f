"""The adapter to LSF, by its commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from adapters.base import (
    Accepted,
    Call,
    Capabilities,
    Check,
    Layer,
    NativeId,
    Observation,
    Outcome,
    Refused,
    Report,
    Run,
    RunName,
    RunRef,
    Unknown,
    Unreachable,
)
from adapters.calls import deadline_of, seconds_left
from adapters.commands import Commands, both, probe_login
from adapters.lsf.client import LOG_BYTES, LsfClient, NotInstalled
from adapters.lsf.codec import Job, objection, slots_per_task, submission
from adapters.lsf.reports import Seen, by_name, report_of, report_of_record
from adapters.lsf.rooms import Queue, room_of
from adapters.lsf.script import PackedJob, job_script
from adapters.lsf.settings import LsfSettings, mount_of
from adapters.transports import open_commands
from topology.room import Room
from topology.site import Pool, Site

SETTLING_S = 30.0
"""A busy mbatchd answers `bjobs` from a copy of itself that is so old at most: MBD_REFRESH_TIME
(https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_config_ref/lsb.params.mbd_refresh_time.5.html)."""
LOG_CALL_S = 30.0
LOG_PAUSE_S = 0.5
LOG_LISTING_EVERY = 10
"""A job that was killed tells no end: after so many empty readings LSF is asked."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One listing: our jobs, by the name of their run, and all that looks like ours and is not."""

    ours: Mapping[RunName, Sequence[Job]]
    foreign: Sequence[RunName]
    seen: Seen

    @property
    def jobs(self) -> Iterable[Job]:
        """All of ours."""
        return (job for jobs in self.ours.values() for job in jobs)


class LsfAdapter:
    """One LSF cluster, for one federation, as one user of it."""

    capabilities = Capabilities(history=True, settling_s=SETTLING_S)

    def __init__(self, site: Site, settings: LsfSettings, federation: str, commands: Commands) -> None:
        self._site = site
        self._settings = settings
        self._federation = federation
        self._mount = mount_of(site, settings)
        self._client = LsfClient(commands, settings.bin, self._mount, federation)
        self._submitting = asyncio.Semaphore(settings.at_once)
        self._clean_s: float | None = None

    async def reserve(self, names: Collection[RunName], call: Call) -> Mapping[RunName, NativeId]:
        """See `SiteAdapter.reserve`: ids are handed out on acceptance."""
        return {}

    async def submit(self, runs: Sequence[Run], call: Call) -> Mapping[RunName, Outcome]:
        """See `SiteAdapter.submit`. Names are looked up first; a job that comes into being all the same leaves at its claim."""
        if not runs:
            return {}
        deadline = deadline_of(call)
        outcomes: dict[RunName, Outcome] = {
            run.name: Refused(reason) for run in runs if (reason := objection(run, self._site.pools, self._settings))
        }
        reports = self._reports(await self._listing(call.timeout_s))
        outcomes |= {run.name: Accepted(reports[run.name].native_id) for run in runs if run.name in reports}
        new = [run for run in runs if run.name not in outcomes]
        if self._settings.pack > 1 and len(new) > 1:
            outcomes |= await self._submit_packs(new, deadline)
            new = [run for run in new if run.name not in outcomes]
        answers = await asyncio.gather(*(self._submit(run, deadline) for run in new))
        return outcomes | {run.name: answer for run, answer in zip(new, answers, strict=True)}

    async def _submit_packs(self, runs: Sequence[Run], deadline: float) -> Mapping[RunName, Outcome]:
        """Outcomes of those that were sent, or may have been. The others stand behind a refused one of their pack."""
        size = self._settings.pack
        sent: dict[RunName, Outcome] = {}
        for begin in range(0, len(runs), size):
            part = runs[begin : begin + size]
            jobs = [PackedJob(run.name, submission(run, self._settings), self._script(run)) for run in part]
            try:
                taken = await self._client.submit_pack(jobs, seconds_left(deadline))
            except Unreachable as error:
                return sent | {run.name: Unknown(str(error)) for run in runs[begin:]}
            sent |= {run.name: Unknown("submitted in a pack, and not listed yet") for run in part[:taken]}
        try:
            reports = self._reports(await self._listing(seconds_left(deadline)))
        except Unreachable as error:
            return {run.name: Unknown(str(error)) for run in runs}
        return sent | {run.name: Accepted(reports[run.name].native_id) for run in runs if run.name in reports}

    async def _submit(self, run: Run, deadline: float) -> Outcome:
        async with self._submitting:
            try:
                left = seconds_left(deadline)
            except Unreachable as error:
                return Unknown(f"it was not sent: {error}")
            return await self._client.submit(submission(run, self._settings), self._script(run), left)

    def _script(self, run: Run) -> str:
        return job_script(run, self._mount, self._settings.bin, slots_per_task(run, self._settings))

    async def observe(self, known: Collection[RunRef], call: Call) -> Observation:
        """See `SiteAdapter.observe`. As many calls for any number of runs: jobs, records, queues, and hosts by pool."""
        began = time.time()
        deadline = deadline_of(call)
        listing, queues = await both(self._listing(call.timeout_s), self._client.queues(call.timeout_s))
        rooms = {}
        for pool in self._site.pools:
            rooms[pool.name] = await self._room(pool, queues.get(self._queue(pool.name)), listing, deadline)
        return Observation(began, True, "lsf", self._reports(listing), rooms, tuple(listing.foreign))

    async def cancel(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.cancel`. LSF sends SIGINT, SIGTERM and SIGKILL, ten seconds apart where it is not told otherwise."""
        if not runs:
            return
        deadline = deadline_of(call)
        listing = await self._listing(call.timeout_s)
        names = {run.name for run in runs}
        ids = [job.id for job in listing.jobs if job.name in names and not job.is_over]
        await self._client.kill(ids, seconds_left(deadline))

    async def forget(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.forget`. LSF lists what ended for its CLEAN_PERIOD: a file of ours says which of it is stored."""
        if not runs:
            return
        deadline = deadline_of(call)
        listing = await self._listing(call.timeout_s)
        if self._clean_s is None:
            self._clean_s = await self._client.clean_period_s(seconds_left(deadline))
        is_ours = f"{self._federation}-"
        names = {
            run.name
            for run in runs
            if run.name.startswith(is_ours)
            and run.name not in listing.foreign
            and all(job.is_over for job in listing.ours.get(run.name, ()))
        }
        keys = [job.key for job in listing.jobs if job.name in names]
        if names:
            await self._client.forget(names, keys, self._clean_s, seconds_left(deadline))

    async def logs(self, run: RunRef, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        """See `SiteAdapter.logs`. Output is read where the commands are run, a part at a time."""
        empty = 0
        while True:
            word, content = await self._client.log(run.name, task, offset, LOG_CALL_S)
            if content:
                offset, empty = offset + len(content), 0
                yield content
            if len(content) == LOG_BYTES:
                continue
            if not follow or word == "over":
                return
            empty += 1
            if empty % LOG_LISTING_EVERY == 0 and await self._is_over(run):
                follow = False  # what was written since the last reading is read once more
                continue
            await asyncio.sleep(LOG_PAUSE_S)

    async def probe(self, timeout_s: float) -> Sequence[Check]:
        """See `SiteAdapter.probe`."""
        deadline = time.monotonic() + timeout_s
        answers = await probe_login(self._client.commands, timeout_s)
        if not answers.is_ok:
            return answers.checks
        try:
            await self._client.is_up(seconds_left(deadline))
            self._clean_s = await self._client.clean_period_s(seconds_left(deadline))
            queues = await self._client.queues(seconds_left(deadline))
            absent = sorted({self._queue(pool.name) for pool in self._site.pools} - queues.keys())
            if absent:
                message = f"there is no queue {', '.join(absent)}: set pools.<pool>.queue to one that bqueues lists"
                answers.failed(message, is_misconfigured=True)
                return answers.checks
            answers.answered(Layer.SCHEDULER)
            await self._client.write_test(seconds_left(deadline))
            answers.answered(Layer.STORAGE)
        except Unreachable as error:
            answers.failed(str(error), is_misconfigured=isinstance(error, NotInstalled))
        return answers.checks

    async def close(self) -> None:
        """See `SiteAdapter.close`."""
        await self._client.commands.close()

    async def _listing(self, timeout_s: float) -> Listed:
        jobs, seen = await both(self._client.jobs(timeout_s), self._client.seen(timeout_s))
        ours: dict[RunName, list[Job]] = {}
        foreign = set()
        for job in jobs:
            if job.federation != self._federation:
                foreign.add(job.name)
            elif job.key not in seen.forgotten:
                ours.setdefault(job.name, []).append(job)
        return Listed(ours, sorted(foreign - ours.keys()), seen)

    def _reports(self, listing: Listed) -> Mapping[RunName, Report]:
        seen = listing.seen
        reports = [report_of(job, seen.told.get(job.key), seen.now) for job in listing.jobs]
        listed = {job.key for job in listing.jobs}
        for key, told in seen.told.items():
            name, _, native_id = key.rpartition("@")
            if key not in listed and (report := report_of_record(name, native_id, told)) is not None:
                reports.append(report)
        return by_name(reports)

    async def _room(self, pool: Pool, queue: Queue | None, listing: Listed, deadline: float) -> Room:
        """Of a queue that is not there: none."""
        if queue is None:
            return Room()
        names = self._settings.pool(pool.name).hosts or queue.hosts
        hosts = await self._client.hosts(names, seconds_left(deadline))
        busy = await self._client.busy_gpus(names, seconds_left(deadline)) if pool.per_node.gpus else {}
        return room_of(pool, queue, hosts, busy, list(listing.jobs), self._settings.gpus)

    def _queue(self, pool: str) -> str:
        return self._settings.pool(pool).queue or pool

    async def _is_over(self, run: RunRef) -> bool:
        report = self._reports(await self._listing(LOG_CALL_S)).get(run.name)
        return report is None or report.state.is_over


def open_lsf(site: Site, settings: LsfSettings, federation: str) -> LsfAdapter:
    """The adapter of an LSF site; nothing is called yet. Raises ValueError where the storage's place at the site is not told, or
    where SSH is asked for and its library is not installed."""
    return LsfAdapter(site, settings, federation, open_commands(settings.transport))
