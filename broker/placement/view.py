"""What placement sees: the queue by class, each site with its room and what we hold there, and the transfers under way.

All of it can be pickled: a plan is made in a process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.jobs.model import Decision, Shape, Together
from broker.records import Booking, Health, Quota
from topology.graph import Topology
from topology.resources import Resources
from topology.room import Room
from topology.site import Site


@dataclass(frozen=True, slots=True)
class QueuedClass:
    """Jobs of one shape that wait. `created` holds when each was made (epoch seconds), oldest first and cut at a limit;
    `count` is how many there are in all."""

    shape: Shape
    created: tuple[float, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Held:
    """What our attempts of one size hold in a pool: one entry of `ends` each, the epoch second at which it is expected to be
    over (infinity: no saying). Each has `tasks` tasks of size `task`."""

    pool: str
    task: Resources
    tasks: int
    ends: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Attempts:
    """Some of `held` one by one: attempts of one tenant, size and priority in a pool, each with `tasks` tasks of size `task`.
    `jobs` are their ids, `began` when each started to run (epoch seconds; infinity: not yet). Those that save their work do so
    every `checkpoint_s`."""

    tenant: str
    priority: int
    pool: str
    task: Resources
    tasks: int
    jobs: tuple[str, ...]
    began: tuple[float, ...]
    checkpoint_s: float | None = None


@dataclass(frozen=True, slots=True)
class SiteView:
    """One site as placement sees it. `rooms` is what this federation may use there, by pool, as observed; what our attempts
    hold is still to be taken off, so that an attempt not yet seen at the site counts like one that is."""

    site: Site
    health: Health = Health.UNKNOWN
    reason: str = ""
    is_lost: bool = False
    rooms: Mapping[str, Room] = field(default_factory=dict)
    held: tuple[Held, ...] = ()
    queued: tuple[Held, ...] = ()
    """The part of `held` that waits in the site's own queue: told by simulations, where baselines go by it."""
    ending: tuple[Attempts, ...] = ()
    """What was asked to end, and soon will have."""
    preemptible: tuple[Attempts, ...] = ()
    """What may be made to give way, and was not asked to end yet."""
    takes: frozenset[str] = frozenset()
    """What its engine takes of what not every kind does: see `Shape.needs`."""


@dataclass(frozen=True, slots=True)
class TenantView:
    """A tenant: its place in the tree, what it uses, and what it may. `holds` is what its attempts hold now, at all sites, and
    `holds_at` at each; `past` how many cpus, GiB of memory and GPUs it has held of late, fading with time. Without a parent it
    stands at the top."""

    name: str
    parent: str = ""
    weight: float = 1.0
    holds: Resources = Resources()
    past: tuple[float, float, float] = (0.0, 0.0, 0.0)
    holds_at: Mapping[str, Resources] = field(default_factory=dict)
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A tenant's unfinished jobs that belong together by a rule and a word: how many of them are at each site."""

    tenant: str
    rule: Together
    word: str
    at: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PlanInput:
    """The world at one moment. `most` bounds how many jobs one plan places, so that news need not wait long for the next."""

    now: float
    topology: Topology
    sites: tuple[SiteView, ...]
    classes: tuple[QueuedClass, ...] = ()
    bookings: tuple[Booking, ...] = ()
    tenants: tuple[TenantView, ...] = ()
    most: int = 4000
    groups: tuple[Group, ...] = ()
    """Those of the queue's classes of which some are at sites."""


@dataclass(frozen=True, slots=True)
class Placement:
    """`count` jobs of a class go to one pool. They need `bookings` (new or under way) before they can start; none when all
    inputs are there."""

    shape: Shape
    count: int
    site: str
    pool: str
    gpu_type: str | None
    decision: Decision
    bookings: tuple[Booking, ...] = ()


@dataclass(frozen=True, slots=True)
class Eviction:
    """A job whose attempt at a site is to give way, and the reason, for people."""

    job: str
    site: str
    why: str


@dataclass(frozen=True, slots=True)
class Binding:
    """What keeps a class from starting. `what` is `cpus`, `memory`, `gpus`, `nodes` (they are too broken up), `kept` (the room is
    kept for an earlier job), `turn` (others are before it), `yielding` (others give way to it), `preference` (it waits for a
    site that it prefers), or the kind of an objection."""

    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    """How long the next job of a class waits, all in hours: in all, the part of it for which the pool works on what waits before
    the class, and how much longer each job of the class makes it for the one behind. `is_kept`: there is room, kept for an
    earlier job."""

    hours: float
    behind_hours: float
    each_hours: float
    binding: Binding
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Passed:
    """Why the rest of a class stays in the queue, and what would help. `site` and `pool` are where it waits for room, if it
    does, and `wait` says how long."""

    reason: str
    help: tuple[str, ...] = ()
    site: str = ""
    pool: str = ""
    wait: Wait | None = None


@dataclass(frozen=True, slots=True)
class Awaited:
    """A pool that something waits for, as a plan leaves it: for how many hours the pool as a whole will work on that, in how many
    the first of it starts (infinity: there is no saying), and what others may hold there beyond then."""

    site: str
    pool: str
    backlog_hours: float
    promised_hours: float
    spare: Resources


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write: placements in order, the bookings that they make, what gives way, and a reason for each class that is passed
    over.

    `is_cut` says that a limit ended the plan: more could be placed at once. `faults` tells of each class that could not be
    planned, by our fault, where it failed.
    """

    placements: tuple[Placement, ...] = ()
    bookings: tuple[Booking, ...] = ()
    passed: Mapping[Shape, Passed] = field(default_factory=dict)
    evictions: tuple[Eviction, ...] = ()
    is_cut: bool = False
    faults: tuple[str, ...] = ()
    awaited: tuple[Awaited, ...] = ()
