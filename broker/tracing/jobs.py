"""The leader's part in tracing: each job's past is told as soon as it is stored, by whichever broker it was."""

from __future__ import annotations

import asyncio
import logging

from broker.context import Context
from broker.members import Right
from broker.records import Traced
from broker.store import keys as kinds
from broker.store.base import NoSpace, StoreUnavailable
from broker.store.ledger import Save
from broker.tracing.story import story, trace_of
from broker.world import Job

log = logging.getLogger(__name__)

MARK_S = 10.0
"""How often it is stored how far the traces have come. What is younger than that may still be on its way to the collector, so a
mark tells of the turn before."""
LOOK_AT = 5_000
"""Jobs looked at without a pause."""


class JobTraces:
    """Tells at least once, while its process leads: a leader begins at the last mark, and what is told twice is the same."""

    def __init__(self, context: Context) -> None:
        self._context = context
        tracing = context.settings.tracing
        self._sample = tracing.sample if tracing else 0.0
        self._told_at = 0
        """The revision of the job last told."""

    async def run(self, right: Right) -> None:
        """For ever. Raises Fenced when leadership is lost."""
        world = self._context.world
        world.job_watchers.append(self._on_job)
        try:
            marked = told = await self._tell_missed(right)
            while True:
                await self._context.clock.sleep(MARK_S)
                if marked < self._told_at:
                    await self._mark(told, right)
                    marked = told
                told = world.mirror.revision
        finally:
            world.job_watchers.remove(self._on_job)

    async def _tell_missed(self, right: Right) -> int:
        """What was stored since the last mark, which the leader before us may not have told; up to which revision that is."""
        world = self._context.world
        revision = world.mirror.revision
        entry = world.mirror.entries.get(self._key)
        if entry is None or entry.value is None:
            await self._mark(revision, right)
            return revision
        for number, job in enumerate(list(world.jobs.values())):
            if job.state_revision > entry.value.revision:
                self._on_job(None, job)
            if number % LOOK_AT == LOOK_AT - 1:
                await asyncio.sleep(0)
        return revision

    @property
    def _key(self) -> str:
        return self._context.world.mirror.keys.of(kinds.TRACED)

    async def _mark(self, revision: int, right: Right) -> None:
        """Say up to where all is told. One that cannot be stored now, or that lost to another, is made up for by the next."""
        try:
            known = self._context.world.revision(self._key)
            await self._context.ledger.commit([[Save(self._key, Traced(revision), known)]], right.fence)
        except (StoreUnavailable, NoSpace) as error:
            log.warning("how far traces have come cannot be stored now: %s", error)

    def _on_job(self, old: Job | None, new: Job | None) -> None:
        """Tell what is over in `new` and was not in `old`. What goes wrong here must not reach the mirror, which calls it."""
        try:
            if new is None or (old is not None and old.state is new.state):
                return
            trace = trace_of(new.wish, self._sample)
            if not trace.is_sampled:
                return
            known = {chapter.id for chapter in story(old, trace)} if old else set()
            chapters = tuple(chapter for chapter in story(new, trace) if chapter.id not in known)
            if chapters:
                self._context.tracer.publish(trace, chapters)
                self._told_at = max(self._told_at, new.state_revision)
        except Exception:
            log.exception("a job's trace cannot be told, by our fault")
            self._context.metrics.bugs.labels("traces").inc()
