"""The leader's loop that moves jobs away from sites that drain: it wishes their attempts given up, and they go elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from broker.context import Context
from broker.jobs.model import BROKER, Ask, Phase, Stop
from broker.members import Right
from broker.store import keys as kinds
from broker.store.base import Conflict, StoreUnavailable
from broker.store.ledger import Draft, Save
from broker.world import Job
from topology.site import Admission, Site

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
BATCH = 500
NOT_YET_RUNNING = (Phase.STAGING, Phase.PLACED, Phase.QUEUED)


class Drains:
    """Asks again for whatever is still there, so that a new leader goes on where the last one was."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, right: Right) -> None:
        """Take turns for ever. Raises Fenced when leadership is lost."""
        while True:
            try:
                await self.turn(right)
            except StoreUnavailable as error:
                log.warning("drains wait for the store: %s", error)
            await self._context.clock.sleep(INTERVAL_S)

    async def turn(self, right: Right) -> None:
        """Wish the end of every attempt that is to leave its site. Raises Fenced and other StoreErrors."""
        if self._context.world.is_halted:
            return
        drafts = [self._draft(job, site) for site, job in self._due()]
        for start in range(0, len(drafts), BATCH):
            results = await self._context.ledger.commit(drafts[start : start + BATCH], right.fence)
            conflicts = sum(isinstance(result, Conflict) for result in results)
            self._context.metrics.conflicts.labels("drains").inc(conflicts)

    def _due(self) -> Iterator[tuple[Site, Job]]:
        world = self._context.world
        for site in world.sites.values():
            if not site.admission.is_draining:
                continue
            phases = (*NOT_YET_RUNNING, Phase.RUNNING) if site.admission is Admission.DRAINING else NOT_YET_RUNNING
            yield from ((site, job) for job in world.at(site.name, *phases) if not job.is_asked_to_end)

    def _draft(self, job: Job, site: Site) -> Draft:
        key = self._context.world.mirror.keys.of(kinds.WISHES, job.id)
        ask = Ask(BROKER, f"site {site.name} is drained", self._context.clock.now())
        return [Save(key, replace(job.wish, stop=Stop(job.state.number, ask)), job.wish_revision)]
