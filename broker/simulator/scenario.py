"""What is simulated: a federation, the jobs that arrive, and what happens to it meanwhile. Times are seconds from the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.jobs.model import Shape
from broker.placement.view import TenantView
from broker.records import Booking
from topology.graph import Topology
from topology.room import Room

HALF_LIFE_S = 24 * 3600.0
"""As the setting `share_half_life_hours` unless told."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job as it comes. Its shape is what placement sees, with the run time that its user expects; `run_time_s` is what it
    really takes on a pool of speed 1."""

    name: str
    at: float
    shape: Shape
    run_time_s: float


@dataclass(frozen=True, slots=True)
class Underway:
    """A job that is at a site already as the simulation begins: it runs and is over at `ends_at`, or has not started (None) and
    waits there for its inputs and for room."""

    arrival: Arrival
    site: str
    pool: str
    gpu_type: str | None
    ends_at: float | None


@dataclass(frozen=True, slots=True)
class SiteLost:
    """A site goes dark: what ran there is lost and requeued, and nothing can be placed until it is back."""

    at: float
    site: str
    until: float


@dataclass(frozen=True, slots=True)
class NodesLost:
    """So many nodes of a pool are gone, the ones that run most first; what ran on them is requeued."""

    at: float
    site: str
    pool: str
    nodes: int
    until: float


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A site takes no new jobs; what runs goes on."""

    at: float
    site: str
    until: float


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """A link has another bandwidth from now on."""

    at: float
    link: str
    gbps: float


@dataclass(frozen=True, slots=True)
class Carbon:
    """A site's electricity has another intensity from now on."""

    at: float
    site: str
    g_per_kwh: float


Change = SiteLost | NodesLost | Maintenance | Bandwidth | Carbon


@dataclass(frozen=True, slots=True)
class Scenario:
    """A federation at the start, jobs by the time of their arrival (before the start: they wait already), changes by theirs.
    `notes` says in a few lines what was composed of what, and from which seed. Tenants that are not named weigh 1; what they held
    counts half as much after each `half_life_s`. `begun` stand in a site's own queue in their order; `bookings` are transfers
    under way. `rooms` is what may be used of a pool, by site and name; of others all of it."""

    name: str
    topology: Topology
    arrivals: tuple[Arrival, ...]
    changes: tuple[Change, ...] = ()
    notes: str = ""
    tenants: tuple[TenantView, ...] = ()
    half_life_s: float = HALF_LIFE_S
    begun: tuple[Underway, ...] = ()
    bookings: tuple[Booking, ...] = ()
    rooms: Mapping[tuple[str, str], Room] = field(default_factory=dict)
