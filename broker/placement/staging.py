"""What bringing a class's missing inputs to each site takes: all at once, over the cheapest routes with what is free on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from broker.jobs.model import Shape
from broker.placement.arrays import Flags, Floats
from broker.placement.filters import Kind, Objection, may_not_enter
from broker.placement.routes import HOURS_AT_ONE_GBPS, Best, Routes
from broker.placement.shares import Shares, expected_end
from broker.placement.words import span
from broker.records import Booking
from topology.dataset import DatasetId
from topology.graph import Topology
from topology.transfer import cheapest_transfer

SMALLEST_GIB = 2**-20
"""What a dataset of no, or of unknown, size counts where transfers divide a link among them: 1 KiB."""


@dataclass(frozen=True, slots=True)
class Staging:
    """At one site: transfers under way that are shared, and new ones."""

    shared: tuple[Booking, ...] = ()
    new: tuple[Booking, ...] = ()

    @property
    def bookings(self) -> tuple[Booking, ...]:
        """All that must end before a job can start."""
        return (*self.shared, *self.new)


NOTHING_MISSING = Staging()


@dataclass(slots=True)
class _Input:
    """One input, by site: whether it is absent (neither there nor on its way), whether it may be brought there, and what its
    transfer is."""

    dataset: DatasetId
    best: Best
    is_absent: Flags
    may_enter: Flags
    share_gbps: Floats

    @property
    def is_blocked(self) -> Flags:
        """Where it is not to be had."""
        return self.is_absent & ~(self.best.is_open & self.may_enter)


class Stagings:
    """The staging of one class at every site, as of one state of the links.

    A transfer that is under way costs the time it still takes and no money: it is paid for. New ones that cross the same link
    divide what is free by their sizes, so that they end together. `hours` and `money` are by site, `is_possible` says where.
    `money` is for one job alone: who shares it, `Board.choices` says.
    """

    def __init__(self, shape: Shape, topology: Topology, routes: Routes, shares: Shares, now: float) -> None:
        sites = routes.sites
        hours, money = shape.objective.hours, shape.objective.money
        weights = (hours, money) if hours or money else (1.0, 0.0)
        self._sites, self._shares, self._now = sites, shares, now
        self.hours, self.money = np.zeros(len(sites)), np.zeros(len(sites))
        self.is_possible = np.ones(len(sites), dtype=bool)
        self._inputs: list[_Input] = []
        places = {site: place for place, site in enumerate(sites)}
        for dataset in shape.inputs:
            is_absent = np.ones(len(sites), dtype=bool)
            is_absent[[places[site] for site in topology.replica_sites(dataset) if site in places]] = False
            for site, booking in shares.coming(dataset).items():
                place = places.get(site)
                if place is not None and is_absent[place]:
                    is_absent[place] = False
                    self.hours[place] = max(self.hours[place], (expected_end(booking) - now) / 3600)
            if is_absent.any():
                best = routes.best(topology, dataset, *weights, shares)
                share = shares.free[best.links].min(axis=1)
                self._inputs.append(_Input(dataset, best, is_absent, _may_enter(dataset, topology, sites), share))
        self._divide()
        for each in self._inputs:
            usable = np.where(each.share_gbps > 0, each.share_gbps, 1.0)
            hours_of = np.where(np.isfinite(usable), each.best.gib * HOURS_AT_ONE_GBPS / usable, 0.0)
            np.maximum(self.hours, np.where(each.is_absent, hours_of, 0.0), out=self.hours)
            self.money += np.where(each.is_absent, each.best.money, 0.0)
            self.is_possible &= ~each.is_blocked

    def priced(self) -> list[tuple[DatasetId, Floats]]:
        """The inputs that cost money to bring, each with how much by site."""
        by_input = [(each.dataset, np.where(each.is_absent, each.best.money, 0.0)) for each in self._inputs]
        return [(dataset, money) for dataset, money in by_input if money.any()]

    def at(self, shape: Shape, topology: Topology, place: int) -> Staging:
        """What is booked for a job that goes to a site."""
        site = self._sites[place]
        missing = [dataset for dataset in shape.inputs if not topology.replica(dataset, site)]
        shared = [booking for dataset in missing if (booking := self._shares.coming(dataset).get(site))]
        new = []
        names = self._shares.links.names
        for each in self._inputs:
            if each.is_absent[place]:
                links = tuple(names[link] for link in each.best.links[place] if 0 <= link < len(names))
                source, share = each.best.sources[each.best.source[place]], float(each.share_gbps[place])
                new.append(Booking(each.dataset, source, site, links, share, each.best.gib, self._now))
        return Staging(tuple(shared), tuple(new))

    def objection(self, topology: Topology, place: int) -> Objection:
        """Why the inputs cannot be brought to a site now; asked where that is not possible."""
        blocked = next(each for each in self._inputs if each.is_blocked[place])
        if not blocked.may_enter[place]:
            return may_not_enter(topology.datasets[blocked.dataset])
        return _against(blocked.dataset, self._sites[place], topology, self._shares, self._now)

    def _divide(self) -> None:
        """Where several inputs of a site cross the same link, each gets its part of it."""
        if len(self._inputs) < 2:
            return
        several = np.flatnonzero(sum(each.is_absent.astype(int) for each in self._inputs) > 1)
        if not several.size:
            return
        nothing = len(self._shares.free) - 1
        crossed = [np.where(each.is_absent[several, None], each.best.links[several], nothing) for each in self._inputs]
        links = np.concatenate(crossed, axis=1) % len(self._shares.free)
        sizes = [max(each.best.gib, SMALLEST_GIB) for each in self._inputs]
        gib = np.repeat(sizes, [each.shape[1] for each in crossed])
        load = ((links[:, :, None] == links[:, None, :]) * gib).sum(axis=2)
        parts = self._shares.free[links] * gib / load
        begin = 0
        for each in self._inputs:
            end = begin + each.best.links.shape[1]
            each.share_gbps[several] = parts[:, begin:end].min(axis=1)
            begin = end


def _may_enter(dataset: DatasetId, topology: Topology, sites: Sequence[str]) -> Flags:
    known = topology.datasets.get(dataset)
    if known is None or not known.regions:
        return np.ones(len(sites), dtype=bool)
    return np.array([known.may_enter(topology.sites[site].region) for site in sites], dtype=bool)


def _against(dataset: DatasetId, site: str, topology: Topology, shares: Shares, now: float) -> Objection:
    sources = topology.replica_sites(dataset)
    if not sources:
        return Objection(Kind.NO_SOURCE, f"{dataset} is at no site", f"a replica of {dataset}")
    empty = cheapest_transfer(topology, dataset, site)
    if empty is None:
        return Objection(Kind.NO_SOURCE, f"no route brings {dataset} here", f"links to {site} from {' or '.join(sources)}")
    link = min((link.name for link in empty.route.links), key=lambda name: shares.free[shares.links.index[name]])
    until = max(shares.busy_until.get(link, now) - now, 0.0) / 3600
    return Objection(Kind.LINK_BUSY, f"link {link} is booked for about {span(until)} more", f"more bandwidth on link {link}")
