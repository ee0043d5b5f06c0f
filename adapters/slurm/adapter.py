"""The adapter to a Slurm cluster, whichever way it is spoken to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

from adapters.base import (
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
    SiteState,
    Unreachable,
)
from adapters.calls import deadline_of, seconds_left
from adapters.probing import Answers
from adapters.slurm import batch, codec
from adapters.slurm.codec import Job, Listing
from adapters.slurm.commandline import CommandLine
from adapters.slurm.files import CommandFiles, Files, LocalFiles
from adapters.slurm.rest import Rest
from adapters.slurm.settings import SlurmSettings
from adapters.threads import SiteThreads
from adapters.transports import open_commands
from topology.site import Site

LOGS_TIMEOUT_S = 20.0
FOLLOW_EVERY_S = 0.2
LOOK_EVERY_S = 2.0
"""How often following output asks whether the run is over: only a run that was killed has left no mark of its end."""


class Face(Protocol):
    """One way to speak to Slurm. Every call raises Unreachable and nothing else."""

    async def submit(self, submissions: Sequence[batch.Submission], timeout_s: float) -> Mapping[RunName, Outcome]:
        """Every name given is answered."""

    async def listing(self, prefix: str, timeout_s: float) -> Listing:
        """Nodes and jobs; all of this user's whose name begins with `prefix`."""

    async def cancel(self, jobs: Collection[Job], timeout_s: float) -> None:
        """Over already is not an error."""

    async def history(self, names: Collection[RunName], timeout_s: float) -> Sequence[Job]:
        """What accounting says of these."""

    async def probe(self, partitions: Collection[str], timeout_s: float) -> Answers:
        """REACH, LOGIN and SCHEDULER, as far as they go."""

    async def close(self) -> None:
        """Give back connections."""


