"""What is free on each link: its bandwidth less the shares of transfers under way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from broker.records import Booking
from topology.dataset import DatasetId
from topology.graph import Topology
from topology.link import GIB, bytes_per_second

LEAST_SHARE = 0.1
"""A transfer is booked only if this part of the narrowest link of its route is free."""


class Links:
    """The links of a topology by number. One more at the end, infinitely wide, stands where a route has no further link."""

    def __init__(self, topology: Topology) -> None:
        self.names = tuple(topology.links)
        self.index = {name: number for number, name in enumerate(self.names)}
        self.gbps = np.array([*(link.bandwidth_gbps for link in topology.links.values()), np.inf])


class Shares:
    """What is free, and the transfers under way, while a plan is made. Changed only by that plan."""

    def __init__(self, links: Links, bookings: Iterable[Booking]) -> None:
        self.links = links
        self.free = links.gbps.copy()
        """Gbps by the link's number."""
        self.busy_until: dict[str, float] = {}
        """When the first of a link's transfers should be over."""
        self.version = 0
        """Grows with every transfer that is booked."""
        self._bookings: dict[DatasetId, dict[str, Booking]] = {}
        self.book(bookings)

    def book(self, new: Iterable[Booking]) -> None:
        """Their shares are taken."""
        for booking in new:
            self._bookings.setdefault(booking.dataset, {})[booking.target] = booking
            self.version += 1
            for name in booking.links:
                end = expected_end(booking)
                self.busy_until[name] = min(self.busy_until.get(name, end), end)
                place = self.links.index.get(name)
                if place is not None:
                    self.free[place] = max(self.free[place] - booking.share_gbps, 0.0)

    def coming(self, dataset: DatasetId) -> Mapping[str, Booking]:
        """The transfers of a dataset that are under way, by target."""
        return self._bookings.get(dataset, {})

    @property
    def free_gbps(self) -> dict[str, float]:
        """The same by name."""
        return {name: float(self.free[number]) for name, number in self.links.index.items()}


def expected_end(booking: Booking) -> float:
    """When a transfer should be over (epoch seconds), at its share from its booking, or its next try, on."""
    began = max(booking.booked_at, booking.not_before or 0.0)
    return began + transfer_hours(booking.gib, booking.share_gbps) * 3600


def transfer_hours(gib: float, gbps: float) -> float:
    """GiB over a rate in Gbps: gib * 2**30 / (gbps * 1e9 / 8) seconds, in hours."""
    return gib * GIB / bytes_per_second(gbps) / 3600
