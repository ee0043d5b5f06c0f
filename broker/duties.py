"""What a right obliges to: the leader plans and keeps house, a site's owner works it. Begun with the right, and over with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from broker.context import Context
from broker.members import LEADERSHIP, Right
from broker.sites.calls import Rights
from broker.store.base import Fenced, StoreError

log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0

Loop = Callable[[], Awaitable[object]]


class OwnedSites(Protocol):
    """Works the sites that this process owns."""

    async def gain(self, right: Right) -> None:
        """Begin to work a site."""

    async def lose(self, right: Right) -> None:
        """Stop working it: no call is in flight on return."""


class Duties:
    """Runs the leader's loops, each under a name, and hands sites to `sites`."""

    def __init__(
        self,
        context: Context,
        leader_loops: Mapping[str, Callable[[Right], Awaitable[object]]],
        sites: OwnedSites,
    ) -> None:
        self.rights: Rights | None = None
        """The members' loop: set once it is made, before the first `gain`."""
        self._context = context
        self._leader_loops = leader_loops
        self._sites = sites
        self._running: list[asyncio.Task[None]] = []

    async def gain(self, right: Right) -> None:
        """Begin."""
        if right.site != LEADERSHIP:
            await self._sites.gain(right)
            return
        for name, loop in self._leader_loops.items():
            self._running.append(asyncio.create_task(self._lead(name, loop, right), name=name))

    async def lose(self, right: Right) -> None:
        """End, and wait until it has ended."""
        if right.site != LEADERSHIP:
            await self._sites.lose(right)
            return
        running, self._running = self._running, []
        await ended(running)

    async def _lead(self, name: str, loop: Callable[[Right], Awaitable[object]], right: Right) -> None:
        async def work() -> object:
            return await loop(right)

        try:
            await keep_going(name, work, self._context)
        except Fenced as error:
            log.warning("%s stops: no longer leader: %s", name, error)
            if self.rights:
                self.rights.report_loss(right)


async def keep_going(name: str, loop: Loop, context: Context) -> None:
    """Run a loop for ever: one that dies of a bug is logged, counted and begun again, later and later. Raises Fenced."""
    delay = FIRST_DELAY_S
    while True:
        began = context.clock.boottime()
        try:
            await loop()
            return
        except Fenced:
            raise
        except StoreError as error:
            log.warning("%s waits for the store: %s", name, error)
        except Exception:
            log.exception("%s died by our fault and is begun again", name)
            context.metrics.bugs.labels(name).inc()
        if context.clock.boottime() - began > LONGEST_DELAY_S:
            delay = FIRST_DELAY_S
        await context.clock.sleep(delay)
        delay = min(delay * 2, LONGEST_DELAY_S)


async def ended(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
