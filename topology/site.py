"""A site: one data centre with its scheduler, pools, fabric, storage, prices and carbon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from topology.resources import Resources
from topology.room import Room


class Fabric(StrEnum):
    """What connects the nodes of a site."""

    NONE = "none"
    ETHERNET = "ethernet"
    ROCE = "roce"
    INFINIBAND = "infiniband"

    @property
    def has_rdma(self) -> bool:
        """Whether remote direct memory access works over it."""
        return self in (Fabric.ROCE, Fabric.INFINIBAND)


class Admission(StrEnum):
    """Whether a site takes new jobs: open; cordoned takes none; draining moves away what is there too, and finishing does so but
    for what already runs."""

    OPEN = "open"
    CORDONED = "cordoned"
    DRAINING = "draining"
    FINISHING = "finishing"

    @property
    def is_draining(self) -> bool:
        """Whether jobs that are there are moved away."""
        return self in (Admission.DRAINING, Admission.FINISHING)


@dataclass(frozen=True, slots=True)
class Location:
    """Degrees north and east."""

    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class Power:
    """Watts drawn by one busy cpu and one busy GPU."""

    cpu_w: float = 0.0
    gpu_w: float = 0.0


@dataclass(frozen=True, slots=True)
class Pool:
    """Nodes of one make. `speed` divides run times: 2.0 halves them."""

    name: str
    nodes: int
    per_node: Resources
    speed: float = 1.0
    power: Power = Power()

    @property
    def empty(self) -> Room:
        """The room of this pool when nothing runs."""
        return Room.of([(self.per_node, self.nodes)])


@dataclass(frozen=True, slots=True)
class Price:
    """Money per hour of one cpu and of one GPU by type. A GPU type without a price costs nothing."""

    currency: str = "EUR"
    cpu_hour: float = 0.0
    gpu_hour: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Storage:
    """What tasks at the site read as local: its URL, the file systems it is made of (`lustre`, `gpfs` ...), and how the broker
    gets there: options of the URL's scheme, kept as given."""

    url: str
    file_systems: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Engine:
    """The scheduler's kind and that kind's own settings, kept as given; the adapter's settings model has read them."""

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Site:
    """One data centre as its admin declared it."""

    name: str
    engine: Engine
    pools: tuple[Pool, ...]
    storage: Storage
    region: str = ""
    location: Location | None = None
    fabric: Fabric = Fabric.NONE
    price: Price = Price()
    carbon_g_per_kwh: float = 0.0
    admission: Admission = Admission.OPEN
    queue_ahead: float = 0.0
    """How much work may wait in the scheduler's own queue, as a share of each pool."""
    allows_preemption: bool = True
    """Whether jobs that may be preempted give way to others here."""

    def pool(self, name: str) -> Pool | None:
        """The pool of that name, or None."""
        return next((pool for pool in self.pools if pool.name == name), None)
