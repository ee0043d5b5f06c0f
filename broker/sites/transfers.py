"""Transfers: the target's owner works its bookings. One copy serves all jobs that wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from broker.jobs.model import End, Ending, Phase
from broker.records import Booking, LinkStatus
from broker.sites import owed
from broker.sites.layout import replica_path
from broker.sites.loops import Pause
from broker.sites.mover import Brought, Mover, Order
from broker.sites.owed import Step
from broker.sites.owned import OwnedSite
from broker.storage import StorageError
from broker.store import keys as kinds
from broker.store.ledger import Erase, Save
from topology.dataset import DatasetId, Replica
from topology.link import bytes_per_second
from topology.site import Site

log = logging.getLogger(__name__)

AT_ONCE = 8
FAILURES = 3
"""After so many the jobs that wait for the dataset are told, and the booking goes."""
FIRST_DELAY_S = 2.0
WAIT_S = 0.5
IDLE_S = 5.0
MEASURABLE_S = 1.0
"""A shorter transfer says nothing of its link."""
MOVED_SHARE = 0.2
WRITE_EVERY_S = 60.0
LEFT_BEHIND = 500
"""Jobs told in one write that their transfer failed."""


class Transfers:
    """One turn may be repeated, and may be cut off anywhere."""

    def __init__(self, site: OwnedSite, mover: Mover) -> None:
        self._site = site
        self._mover = mover
        self._moving: dict[DatasetId, asyncio.Task[Brought]] = {}

    async def turn(self) -> Pause:
        """Store what arrived or failed, drop what nobody needs, begin what is due."""
        site = self._site
        bookings = dict(site.world.bookings.get(site.name, {}))
        for dataset in [dataset for dataset, task in self._moving.items() if task.done()]:
            await self._finish(dataset, bookings.get(dataset))
        await self._drop(bookings)
        now = site.context.clock.now()
        for dataset, booking in site.world.bookings.get(site.name, {}).items():
            is_due = booking.failures < FAILURES and (booking.not_before or 0.0) <= now
            if is_due and dataset not in self._moving and len(self._moving) < AT_ONCE:
                self._moving[dataset] = asyncio.create_task(self._bring(booking))
        if not self._moving:
            return Pause(0.01, WAIT_S if bookings else IDLE_S)
        await asyncio.wait(self._moving.values(), timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        return Pause(0.0, 0.0)

    async def close(self) -> None:
        """Leave what is under way: the next owner keeps the files that are whole."""
        tasks = list(self._moving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _bring(self, booking: Booking) -> Brought:
        site, world = self._site, self._site.world
        found = self._source(booking)
        if found is None:
            raise StorageError(f"{booking.dataset} is no longer at {booking.source}")
        source, replica = found
        record = world.datasets.get(booking.dataset)
        rate = bytes_per_second(booking.share_gbps)
        checksum = record.checksum if record else None
        return await self._mover.bring(Order(booking.dataset, source, replica.path, site.site, site.right.epoch, rate, checksum))

    def _source(self, booking: Booking) -> tuple[Site, Replica] | None:
        """Where it is brought from; None when the site is gone, or has the dataset no longer."""
        source, replica = self._site.world.sites.get(booking.source), self._replicas(booking.dataset).get(booking.source)
        return (source, replica) if source and replica else None

    def _replicas(self, dataset: DatasetId) -> Mapping[str, Replica]:
        return self._site.world.replicas.get(dataset, {})

    async def _finish(self, dataset: DatasetId, booking: Booking | None) -> None:
        """One transfer is over. Its task is forgotten only once that is stored, so that a store that is away costs no copying."""
        task = self._moving[dataset]
        if booking is not None:
            try:
                await self._arrived(booking, task.result())
            except StorageError as error:
                await self._failed(booking, str(error))
        del self._moving[dataset]

    async def _arrived(self, booking: Booking, brought: Brought) -> None:
        """One change: the replica is there and the booking is gone; and the dataset's sums, if nobody knew them."""
        site, world, keys = self._site, self._site.world, self._site.world.mirror.keys
        key, path = keys.replica(booking.dataset, site.name), replica_path(booking.dataset)
        booking_key, dataset_key = keys.booking(booking.dataset, site.name), keys.dataset(booking.dataset)
        draft: list[Save | Erase] = [
            Save(key, Replica(booking.dataset, site.name, path), world.revision(key)),
            Erase(booking_key, world.revision(booking_key)),
        ]
        record = world.datasets.get(booking.dataset)
        if record is not None and record.checksum is None:
            measured = replace(record, size_bytes=brought.tree.size_bytes, checksum=brought.tree.checksum)
            draft.append(Save(dataset_key, measured, world.revision(dataset_key)))
        if (await site.commit([draft]))[0]:
            log.info("%s: %s is here from %s, in %.1f s", site.name, booking.dataset, booking.source, brought.seconds)
            await self._tell_of_link(booking, brought)

    async def _failed(self, booking: Booking, message: str) -> None:
        """Once more, later."""
        site, keys = self._site, self._site.world.mirror.keys
        log.warning("%s: %s cannot be brought from %s: %s", site.name, booking.dataset, booking.source, message)
        key = keys.booking(booking.dataset, site.name)
        later = site.context.clock.now() + FIRST_DELAY_S * 2**booking.failures
        failed = replace(booking, failures=booking.failures + 1, message=message, not_before=later)
        await site.commit([[Save(key, failed, site.world.revision(key))]])

    async def _drop(self, bookings: dict[DatasetId, Booking]) -> None:
        """Bookings that failed too often, or whose source is gone, with the jobs that wait for them; and those that no job waits
        for any more."""
        if not bookings:
            return
        site, keys = self._site, self._site.world.mirror.keys
        revisions = {dataset: site.world.revision(keys.booking(dataset, site.name)) for dataset in bookings}
        wanted = {dataset for job in site.world.at(site.name, Phase.STAGING) for dataset in job.spec.inputs}
        cut_off = {dataset for dataset, booking in bookings.items() if self._source(booking) is None}
        hopeless = {name: each for name, each in bookings.items() if each.failures >= FAILURES or name in cut_off}
        steps = self._left_behind(hopeless, cut_off)
        for first in range(0, len(steps), LEFT_BEHIND):
            await site.write(steps[first : first + LEFT_BEHIND])
        gone = [dataset for dataset in bookings if dataset in hopeless or dataset not in wanted]
        if gone:
            await site.commit([[Erase(keys.booking(dataset, site.name), revisions[dataset])] for dataset in gone])
        leaving = [self._moving.pop(dataset) for dataset in gone if dataset in self._moving]
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)

    def _left_behind(self, hopeless: dict[DatasetId, Booking], cut_off: Collection[DatasetId]) -> Sequence[Step]:
        """The jobs that wait for a dataset that cannot be brought. Where somebody took the source away, that is not counted."""
        site = self._site
        hopeless = {dataset: booking for dataset, booking in hopeless.items() if site.name not in self._replicas(dataset)}
        now = site.context.clock.now()
        steps = []
        for job in site.world.at(site.name, Phase.STAGING) if hopeless else ():
            booking = next((hopeless[dataset] for dataset in job.spec.inputs if dataset in hopeless), None)
            if booking and booking.dataset in cut_off:
                steps.append(owed.taken_back(job, f"{booking.dataset} is no longer at {booking.source}", now))
            elif booking:
                why = f"{booking.dataset} cannot be brought from {booking.source} to {site.name}: {booking.message}"
                steps.append(Step(job, (owed.end_with(job, End(now, Ending.STAGING_FAILED, message=why)),)))
        return steps

    async def _tell_of_link(self, booking: Booking, brought: Brought) -> None:
        """What a transfer over a single link says of it: it gave that part of the booked share, and as much less of the whole."""
        site, world = self._site, self._site.world
        if len(booking.links) != 1 or brought.seconds < MEASURABLE_S or not brought.moved_bytes:
            return
        link = world.links.get(booking.links[0])
        if link is None:
            return
        now = site.context.clock.now()
        given = brought.moved_bytes / brought.seconds / bytes_per_second(booking.share_gbps)
        gbps = link.bandwidth_gbps * min(given, 1.0)
        before = world.link_statuses.get(link.name)
        known = before.gbps if before else link.bandwidth_gbps
        is_early = before is not None and now < before.measured_at + WRITE_EVERY_S
        if not is_early and abs(gbps - known) >= MOVED_SHARE * known:
            key = world.mirror.keys.of(kinds.LINK_STATUS, link.name)
            await site.commit([[Save(key, LinkStatus(link.name, gbps, now), world.revision(key))]])