class SlurmAdapter:
    """A site's Slurm cluster, for one federation."""

    def __init__(self, face: Face, files: Files, site: Site, settings: SlurmSettings, federation: str) -> None:
        self.capabilities = Capabilities(history=settings.history, settling_s=0.0)
        self._face = face
        self._files = files
        self._site = site
        self._settings = settings
        self._federation = federation
        self._storage = storage_of(site, settings)
        self._forgotten: frozenset[tuple[str, str, float | None]] = frozenset()

    async def reserve(self, names: Collection[RunName], call: Call) -> Mapping[RunName, NativeId]:
        """See `SiteAdapter.reserve`: Slurm gives ids on acceptance."""
        return {}

    async def submit(self, runs: Sequence[Run], call: Call) -> Mapping[RunName, Outcome]:
        """See `SiteAdapter.submit`. Slurm takes any name twice: of two jobs of one name the claim stops one."""
        outcomes: dict[RunName, Outcome] = {}
        submissions = []
        for run in runs:
            if reason := codec.objection(run, self._site.pools):
                outcomes[run.name] = Refused(reason)
            else:
                submissions.append(batch.submission(run, self._storage, self._settings))
        if submissions:
            outcomes.update(await self._face.submit(submissions, call.timeout_s))
        return outcomes

    async def observe(self, known: Collection[RunRef], call: Call) -> Observation:
        """See `SiteAdapter.observe`. What is not listed is looked for in the notes that runs leave, then in accounting."""
        began, deadline = time.time(), deadline_of(call)
        listing = await self._list(call.timeout_s)
        self._forgotten &= {job.identity for job in listing.jobs}
        jobs = [job for job in listing.jobs if job.identity not in self._forgotten]
        reports = codec.reports_of(jobs, self._federation)
        told = reports.keys() | {name for name, *_ in self._forgotten}
        gone = [run.name for run in known if run.name not in told and codec.looks_like_ours(run.name, self._federation)]
        if gone:
            reports |= await self._past(gone, deadline)
        rooms = codec.rooms_of(listing, self._federation, self._site.pools, self._settings)
        return Observation(began, True, listing.life, reports, rooms, codec.foreign_names(jobs, self._federation))

    async def cancel(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.cancel`. By name: every job that has it."""
        names, deadline = {run.name for run in runs}, deadline_of(call)
        listing = await self._list(call.timeout_s)
        jobs = [job for job in self._ours(listing, names) if not codec.state_of(job).is_over]
        if jobs:
            await self._face.cancel(jobs, seconds_left(deadline))

    async def forget(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.forget`. Slurm forgets by itself, and may have already; until then this adapter leaves them out. Logs
        stay."""
        names, deadline = {run.name for run in runs}, deadline_of(call)
        listing = await self._list(call.timeout_s)
        jobs = self._ours(listing, names)
        live = {job.name for job in jobs if not codec.state_of(job).is_over}
        self._forgotten |= {job.identity for job in jobs if job.name not in live}
        unlisted = {name for name in names if codec.looks_like_ours(name, self._federation)} - {job.name for job in listing.jobs}
        over = {job.name for job in jobs} - live | unlisted  # of a name that another federation's job has, nothing
        await self._files.clean({batch.own_directory(self._storage, name) for name in over}, seconds_left(deadline))

    async def logs(self, run: RunRef, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        """See `SiteAdapter.logs`."""
        log = batch.log_path(self._storage, run.name, task)
        end = batch.log_end_path(self._storage, run.name, task)
        looked, is_over = time.monotonic(), False
        while True:
            chunk = await self._files.chunk(log, end, offset, LOGS_TIMEOUT_S)
            if chunk.content:
                yield chunk.content
                offset += len(chunk.content)
            elif chunk.has_end or is_over or not follow:
                return
            else:
                await asyncio.sleep(FOLLOW_EVERY_S)
                if time.monotonic() > looked + LOOK_EVERY_S:
                    is_over = await self._is_over(run.name)
                    looked = time.monotonic()

    async def probe(self, timeout_s: float) -> Sequence[Check]:
        """See `SiteAdapter.probe`."""
        partitions = {str(self._settings.place_of(pool.name).partition) for pool in self._site.pools}
        answers = await self._face.probe(partitions, timeout_s)
        if answers.is_ok:
            try:
                answers.answered(Layer.STORAGE, await self._files.objection(self._storage, timeout_s))
            except Unreachable as error:
                answers.failed(str(error))
        return answers.checks

    async def close(self) -> None:
        """See `SiteAdapter.close`."""
        await self._face.close()
        await self._files.close()

    async def _list(self, timeout_s: float) -> Listing:
        return await self._face.listing(f"{self._federation}-", timeout_s)

    def _ours(self, listing: Listing, names: Collection[RunName]) -> list[Job]:
        return [job for job in listing.jobs if job.name in names and codec.is_ours(job, self._federation)]

    async def _is_over(self, name: RunName) -> bool:
        """A run that is nowhere is over as well."""
        report = codec.reports_of(self._ours(await self._list(LOGS_TIMEOUT_S), {name}), self._federation).get(name)
        return report is None or report.state.is_over

    async def _past(self, names: Sequence[RunName], deadline: float) -> dict[RunName, Report]:
        """Reports of runs that left Slurm's memory: they were over for longer than `MinJobAge`, or a crash lost them."""
        paths = {batch.end_path(self._storage, name): name for name in names}
        notes = await self._files.small(list(paths), seconds_left(deadline))
        reports = {paths[path]: report for path, note in notes.items() if (report := codec.report_of_note(paths[path], note))}
        rest = [name for name in names if name not in reports]
        if self._settings.history and rest:
            jobs = await self._face.history(rest, seconds_left(deadline))
            reports |= {
                name: report
                for name, report in codec.reports_of_past(jobs, self._federation).items()
                if report.state.is_over or report.state is SiteState.UNKNOWN
            }
        return reports


def storage_of(site: Site, settings: SlurmSettings) -> PurePosixPath:
    """Where tasks see the site's storage. Raises ValueError where neither `mount` nor the URL says."""
    if settings.mount:
        return PurePosixPath(settings.mount)
    scheme, _, path, *_ = urlsplit(site.storage.url)
    if scheme not in ("file", "sftp") or not path.startswith("/"):
        raise ValueError(f"storage.url: {site.storage.url} is no path of a file system: say in `mount` where nodes see it")
    return PurePosixPath(unquote(path))


def open_slurm(site: Site, settings: SlurmSettings, federation: str) -> SlurmAdapter:
    """The adapter of a Slurm site; nothing is called yet. Raises ValueError for settings that cannot work."""
    face: Face
    if settings.rest:
        face = Rest(settings.rest)
    else:
        assert settings.command is not None  # settings name one or both
        face = CommandLine(open_commands(settings.command))
    return SlurmAdapter(face, files_of(site, settings), site, settings, federation)


def files_of(site: Site, settings: SlurmSettings) -> Files:
    """How to read what runs leave, by a connection of its own: storage that hangs keeps no command of Slurm's waiting. Raises
    ValueError where there is no way."""
    if settings.command is not None:
        return CommandFiles(open_commands(settings.command))
    url = urlsplit(site.storage.url)
    if url.scheme != "file" or url.netloc:
        raise ValueError(f"storage.url: {site.storage.url} is not on this machine: give `command` as well, to read logs by")
    return LocalFiles(storage_of(site, settings), Path(unquote(url.path)), SiteThreads(site.name))
