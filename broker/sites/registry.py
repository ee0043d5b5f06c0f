"""Which sites this process works now: one SiteWork with its adapter for each ownership."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.base import Check, Layer, SiteAdapter
from broker.context import Context
from broker.members import Right
from broker.records import Health, SiteStatus
from broker.sites.calls import Rights
from broker.sites.measure import Measure
from broker.sites.mover import Mover
from broker.sites.probe import ask
from broker.sites.work import SiteWork
from broker.storage import Claims, Storage
from broker.store import keys as kinds
from broker.store.base import Store, StoreError
from broker.store.ledger import Save
from topology.site import Site

log = logging.getLogger(__name__)

OpenAdapter = Callable[[Site], SiteAdapter]
"""Makes a site's adapter; raises ValueError or KeyError for settings that make no sense."""


@dataclass(slots=True)
class Held:
    """A site in our hands. `site` is the record that the adapter was made from; `work` is None while its settings are wrong."""

    right: Right
    site: Site
    work: SiteWork | None = None
    adapter: SiteAdapter | None = None
    objection: str = ""
    """What is wrong with its settings."""
    task: asyncio.Task[None] | None = None


class Registry:
    """`gain` and `lose` are what `Members` calls for the ownership of a site; `run` follows changes of the sites' records."""

    def __init__(
        self,
        context: Context,
        store: Store,
        open_adapter: OpenAdapter,
        claims: Claims,
        storage: Storage,
        mover: Mover,
        chance: random.Random,
    ) -> None:
        self._context = context
        self._store = store
        self._open_adapter = open_adapter
        self._claims = claims
        self._storage = storage
        self._mover = mover
        self._chance = chance
        self._held: dict[str, Held] = {}
        self._idle: dict[str, Right] = {}
        """Rights to sites whose record was gone when they were gained: it may come back before they are let go."""
        self._changing = asyncio.Lock()
        self.rights: Rights | None = None
        """The members' loop: set once it is made, before the first `gain`."""

    @property
    def owned(self) -> Mapping[str, Right]:
        """The sites we work, by name, with the right to each."""
        return {name: held.right for name, held in self._held.items()}

    def adapter(self, site: str) -> SiteAdapter | None:
        """The live adapter of a site we own: for logs. None when it is not ours, or its settings are wrong."""
        held = self._held.get(site)
        return held.adapter if held else None

    async def ask(self, site: str) -> Sequence[Check] | None:
        """What each layer of a site that we own answers now; None for another's. Settings that make no sense are told."""
        held = self._held.get(site)
        if held is None:
            return None
        if held.adapter is None:
            return [Check(Layer.REACH, False, 0.0, held.objection, is_misconfigured=True)]
        context = self._context
        return await ask(held.adapter, self._storage, held.site, context.clock, context.settings.probe_timeout_s, is_fresh=True)

    async def run(self) -> None:
        """Work sites anew whose record changed in what the adapter is made from; measure datasets. For ever."""
        signals = self._context.world.signals
        news = signals.subscribe(kinds.SITES)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(Measure(self._context, self._storage, lambda: self.owned).run())
                while True:
                    await news.wait()
                    news.clear()
                    await self._renew()
        finally:
            signals.unsubscribe(news)

    async def gain(self, right: Right) -> None:
        """Begin to work a site."""
        async with self._changing:
            site = self._context.world.sites.get(right.site)
            if site is None:
                self._idle[right.site] = right
            else:
                await self._begin(right, site)

    async def lose(self, right: Right) -> None:
        """Begin nothing new there, and wait for what is under way. A site that we do not work is not an error."""
        async with self._changing:
            if self._idle.get(right.site) == right:
                del self._idle[right.site]
            held = self._held.get(right.site)
            if held is not None and held.right == right:
                await self._finish(held)

    async def close(self) -> None:
        """Stop working all sites."""
        async with self._changing:
            await asyncio.gather(*(self._finish(held) for held in list(self._held.values())))

    async def _renew(self) -> None:
        async with self._changing:
            for name, right in list(self._idle.items()):
                site = self._context.world.sites.get(name)
                if site is not None:
                    del self._idle[name]
                    await self._begin(right, site)
            for name, held in list(self._held.items()):
                site = self._context.world.sites.get(name)
                if site is not None and _made_from(site) != _made_from(held.site):
                    log.info("%s: its record changed, the adapter is made anew", name)
                    await self._finish(held)
                    await self._begin(held.right, site)

    async def _begin(self, right: Right, site: Site) -> None:
        if self.rights is None:
            raise RuntimeError("the registry was given no rights")
        held = self._held[right.site] = Held(right, site)
        try:
            held.adapter = self._open_adapter(site)
        except (ValueError, KeyError) as error:
            log.error("%s: its settings make no sense: %s", site.name, error)
            held.objection = str(error)
            await self._tell_misconfigured(right, held.objection)
            return
        held.work = SiteWork(
            self._context,
            self.rights,
            self._store,
            right,
            site,
            held.adapter,
            self._claims,
            self._storage,
            self._mover,
            self._chance,
        )
        held.task = asyncio.create_task(held.work.run(), name=f"site {site.name}")

    async def _finish(self, held: Held) -> None:
        self._held.pop(held.right.site, None)
        if held.work and held.task:
            held.work.end()
            try:
                await held.task
            except asyncio.CancelledError:
                held.task.cancel()
                raise
            except Exception:
                log.exception("%s: its loops ended", held.right.site)
                self._context.metrics.bugs.labels("sites: work").inc()
        if held.adapter:
            await held.adapter.close()

    async def _tell_misconfigured(self, right: Right, reason: str) -> None:
        world = self._context.world
        key = world.mirror.keys.of(kinds.SITE_STATUS, right.site)
        status = world.statuses.get(right.site, SiteStatus(right.site))
        now = self._context.clock.now()
        told = replace(status, health=Health.MISCONFIGURED, reason=reason, since=now, failing_s=0.0, is_lost=False)
        try:
            await self._context.ledger.commit([[Save(key, told, world.revision(key))]], right.fence)
        except StoreError as error:
            log.warning("%s: its status cannot be stored: %s", right.site, error)


def _made_from(site: Site) -> object:
    """What of a site's record its work is made from: other changes need no new adapter."""
    return site.engine, site.storage, site.pools
