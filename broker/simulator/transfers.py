"""Transfers in a simulation: those that a plan booked, at the shares that they hold, and those that it left to the site."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from broker.placement.shares import LEAST_SHARE, expected_end, transfer_hours
from broker.records import Booking
from topology.dataset import DatasetId
from topology.graph import Topology
from topology.transfer import Transfer, cheapest_transfer

Key = tuple[DatasetId, str]
"""A dataset, and the site that it goes to."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A transfer that has just begun: GiB summed over the links that carry them, and what that costs."""

    key: Key
    wan_gib: float
    money: float


class Transfers:
    """All that is under way. `at` has a function called at a time of the simulation; `see` gives a topology with the replicas
    that a dataset has now.

    A transfer holds its share from its start to its end. Where a plan names a target and books nothing, the replica with the
    quickest route is taken, with all that is free on it, once that is at least a tenth of its narrowest link: the rule that the
    planner's own bookings follow. Until then it waits, in order of arrival, for that link.
    """

    def __init__(
        self,
        topology: Topology,
        see: Callable[[DatasetId], Topology],
        at: Callable[[float, Callable[[], None]], None],
        on_begin: Callable[[Begun], None],
        on_end: Callable[[Key], None],
    ) -> None:
        self._topology, self._see = topology, see
        self._at, self._on_begin, self._on_end = at, on_begin, on_end
        self._under_way: dict[Key, Booking] = {}
        self._waiting: dict[str, dict[Key, None]] = {}
        self._waits_at: dict[Key, str] = {}
        self._free = {name: link.bandwidth_gbps for name, link in topology.links.items()}

    @property
    def bookings(self) -> tuple[Booking, ...]:
        """What is under way, for a plan."""
        return tuple(self._under_way.values())

    def book(self, bookings: Iterable[Booking], now: float) -> None:
        """Begin what a plan booked."""
        for booking in bookings:
            key = (booking.dataset, booking.target)
            if key not in self._under_way:
                self._forget_wait(key)
                self._begin(replace(booking, booked_at=now))

    def go_on(self, bookings: Iterable[Booking]) -> None:
        """They are under way as the simulation begins, and paid for."""
        for booking in bookings:
            for name in booking.links:
                self._free[name] -= booking.share_gbps
            self._hold((booking.dataset, booking.target), booking)

    def can_come(self, key: Key) -> bool:
        """Whether a dataset is on its way to a site, or could be sent there if the links were free."""
        return key in self._under_way or cheapest_transfer(self._see(key[0]), *key) is not None

    def ask(self, key: Key, now: float) -> None:
        """Have a dataset brought, unless it is on its way."""
        if key not in self._under_way and key not in self._waits_at:
            self._try(key, now)

    def cancel(self, site: str, now: float) -> list[Key]:
        """A site is lost: what goes there or comes from there ends without a result. What was cancelled."""
        gone = [key for key, booking in self._under_way.items() if site in (booking.target, booking.source)]
        waiting = [key for key in self._waits_at if key[1] == site]
        for key in gone:
            self._release(self._under_way.pop(key))
        for key in waiting:
            self._forget_wait(key)
        self._retry([name for name in self._waiting if self._waiting[name]], now)
        return gone + waiting

    def change(self, topology: Topology, now: float) -> None:
        """Links have other bandwidths now. What crosses a link that became narrower goes on at a share as much smaller."""
        old, self._topology = self._topology, topology
        changed = {name for name, link in topology.links.items() if link.bandwidth_gbps != old.links[name].bandwidth_gbps}
        if not changed:
            return
        for key, booking in list(self._under_way.items()):
            factor = min(
                (topology.links[n].bandwidth_gbps / old.links[n].bandwidth_gbps for n in booking.links if n in changed),
                default=1.0,
            )
            if factor < 1.0:
                moved = (now - booking.booked_at) / 3600 / transfer_hours(1.0, booking.share_gbps)
                left = max(booking.gib - moved, 0.0)
                self._hold(key, replace(booking, share_gbps=booking.share_gbps * factor, gib=left, booked_at=now))
        used = dict.fromkeys(topology.links, 0.0)
        for booking in self._under_way.values():
            for name in booking.links:
                used[name] += booking.share_gbps
        self._free = {name: link.bandwidth_gbps - used[name] for name, link in topology.links.items()}
        self._retry(changed, now)

    def _try(self, key: Key, now: float) -> bool:
        dataset, target = key
        topology = self._see(dataset)
        transfer = cheapest_transfer(topology, dataset, target, self._free)
        if transfer is None or transfer.share_gbps < LEAST_SHARE * transfer.route.bottleneck_gbps:
            on_empty = cheapest_transfer(topology, dataset, target)
            if on_empty is not None:
                self._wait(key, min(on_empty.route.links, key=lambda link: self._free[link.name]).name)
            return False
        self._forget_wait(key)
        self._begin(_booking(transfer, now))
        return True

    def _begin(self, booking: Booking) -> None:
        key = (booking.dataset, booking.target)
        for name in booking.links:
            self._free[name] -= booking.share_gbps
        self._hold(key, booking)
        price = sum(self._topology.links[name].price_per_gib for name in booking.links)
        self._on_begin(Begun(key, booking.gib * len(booking.links), booking.gib * price))

    def _hold(self, key: Key, booking: Booking) -> None:
        self._under_way[key] = booking
        end = max(expected_end(booking), 0.0)
        self._at(end, lambda: self._end(key, booking, end))

    def _end(self, key: Key, booking: Booking, now: float) -> None:
        if self._under_way.get(key) is not booking:
            return
        del self._under_way[key]
        self._release(booking)
        self._on_end(key)
        self._retry(booking.links, now)

    def _release(self, booking: Booking) -> None:
        for name in booking.links:
            self._free[name] += booking.share_gbps

    def _retry(self, links: Iterable[str], now: float) -> None:
        for link in links:
            for key in list(self._waiting.get(link, ())):
                if not self._try(key, now) and self._waits_at.get(key) == link:
                    break  # those behind it wait for the same

    def _wait(self, key: Key, link: str) -> None:
        if self._waits_at.get(key) != link:
            self._forget_wait(key)
            self._waits_at[key] = link
            self._waiting.setdefault(link, {})[key] = None

    def _forget_wait(self, key: Key) -> None:
        link = self._waits_at.pop(key, None)
        if link is not None:
            del self._waiting[link][key]


def _booking(transfer: Transfer, now: float) -> Booking:
    names = tuple(link.name for link in transfer.route.links)
    return Booking(transfer.dataset, transfer.source, transfer.target, names, transfer.share_gbps, transfer.gib, now)
