"""Sizes and checksums of registered datasets that came without: measured once, by an owner of a site that has a replica."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from broker.context import Context
from broker.members import Right
from broker.records import Health
from broker.storage import Storage, StorageError
from broker.store import keys as kinds
from broker.store.base import Conflict, StoreError
from broker.store.ledger import Save
from topology.dataset import Dataset, DatasetId, Replica

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
"""All datasets are looked through at most this often, and only after news."""
RETRY_S = 30.0


class Measure:
    """One per process, for all sites it owns: `run` for ever."""

    def __init__(self, context: Context, storage: Storage, rights: Callable[[], Mapping[str, Right]]) -> None:
        self._context = context
        self._storage = storage
        self._rights = rights
        self._put_off: dict[DatasetId, float] = {}

    async def run(self) -> None:
        """Measure what is owed, one dataset after the other."""
        signals = self._context.world.signals
        news = signals.subscribe(kinds.DATASETS, kinds.REPLICAS, kinds.OWNERS, kinds.SITE_STATUS)
        try:
            while True:
                await self._context.clock.sleep(LOOK_EVERY_S)
                if news.is_set() or self._put_off:
                    news.clear()
                    await self._turn()
        finally:
            signals.unsubscribe(news)

    async def _turn(self) -> None:
        now = self._context.clock.now()
        self._put_off = {dataset: until for dataset, until in self._put_off.items() if until > now}
        owed = [each for each in self._context.world.datasets.values() if each.checksum is None or each.size_bytes is None]
        for dataset in owed:
            replica = self._ours(dataset.id)
            if replica is None or dataset.id in self._put_off:
                continue
            try:
                await self._measure(dataset, replica)
            except (StorageError, StoreError) as error:
                log.warning("%s at %s cannot be measured now: %s", dataset.id, replica.site, error)
                self._put_off[dataset.id] = self._context.clock.now() + RETRY_S
            except Exception:
                log.exception("measuring %s", dataset.id)
                self._context.metrics.bugs.labels("measure").inc()
                self._put_off[dataset.id] = self._context.clock.now() + RETRY_S

    def _ours(self, dataset: DatasetId) -> Replica | None:
        """The replica to measure, if it falls to us: the first by site's name among sites that work."""
        statuses = self._context.world.statuses
        works = {name for name, status in statuses.items() if status.health in (Health.UP, Health.DEGRADED)}
        replicas = self._context.world.replicas.get(dataset, {})
        first = min((site for site in replicas if site in works), default=None)
        return replicas[first] if first is not None and first in self._rights() else None

    async def _measure(self, dataset: Dataset, replica: Replica) -> None:
        context = self._context
        site, right = context.world.sites.get(replica.site), self._rights().get(replica.site)
        if site is None or right is None:
            return
        tree = await self._storage.measure(site, replica.path)
        if tree is None:
            raise StorageError(f"nothing is at {replica.path}")
        now = context.world.datasets.get(dataset.id)
        if now != dataset:
            return
        if dataset.checksum not in (None, tree.checksum):
            raise StorageError(f"its checksum is {tree.checksum}, not the declared {dataset.checksum}")
        key = context.world.mirror.keys.dataset(dataset.id)
        measured = replace(dataset, size_bytes=tree.size_bytes, checksum=tree.checksum)
        result = (await context.ledger.commit([[Save(key, measured, context.world.revision(key))]], right.fence))[0]
        if isinstance(result, Conflict):
            context.metrics.conflicts.labels("measure").inc()
