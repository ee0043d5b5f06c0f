"""What is stored beside jobs: statuses, bookings, tenants, members. Who writes each is said at the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from adapters.base import Check
from broker.jobs.model import Ask
from topology.dataset import DatasetId
from topology.room import Room


class Health(StrEnum):
    """The conclusion from several probes of a site."""

    UNKNOWN = "unknown"
    """Registered, not yet probed. Takes no jobs."""
    UP = "up"
    DEGRADED = "degraded"
    """It works, but flaps or is slow. Takes jobs."""
    SUSPECT = "suspect"
    """Probes fail of late. Takes no new jobs; nothing is concluded of the running ones."""
    DOWN = "down"
    """Probes have failed for a while."""
    MISCONFIGURED = "misconfigured"
    """It answers, and says that our settings are wrong. Never a lost site."""

    @property
    def takes_jobs(self) -> bool:
        """Whether placement may choose the site."""
        return self in (Health.UP, Health.DEGRADED)


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """What is known of a site. Written by its owner, when something in it changed.

    `failing_s` adds up, over restarts and owners, the time in which live brokers probed in vain; `is_lost` once it passed
    `site_lost_after`. `rooms` as in `adapters.base.Observation`.
    """

    site: str
    health: Health = Health.UNKNOWN
    reason: str = ""
    since: float = 0.0
    failing_s: float = 0.0
    is_lost: bool = False
    checks: tuple[Check, ...] = ()
    rooms: Mapping[str, Room] = field(default_factory=dict)
    life: str = ""
    observed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """Measured throughput of a link. Written by the owner of the target site when it moved by 20 %, at most once a minute."""

    link: str
    gbps: float
    measured_at: float


@dataclass(frozen=True, slots=True)
class Booking:
    """A transfer under way and the link share it holds.

    Made by the leader with the placement that needs it; from then on written, and in the end deleted, by the target's owner.
    `share_gbps` is booked on every link of `links` (names, in order from the source).
    """

    dataset: DatasetId
    source: str
    target: str
    links: tuple[str, ...]
    share_gbps: float
    gib: float
    booked_at: float
    failures: int = 0
    not_before: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Unresolved:
    """An attempt that was given up while its site could not be reached.

    Written together with the job's requeue; deleted by the site's owner once, the site being back, the attempt's claim is
    taken and a whole listing shows that it does not run.
    """

    site: str
    job: str
    attempt: int
    native_id: str | None
    since: float


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of one resource a tenant, with all below it, may hold.

    `resource` is `cpus`, `memory_gib` or `gpus`, at `site` (None: at all together), GPUs of `gpu_type` (None: of all). `amount`
    is its own; `borrow` more may be held by jobs that can be preempted (None: whatever is idle), and is taken back when others
    need theirs.
    """

    resource: str
    amount: float
    site: str | None = None
    gpu_type: str | None = None
    borrow: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who jobs and datasets belong to. Written by admins."""

    name: str
    max_pending: int = 10_000
    max_requests_per_second: float | None = None
    parent: str | None = None
    """The tenant that it is a part of, and shares with its siblings what falls to."""
    weight: float = 1.0
    """How much falls to it beside its siblings."""
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, slots=True)
class Submission:
    """An idempotency key in use: written before the wishes, whose ids derive from `seed` and their position.

    `is_complete` once all of them are stored: from then on a missing one was deleted, and is not made again.
    """

    tenant: str
    key: str
    body_hash: str
    seed: str
    count: int
    created_at: float
    is_complete: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A live broker process, on its lease. `formats` are the record formats it reads."""

    id: str
    url: str
    version: str
    formats: tuple[int, ...]
    started_at: float


@dataclass(frozen=True, slots=True)
class Holder:
    """The value of an ownership key: which member holds it."""

    member: str


@dataclass(frozen=True, slots=True)
class Pause:
    """An operator wants nothing to be placed. There while it lasts."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Audit:
    """Somebody changed a record, or many alike. Written in the transaction of the change, never changed, and deleted only by age
    and count. `before` and `after` are the record's JSON, cut where it is long; None for one that was, or is, not
    there."""

    at: float
    who: str
    what: str
    record: str
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class PageKey:
    """What page tokens are signed with, the same for all brokers: written once, by whichever first gives one out."""

    secret: str


@dataclass(frozen=True, slots=True)
class Traced:
    """Up to which revision the jobs' traces were told. Written by the leader now and then, where tracing is on."""

    revision: int


@dataclass(frozen=True, slots=True)
class Restore:
    """The store went back to an earlier revision: `seen` before, `found` now. Written by the member that noticed.

    Nobody places, submits or stops anything until an admin has looked: then `resumed` says who. `lift` is added to all epochs, so
    that they go on growing at the sites, which have seen those from before.
    """

    seen: int
    found: int
    noticed_at: float
    noticed_by: str
    lift: int
    resumed: Ask | None = None
    is_whole: bool = True
    """Not while `fed restore` is still writing, or was cut off: nobody may resume then."""
