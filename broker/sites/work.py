"""The work at one site while we own it: its loops, started and ended together."""

from __future__ import annotations

import asyncio
import random

from adapters.base import SiteAdapter
from broker.context import Context
from broker.members import Right
from broker.sites.calls import Calls, Rights
from broker.sites.collect import Collect
from broker.sites.dispatch import Dispatch
from broker.sites.loops import Loops
from broker.sites.mover import Mover
from broker.sites.observe import Observe
from broker.sites.owned import OwnedSite
from broker.sites.probe import Probe
from broker.sites.stop import Stop
from broker.sites.transfers import Transfers
from broker.storage import Claims, Storage
from broker.store import keys as kinds
from broker.store.base import Store
from topology.site import Site


class SiteWork:
    """Six loops over one site. The mirror must have reached the right's epoch before this is made: see `Members`."""

    def __init__(
        self,
        context: Context,
        rights: Rights,
        store: Store,
        right: Right,
        site: Site,
        adapter: SiteAdapter,
        claims: Claims,
        storage: Storage,
        mover: Mover,
        chance: random.Random,
    ) -> None:
        calls = Calls(context, rights, right, site.engine.kind)
        self.right = right
        self.site = OwnedSite(context, store, right, site, adapter, calls, claims, storage)
        self._loops = Loops(self.site, rights, chance)
        self._dispatch = Dispatch(self.site)
        self._observe = Observe(self.site)
        self._stop = Stop(self.site)
        self._collect = Collect(self.site)
        self._transfers = Transfers(self.site, mover)
        self._probe = Probe(self.site, chance)

    async def run(self) -> None:
        """Work until `end`, or until the site is another's. Cancelling is as a crash: nothing is brought to its end."""
        signals = self.site.world.signals
        states = signals.subscribe(kinds.STATES, kinds.REPLICAS, kinds.BOOKINGS)
        wishes, bookings = signals.subscribe(kinds.WISHES), signals.subscribe(kinds.BOOKINGS)
        try:
            async with asyncio.TaskGroup() as tasks:
                repeat = self._loops.repeat
                tasks.create_task(repeat("dispatch", self._dispatch.turn, states))
                tasks.create_task(repeat("observe", self._observe.turn, self.site.has_submitted))
                tasks.create_task(repeat("stop", self._stop.turn, wishes))
                tasks.create_task(repeat("collect", self._collect.turn, self.site.has_exits))
                tasks.create_task(repeat("transfers", self._transfers.turn, bookings))
                tasks.create_task(repeat("probe", self._probe.turn, asyncio.Event()))
        finally:
            for news in (states, wishes, bookings):
                signals.unsubscribe(news)
            await self._collect.close()
            await self._transfers.close()

    def end(self) -> None:
        """Begin nothing new; `run` returns when the calls in flight are through, each within its deadline."""
        self._loops.end()
