"""Started runs until their end: found again after a restart, watched, ended when asked or when one task of a gang fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from signal import SIGKILL, SIGTERM

from adapters.base import EndReason, Report, SiteState
from adapters.process import tasks
from adapters.process.book import CANCEL, GANG, WALLTIME, Held, TaskEnd, conclusion, kill_record
from adapters.process.journal import Record
from adapters.process.tasks import Folders, NotStarted, Process

log = logging.getLogger(__name__)

SWEEP_ROUNDS = 50
SWEEP_PAUSE_S = 0.02


@dataclass(slots=True)
class Live:
    """A started run until its end: tasks still to be started, tasks whose shell lives, tasks that have ended."""

    held: Held
    missing: set[int] = field(default_factory=set)
    processes: dict[int, Process] = field(default_factory=dict)
    ends: list[TaskEnd] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    """The walltime's, and then that of the grace."""
    is_asked: bool = False
    """Whether its tasks got SIGTERM."""
    has_strays: bool = False
    """Whether processes may be left that are in none of our process groups."""

    @property
    def has_begun(self) -> bool:
        """Whether at least one task was started."""
        return bool(self.processes or self.ends)


class Running:
    """`record` puts a fact down before it is acted on; `over` is told the end of each run, when nothing of it is left."""

    def __init__(
        self, folders: Folders, grace_s: float, record: Callable[[Record], None], over: Callable[[Held, Report], None]
    ) -> None:
        self.live: dict[str, Live] = {}
        self.grace_s = grace_s
        self._folders = folders
        self._record = record
        self._over = over
        self._to_sweep: dict[str, Live] = {}
        self._has_strays = asyncio.Event()

    def begin(self, held: Held) -> Live:
        """A run whose tasks are all about to be started."""
        live = self.live[held.run.name] = Live(held, set(range(held.run.tasks)))
        return live

    def adopt(self, held: Held, boot: str) -> Live:
        """A run that an earlier daemon started or was about to start. Tasks that no shell has taken may still be started, unless
        the machine was started anew since: then the files that would tell may be lost."""
        name = held.run.name
        live = self.live[name] = Live(held)
        found = {}
        for task in range(held.run.tasks):
            process = tasks.find(self._folders, name, task)
            end = tasks.end_of(self._folders, name, task)
            if process:
                found[task] = process
            elif end:
                live.ends.append((end[0], task, end[1]))
            elif held.boot == boot and not held.kill and not tasks.has_begun(self._folders, name, task):
                live.missing.add(task)
            else:
                live.ends.append((time.time(), task, None))
        live.has_strays = True
        self._watch(live, found)
        self._look_at(live)
        return live

    def launched(self, live: Live, result: Mapping[int, Process] | NotStarted) -> None:
        """What came of starting the missing tasks."""
        missing, live.missing = live.missing, set()
        held = live.held
        if not isinstance(result, NotStarted):
            self._watch(live, result)
            self._look_at(live)
        elif live.has_begun:
            log.error("%s: tasks that were missing cannot be started: %s", held.run.name, result.message)
            live.ends += [(time.time(), task, None) for task in missing]
            self._look_at(live)
        else:
            log.info("%s: not started: %s", held.run.name, result.message)
            state = SiteState.CANCELLED if held.kill == CANCEL else SiteState.FAILED
            self._end(live, never_started(held, state, result.reason, result.message))

    def kill(self, held: Held, why: str) -> None:
        """Put down why a started run is ended, then ask its tasks to. The first reason stands; what has ended by itself, and is
        only not yet looked at, ends as it did."""
        live = self.live.get(held.run.name)
        if live is None or held.kill or all(tasks.end_of(self._folders, held.run.name, task) for task in range(held.run.tasks)):
            return
        self._record(kill_record(held.run.name, why, time.time()))
        self._look_at(live)

    async def sweep(self) -> None:
        """For ever: end what runs that are over left outside of their process groups; only then are they told as over."""
        while True:
            await self._has_strays.wait()
            self._has_strays.clear()
            batch, self._to_sweep = self._to_sweep, {}
            for _ in range(SWEEP_ROUNDS):
                if not await asyncio.to_thread(tasks.sweep, partial(_is_of, batch.keys())):
                    break
                await asyncio.sleep(SWEEP_PAUSE_S)
            else:
                log.error("processes of these runs do not end: %s", ", ".join(live.held.run.name for live in batch.values()))
            for live in batch.values():
                self._end(live, conclusion(live.held, live.ends))

    def _watch(self, live: Live, processes: Mapping[int, Process]) -> None:
        """Hear of the end of these shells, and of the walltime's."""
        loop = asyncio.get_running_loop()
        held = live.held
        live.processes.update(processes)
        for task, process in processes.items():
            loop.add_reader(process.handle, self._task_ended, live, task)
        if live.timer is None and held.run.walltime_s is not None and held.started_at is not None:
            left_s = held.started_at + held.run.walltime_s - time.time()
            live.timer = loop.call_later(max(left_s, 0.0), self.kill, held, WALLTIME)

    def _task_ended(self, live: Live, task: int) -> None:
        """A shell has ended, and so has its task: or the shell was killed, and what it ran may live on."""
        process = live.processes.pop(task)
        asyncio.get_running_loop().remove_reader(process.handle)
        tasks.let_go(process)
        end = tasks.end_of(self._folders, live.held.run.name, task)
        if end is None and (other := tasks.find(self._folders, live.held.run.name, task)):
            self._watch(live, {task: other})  # the last daemon had started one as well, and ours left
            return
        live.has_strays |= end is None
        live.ends.append((end[0], task, end[1]) if end else (time.time(), task, None))
        self._look_at(live)

    def _look_at(self, live: Live) -> None:
        """What follows from how a started run stands now."""
        held = live.held
        if not live.processes and not live.missing:
            if live.has_strays or held.kill:
                self._to_sweep[held.id] = live
                self._has_strays.set()
            else:
                self._end(live, conclusion(held, live.ends))
        elif held.kill:
            self._terminate(live)
        elif any(code != 0 for _, _, code in live.ends):
            self.kill(held, GANG)

    def _terminate(self, live: Live) -> None:
        """SIGTERM now, SIGKILL after the grace, both to whole process groups. Once, when all its tasks were started."""
        if live.is_asked or live.missing:
            return
        live.is_asked = True
        if live.timer:
            live.timer.cancel()
        for process in live.processes.values():
            tasks.signal_group(process, SIGTERM)
        live.timer = asyncio.get_running_loop().call_later(self.grace_s, self._kill_hard, live)

    def _kill_hard(self, live: Live) -> None:
        for process in live.processes.values():
            tasks.signal_group(process, SIGKILL)

    def _end(self, live: Live, report: Report) -> None:
        if live.timer:
            live.timer.cancel()
        if self.live.pop(live.held.run.name, None):
            self._over(live.held, report)


def _is_of(ids: Collection[str], engine: str, native_id: str) -> bool:
    return native_id in ids


def never_started(held: Held, state: SiteState, reason: EndReason | None = None, message: str = "") -> Report:
    """The end of a run of which no program was started."""
    return Report(held.run.name, held.id, state, None, time.time(), None, None, reason, message, held.run.pool)
