"""Probe: a timed question to the site, and the conclusion stored when it is news."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import replace

from adapters.base import AdapterError, Check, Layer, SiteAdapter
from broker.clock import Clock
from broker.records import Health, SiteStatus
from broker.sites import health
from broker.sites.loops import Pause
from broker.sites.owned import OwnedSite
from broker.storage import Storage, StorageError, WrongStorage
from topology.site import Site

log = logging.getLogger(__name__)

SLOW_SHARE = 0.5
"""An answer that takes more than this share of the time allowed is slow."""
JITTER = 0.2
GRACE_S = 0.5
"""An adapter that keeps not to its own deadline is cut off after this much more."""


async def ask(
    adapter: SiteAdapter, storage: Storage, site: Site, clock: Clock, timeout_s: float, is_fresh: bool = False
) -> Sequence[Check]:
    """What each layer of a site answers, and last, where all of them do, its storage as the broker reaches it; one failed check
    where nothing answers in time. `is_fresh`: nothing is taken from an earlier look."""
    async with asyncio.TaskGroup() as tasks:
        engine = tasks.create_task(_ask_engine(adapter, timeout_s))
        ours = tasks.create_task(_ask_storage(storage, site, clock, timeout_s, is_fresh))
    checks = engine.result()
    return [*checks, ours.result()] if all(check.is_ok for check in checks) else checks


async def _ask_engine(adapter: SiteAdapter, timeout_s: float) -> Sequence[Check]:
    try:
        async with asyncio.timeout(timeout_s + GRACE_S):
            return await adapter.probe(timeout_s)
    except (TimeoutError, AdapterError) as error:
        return (Check(Layer.REACH, False, 1000 * timeout_s, str(error) or f"no answer within {timeout_s:g} s"),)


async def _ask_storage(storage: Storage, site: Site, clock: Clock, timeout_s: float, is_fresh: bool) -> Check:
    """The storage as the broker reaches it: what its nodes see of it is the adapter's to ask."""
    began = clock.boottime()
    message, is_misconfigured = "", False
    try:
        await storage.check(site, timeout_s, is_fresh)
    except StorageError as error:
        message, is_misconfigured = f"for the broker: {error}", isinstance(error, WrongStorage)
    words = message or f"for the broker: {site.storage.url}"
    return Check(Layer.STORAGE, not message, 1000 * (clock.boottime() - began), words, is_misconfigured)


class Probe:
    """Asks every `probe_interval_s`, give or take a fifth; sooner while the site fails and is not yet down."""

    def __init__(self, site: OwnedSite, chance: random.Random) -> None:
        self._site = site
        self._chance = chance
        settings = site.context.settings
        self._rules = health.Rules(
            down_after=settings.down_after,
            lost_after_s=settings.site_lost_after_s,
            longest_gap_s=2 * settings.probe_interval_s + settings.probe_timeout_s,
            slow_ms=1000 * settings.probe_timeout_s * SLOW_SHARE,
        )

    async def turn(self) -> Pause:
        """One probe."""
        site, clock = self._site, self._site.context.clock
        checks = await ask(site.adapter, site.storage, site.site, clock, site.context.settings.probe_timeout_s)
        now = clock.now()
        before = site.status.health

        def told(status: SiteStatus) -> SiteStatus:
            new, site.memory.probing = health.conclude(status, site.memory.probing, checks, now, self._rules)
            return replace(new, reason=new.reason or self._quarantine())

        await site.save_status(told)
        self._show(before)
        interval = site.context.settings.probe_interval_s
        if site.status.health is Health.SUSPECT:
            interval /= 2
        pause = interval * self._chance.uniform(1 - JITTER, 1 + JITTER)
        return Pause(pause, pause)

    def _quarantine(self) -> str:
        runs = sorted(self._site.memory.quarantined)
        return f"{len(runs)} runs of which no record speaks are left alone, {runs[0]} first" if runs else ""

    def _show(self, before: Health) -> None:
        site = self._site
        if site.status.health is not before:
            log.info("%s: %s, was %s %s", site.name, site.status.health, before, site.status.reason)
        for each in Health:
            site.context.metrics.site_health.labels(site.name, each).set(each is site.status.health)
