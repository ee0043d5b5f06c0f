"""What is free on each link: its bandwidth less the shares of transfers under way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from broker.records import Booking
from topology.dataset import DatasetId
from topology.graph import Topology
from topology.link import GIB, bytes_per_second

LEAST_SHARE = 0.1
"""A transfer is booked only if this part of the narrowest link of its route is free."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Free Gbps by link name, until when a full link is taken, and the transfers under way by dataset and target."""

    free_gbps: Mapping[str, float]
    busy_until: Mapping[str, float]
    bookings: Mapping[tuple[DatasetId, str], Booking]

    @staticmethod
    def of(topology: Topology, bookings: Iterable[Booking]) -> Shares:
        """The shares left by `bookings`. A link is taken until the first of its transfers should be over."""
        bookings = tuple(bookings)
        free = {name: link.bandwidth_gbps for name, link in topology.links.items()}
        ends: dict[str, list[float]] = defaultdict(list)
        for booking in bookings:
            for name in booking.links:
                ends[name].append(expected_end(booking))
                if name in free:
                    free[name] = max(free[name] - booking.share_gbps, 0.0)
        return Shares(free, {name: min(times) for name, times in ends.items()}, {(b.dataset, b.target): b for b in bookings})

    def with_bookings(self, new: Iterable[Booking]) -> Shares:
        """These shares less those of new transfers."""
        free, busy, bookings = dict(self.free_gbps), dict(self.busy_until), dict(self.bookings)
        for booking in new:
            bookings[booking.dataset, booking.target] = booking
            for name in booking.links:
                free[name] = max(free[name] - booking.share_gbps, 0.0)
                busy[name] = min(busy.get(name, expected_end(booking)), expected_end(booking))
        return Shares(free, busy, bookings)


def expected_end(booking: Booking) -> float:
    """When a transfer should be over (epoch seconds), at its share from its booking, or its next try, on."""
    began = max(booking.booked_at, booking.not_before or 0.0)
    return began + transfer_hours(booking.gib, booking.share_gbps) * 3600


def transfer_hours(gib: float, gbps: float) -> float:
    """GiB over a rate in Gbps: gib * 2**30 / (gbps * 1e9 / 8) seconds, in hours."""
    return gib * GIB / bytes_per_second(gbps) / 3600
