"""The engine: takes runs, starts them in turn, tells of them, forgets them. One asyncio loop; what may block is in threads."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from adapters.base import Accepted, EndReason, Refused, Report, Run, SiteState
from adapters.process import book as records
from adapters.process import tasks
from adapters.process.book import CANCEL, KEEP_NAMES_S, Book, Held
from adapters.process.codec import EngineConfig, objection, report_to_json, rooms_to_json
from adapters.process.journal import Journal, Record
from adapters.process.running import SWEEP_PAUSE_S, SWEEP_ROUNDS, Live, Running, never_started
from adapters.process.schedule import Need, Nodes, Place, Queue
from adapters.process.tasks import Folders, Launch, NotStarted, Process

log = logging.getLogger(__name__)

LAUNCH_AT_ONCE = 16
TIDY_EVERY_S = 60.0
LEAST_COMPACTED_BYTES = 8 * 2**20
SHUTDOWN_GRACE_S = 1.0


class Stale(Exception):
    """The federation's site has a newer owner than this caller."""


class Engine:
    """`adopt` first, then `run` for ever beside the requests."""

    def __init__(self, config: EngineConfig, journal: Journal) -> None:
        self.config = config
        self.folders = Folders(Path(config.storage), Path(config.state_dir))
        self.book = Book(secrets.token_hex(8))
        self.has_ended = asyncio.Event()
        """Set whenever a run has ended."""
        self._journal = journal
        self._nodes = Nodes(config.pools)
        self._queue = Queue()
        self._running = Running(self.folders, config.cancel_grace_s, self._record, self._end)
        self._relaunches: list[Live] = []
        self._is_closing = False
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._news = asyncio.Event()
        self._gone: list[str] = []
        self._has_gone = asyncio.Event()
        self._launcher = ThreadPoolExecutor(1, thread_name_prefix="launch")
        self._compacted_bytes = 0

    def adopt(self) -> None:
        """Read what the last daemon knew, and find what became of its runs. Raises KeyError, TypeError and ValueError for a
        journal that is not ours."""
        for record in self._journal.read():
            self.book.apply(record)
        self._journal.begin(self.book.records(time.time()))
        self._compacted_bytes = self._journal.size_bytes
        open_runs = [held for held in self.book.runs.values() if not held.end]
        for held in open_runs:
            if held.started_at is not None:
                self._nodes.take(held.need, held.places)
                live = self._running.adopt(held, self._boot)
                if live.missing:
                    self._relaunches.append(live)
        for held in open_runs:
            if held.started_at is None:
                self._enqueue(held)
        known = self.book.runs
        self._gone = [path.name for path in (self.folders.state / "runs").iterdir() if path.name not in known]
        self._has_gone.set()
        self._news.set()
        log.info("%d runs, %d of them started, %d waiting", len(known), len(self._running.live), len(self._queue))

    async def run(self) -> None:
        """Start, sweep and tidy, for ever. An error of the journal ends it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._start_runs())
            group.create_task(self._running.sweep())
            group.create_task(self._tidy())

    async def guard(self, federation: str, epoch: int) -> None:
        """Raise Stale for an owner that is not the newest; remember a newer one before anything is done for it."""
        if epoch > self.book.epochs.get(federation, 0):
            self._record(records.epoch_record(federation, epoch))
            await self._journal.commit()
        newest = self.book.epochs.get(federation, 0)
        if epoch < newest:
            raise Stale(f"epoch {epoch} is over: the site has served {newest}")

    async def submit(self, federation: str, runs: Sequence[Run]) -> Mapping[str, Accepted | Refused]:
        """Take what can be taken; all that is accepted is on disk when this returns."""
        now = time.time()
        refusals = {run.name: reason for run in runs if (reason := self._refusal(federation, run, now))}
        new = {run.name: run for run in runs if run.name not in refusals and run.name not in self.book.runs}
        self._record(*(records.run_record(run, secrets.token_hex(8), now) for run in new.values()))
        await self._journal.commit()
        for name in new:
            held = self.book.runs.get(name)
            if held and not held.end:
                self._enqueue(held)
        self._news.set()
        taken = {run.name: self.book.runs.get(run.name) for run in runs if run.name not in refusals}
        accepted = {name: Accepted(held.id) if held else Refused("it was forgotten meanwhile") for name, held in taken.items()}
        return {**{name: Refused(reason) for name, reason in refusals.items()}, **accepted}

    def listing(self, federation: str) -> Mapping[str, Any]:
        """All runs of a federation and the room of each pool, as JSON values."""
        own = [held for held in self.book.runs.values() if held.run.federation == federation]
        holding = ((held.need, held.places) for held in own if held.places and not held.end)
        prefix = f"{federation}-"
        return {
            "life": self.book.life,
            "runs": [report_to_json(self._report(held)) for held in own],
            "rooms": rooms_to_json(self._nodes.rooms(holding)),
            "foreign": [
                name for name, held in self.book.runs.items() if held.run.federation != federation and name.startswith(prefix)
            ],
        }

    async def cancel(self, federation: str, names: Collection[str]) -> None:
        """Begin to end these runs; what is over or unknown is left."""
        for held in self._of(federation, names):
            self._cancel(held)
        await self._journal.commit()

    async def forget(self, federation: str, names: Collection[str]) -> None:
        """Clean up those that are over; their names stay used."""
        over = [held.run.name for held in self._of(federation, names) if held.end]
        now = time.time()
        self._record(*(records.gone_record(name, now) for name in over))
        self._gone += over
        self._has_gone.set()
        await self._journal.commit()

    async def end_all(self) -> None:
        """End every run of every federation, and what ended ones left behind; return when nothing runs."""
        self._is_closing = True
        self._running.grace_s = min(self._running.grace_s, SHUTDOWN_GRACE_S)
        for held in list(self.book.runs.values()):
            if not held.end:
                self._cancel(held)
        while self._running.live:
            self.has_ended.clear()
            await self.has_ended.wait()
        for _ in range(SWEEP_ROUNDS):
            if not await asyncio.to_thread(tasks.sweep, lambda engine, _: engine == self.book.life):
                break
            await asyncio.sleep(SWEEP_PAUSE_S)
        await self._journal.commit()

    def is_over(self, name: str) -> bool:
        """Whether nothing more will come from a run."""
        held = self.book.runs.get(name)
        return held is None or held.end is not None

    def _refusal(self, federation: str, run: Run, now: float) -> str:
        """Why a run is not taken; empty when it is, or when we have it already."""
        held = self.book.runs.get(run.name)
        if held:
            return "" if held.run == run else "another run has this name"
        if self.book.gone.get(run.name, -KEEP_NAMES_S) + KEEP_NAMES_S > now:
            return "a run of this name is over and forgotten"
        if run.federation != federation:
            return f"the run is of federation {run.federation}, the caller of {federation}"
        return objection(run) or self._nodes.objection(Need(run.pool, run.per_task, run.tasks))

    def _of(self, federation: str, names: Iterable[str]) -> list[Held]:
        found = (self.book.runs.get(name) for name in names)
        return [held for held in found if held and held.run.federation == federation]

    def _record(self, *made: Record) -> None:
        if made:
            self._journal.add(*made)
        for record in made:
            self.book.apply(record)

    def _report(self, held: Held) -> Report:
        if held.end:
            return held.end
        live = self._running.live.get(held.run.name)
        if live and live.has_begun:
            return Report(held.run.name, held.id, SiteState.RUNNING, held.started_at, pool=held.run.pool)
        return Report(held.run.name, held.id, SiteState.QUEUED, pool=held.run.pool)

    def _enqueue(self, held: Held) -> None:
        """To the queue; what the pools of a changed site can never hold ends."""
        problem = self._nodes.objection(held.need)
        if problem:
            self._end(held, never_started(held, SiteState.FAILED, EndReason.START_FAILED, problem))
        else:
            self._queue.add(held.run.name, held.need, held.accepted_at)

    async def _start_runs(self) -> None:
        """Start what was being started when the last daemon ended, then whatever fits, whenever something changed."""
        await self._launch(self._relaunches)
        while True:
            await self._news.wait()
            self._news.clear()
            while taken := self._startable():
                await self._launch(self._begin(taken))
            await self._journal.commit()
            if self._journal.size_bytes > max(2 * self._compacted_bytes, LEAST_COMPACTED_BYTES):
                await self._journal.renew(lambda: self.book.records(time.time()))
                self._compacted_bytes = self._journal.size_bytes

    def _startable(self) -> list[tuple[str, tuple[Place, ...]]]:
        return [] if self._is_closing else self._queue.take(self._nodes, time.time(), LAUNCH_AT_ONCE)

    def _begin(self, taken: Sequence[tuple[str, tuple[Place, ...]]]) -> list[Live]:
        """Put down that these are about to be started, there."""
        now = time.time()
        self._record(*(records.start_record(name, places, now, self._boot) for name, places in taken))
        return [self._running.begin(self.book.runs[name]) for name, _ in taken]

    async def _launch(self, starting: Sequence[Live]) -> None:
        """Start the missing tasks of these runs, once it is on disk that we do."""
        await self._journal.commit()
        orders = [self._order(live) for live in starting]
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(self._launcher, _launched, self.folders, orders)
        for live, result in zip(starting, results, strict=True):
            self._running.launched(live, result)

    def _order(self, live: Live) -> Launch:
        run = live.held.run
        pool = self._nodes.pools.get(run.pool)
        has_gpus = bool(pool and pool.per_node.gpus)
        return Launch(run, live.held.id, live.held.places, tuple(sorted(live.missing)), has_gpus, self.book.life)

    def _cancel(self, held: Held) -> None:
        if held.end:
            return
        if held.started_at is None:
            self._queue.remove(held.run.name)
            self._end(held, never_started(held, SiteState.CANCELLED))
        else:
            self._running.kill(held, CANCEL)

    def _end(self, held: Held, report: Report) -> None:
        """It is over. A crash of the machine may lose this line, and then the run ended with its node."""
        self._record(records.end_record(report))
        if held.places:
            self._nodes.give(held.need, held.places)
        self._news.set()
        self.has_ended.set()

    def _is_stray(self, engine: str, native_id: str) -> bool:
        """Whether a process is of a run of ours that is over. Asked from a thread of a process that was seen before: a run is one
        of the running before its first process is there."""
        return engine == self.book.life and native_id not in {live.held.id for live in tuple(self._running.live.values())}

    async def _tidy(self) -> None:
        """Remove the files of forgotten runs; now and then their output, and processes that ended runs left behind."""
        tidied_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TIDY_EVERY_S):
                    await self._has_gone.wait()
            self._has_gone.clear()
            gone, self._gone = self._gone, []
            await asyncio.to_thread(_remove, self.folders, gone)
            if time.monotonic() >= tidied_at + TIDY_EVERY_S:
                tidied_at = time.monotonic()
                most, hours = self.config.keep_logs_mib * 2**20, self.config.keep_logs_hours
                await asyncio.to_thread(tasks.drop_logs, self.folders, set(self.book.runs), most, hours * 3600, time.time())
                await asyncio.to_thread(tasks.sweep, self._is_stray)


def _launched(folders: Folders, orders: Iterable[Launch]) -> list[dict[int, Process] | NotStarted]:
    results: list[dict[int, Process] | NotStarted] = []
    for order in orders:
        try:
            results.append(tasks.launch(folders, order))
        except NotStarted as problem:
            results.append(problem)
    return results


def _remove(folders: Folders, runs: Iterable[str]) -> None:
    for run in runs:
        tasks.remove(folders, run)
