"""The live federation as a scenario: what waits, what is at sites and on links, and what may be used of each pool. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from broker.jobs.model import Shape
from broker.placement.view import PlanInput
from broker.records import Booking
from broker.simulator.scenario import HALF_LIFE_S, Arrival, Change, Maintenance, Scenario, SiteLost, Underway
from topology.graph import Topology
from topology.room import Room

Queue = Mapping[Shape, Sequence[tuple[float, str]]]
"""Jobs that wait, by class: (created at, id), oldest first."""

MOST_JOBS = 20_000
"""Of those that wait: of a longer queue the same part of each class is simulated."""


def live(
    given: PlanInput, queue: Queue, at_sites: Iterable[Underway], half_life_s: float = HALF_LIFE_S, most: int = MOST_JOBS
) -> Scenario:
    """The federation from `given.now` on; all times given are epoch seconds. Jobs run as long as they are expected to, and what
    should be over already ends at once. `given.topology` has the replicas of all that jobs read and bookings bring."""
    begun = tuple(_since(each, given.now) for each in at_sites)
    arrivals = [Arrival(name, created - given.now, shape, shape.run_time_s) for created, name, shape in _sampled(queue, most)]
    whole = sum(len(members) for members in queue.values())
    return Scenario(
        name="live",
        topology=given.topology,
        arrivals=tuple(sorted(arrivals, key=lambda each: (each.at, each.name))),
        changes=tuple(_closed(given)),
        notes=_notes(len(arrivals), whole, len(begun)),
        tenants=given.tenants,
        half_life_s=half_life_s,
        begun=begun,
        bookings=tuple(_moved(each, given.now) for each in given.bookings if _is_known(each, given.topology)),
        rooms=_rooms(given),
    )


def _rooms(given: PlanInput) -> dict[tuple[str, str], Room]:
    """What may be used of each pool; nothing of one that was not seen yet, as in plans."""
    return {(view.site.name, pool.name): view.rooms.get(pool.name, Room()) for view in given.sites for pool in view.site.pools}


def _sampled(queue: Queue, most: int) -> Iterator[tuple[float, str, Shape]]:
    """Evenly over classes, and in each over ages: number n of `most` is the job at n * whole / most, class after class."""
    whole, before = sum(len(members) for members in queue.values()), 0
    most = min(most, whole)
    for shape, members in queue.items():
        first, end = (-(-place * most // whole) for place in (before, before + len(members)))
        for number in range(first, end):
            created, name = members[number * whole // most - before]
            yield created, name, shape
        before += len(members)


def _since(job: Underway, now: float) -> Underway:
    arrival = replace(job.arrival, at=job.arrival.at - now)
    return replace(job, arrival=arrival, ends_at=None if job.ends_at is None else max(job.ends_at - now, 0.0))


def _closed(given: PlanInput) -> Iterable[Change]:
    """Lost sites stay lost, and those that take no jobs now take none."""
    for view in given.sites:
        if view.is_lost:
            yield SiteLost(0.0, view.site.name, math.inf)
        elif not view.health.takes_jobs:
            yield Maintenance(0.0, view.site.name, math.inf)


def _is_known(booking: Booking, topology: Topology) -> bool:
    """Whether all that a transfer needs is still declared."""
    is_there = booking.dataset in topology.datasets and booking.target in topology.sites
    return is_there and all(name in topology.links for name in booking.links)


def _moved(booking: Booking, now: float) -> Booking:
    """Where it never failed, `expected_end` takes it to have begun at 0 at the soonest; this one may have begun before that."""
    began = max(booking.booked_at, booking.not_before or 0.0) - now
    return replace(booking, booked_at=booking.booked_at - now, not_before=began)


def _notes(simulated: int, whole: int, begun: int) -> str:
    known = f"{begun} jobs at sites; run times as expected, and no new jobs come"
    if simulated == whole:
        return f"{whole} jobs that wait and {known}"
    return f"{simulated} of {whole} jobs that wait, the same part of each class: waits are those of a shorter queue; {known}"
