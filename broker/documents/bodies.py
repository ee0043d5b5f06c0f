"""The shape of what a federation is made of, field by field; `values.py` turns bodies into plain values and back."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from broker.documents.engine import EngineSettings
from broker.documents.faults import refuse
from broker.documents.fields import (
    Amount,
    Body,
    Count,
    Cpus,
    GpuCounts,
    Name,
    Path,
    Positive,
    Text,
    Texts,
    Version,
    named_twice,
    one_of,
)
from broker.documents.storage import StorageBody
from broker.jobs.model import DEFAULT_TENANT
from topology.site import Admission, Fabric

FABRICS = tuple(str(fabric) for fabric in Fabric)
CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
RESOURCES = ("cpus", "memory_gib", "gpus")
MOST_QUOTAS = 100
ALL = "all"
"""Whatever is idle may be borrowed."""


def _currency(value: str) -> str:
    if len(value) != 3 or not (value.isascii() and value.isupper()):
        raise ValueError("use three capital letters, such as EUR")
    return value


def _checksum(value: str) -> str:
    if not CHECKSUM.fullmatch(value):
        raise ValueError("use `sha256:` and 64 of 0-9 and a-f, or leave it out: then it is measured")
    return value


def _borrowed(value: Any) -> Any:
    """An amount; None for `all`, which has to be said."""
    if value is None or (isinstance(value, str) and value != ALL):
        raise ValueError(f"use an amount, or `{ALL}`")
    return None if value == ALL else value


class LocationBody(Body):
    """Degrees."""

    lat: Annotated[float, Field(ge=-90, le=90, examples=["52.4"])]
    lon: Annotated[float, Field(ge=-180, le=180, examples=["4.9"])]


class NodeBody(Body):
    """What one node of a pool has."""

    cpus: Cpus = Field(examples=["4"])
    memory_gib: Positive = Field(examples=["8"])
    gpus: GpuCounts = {}


class PowerBody(Body):
    """Watts of one busy cpu and one busy GPU."""

    cpu_w: Amount = 0.0
    gpu_w: Amount = 0.0


class PoolBody(Body):
    """Nodes of one make."""

    name: Name = Field(examples=["cpu"])
    nodes: Annotated[int, Field(ge=1, le=1_000_000, examples=["2"])]
    per_node: NodeBody = Field(examples=["{cpus: 4, memory_gib: 8}"])
    speed: Annotated[float, Field(ge=0.001, le=1_000)] = 1.0
    power: PowerBody = PowerBody()


class PriceBody(Body):
    """Money per hour."""

    currency: Annotated[str, AfterValidator(_currency)] = "EUR"
    cpu_hour: Amount = 0.0
    gpu_hour: Annotated[dict[Name, Amount], Field(max_length=100)] = {}


class SiteBody(Body):
    """One data centre."""

    name: Name = Field(examples=["ams"])
    region: Text = ""
    location: LocationBody | None = None
    engine: EngineSettings = Field(examples=["{kind: process}"])
    pools: Annotated[list[PoolBody], Field(min_length=1, max_length=1_000)] = Field(
        examples=["[{name: cpu, nodes: 2, per_node: {cpus: 4, memory_gib: 8}}]"]
    )
    fabric: Annotated[str, one_of(*FABRICS)] = str(Fabric.NONE)
    storage: StorageBody = Field(examples=['{url: "file:///srv/ams"}'])
    price: PriceBody = PriceBody()
    carbon_g_per_kwh: Amount = 0.0
    admission: Annotated[str, one_of(*map(str, Admission))] = str(Admission.OPEN)
    queue_ahead: Annotated[Amount, Field(le=100)] = 0.0
    allows_preemption: bool = True

    @model_validator(mode="after")
    def _has_distinct_pools(self) -> Self:
        refuse(*named_twice((pool.name for pool in self.pools), "pools", "name"))
        return self


class LinkBody(Body):
    """One direction between two sites."""

    source: Name = Field(alias="from", examples=["ams"])
    target: Name = Field(alias="to", examples=["fra"])
    bandwidth_gbps: Positive = Field(examples=["10"])
    latency_ms: Amount = 0.0
    price_per_gib: Amount = 0.0

    @model_validator(mode="after")
    def _joins_two_sites(self) -> Self:
        if self.source == self.target:
            refuse((("to",), f"{self.target} is where the link begins: name another site"))
        return self


class ReplicaBody(Body):
    """A whole copy at a site, at a path below its storage."""

    site: Name = Field(examples=["ams"])
    path: Path = Field(examples=["corpus/"])


class DatasetBody(Body):
    """One version of a dataset. Size and checksum are measured when absent."""

    name: Name = Field(examples=["corpus"])
    version: Version = "1"
    tenant: Name = DEFAULT_TENANT
    size_bytes: Annotated[int, Field(ge=0, le=2**60)] | None = None
    checksum: Annotated[str, AfterValidator(_checksum)] | None = None
    regions: Texts = []
    replicas: Annotated[list[ReplicaBody], Field(max_length=10_000)] = []

    @model_validator(mode="after")
    def _has_one_replica_per_site(self) -> Self:
        refuse(*named_twice((replica.site for replica in self.replicas), "replicas", "site"))
        return self


class QuotaBody(Body):
    """How much a tenant may hold of one of `cpus`, `memory_gib` and `gpus` (of a type or of all), at one site or at all together.
    `borrow` is how much more its preemptible jobs may hold while others leave theirs idle: an amount, or `all`."""

    site: Name | None = None
    cpus: Amount | None = None
    memory_gib: Amount | None = None
    gpus: Count | None = None
    gpu_type: Name | None = Field(default=None, examples=["a100"])
    borrow: Annotated[Amount | None, BeforeValidator(_borrowed)] = 0.0

    @model_validator(mode="after")
    def _is_of_one_resource(self) -> Self:
        given = self.resources
        if not given:
            refuse((("cpus",), "is missing: give an amount of cpus, memory_gib or gpus"))
        if len(given) > 1:
            refuse(((given[1],), f"is given beside {given[0]}: make it a quota of its own"))
        if self.gpu_type is not None and self.gpus is None:
            refuse((("gpu_type",), f"is of no use to a quota of {given[0]}: leave it out"))
        return self

    @property
    def resources(self) -> list[str]:
        """Those that it names."""
        return [name for name in RESOURCES if getattr(self, name) is not None]


class TenantBody(Body):
    """Who jobs and datasets belong to."""

    name: Name = Field(examples=["vision"])
    max_pending: Annotated[int, Field(ge=1, le=100_000_000)] = 10_000
    max_requests_per_second: Annotated[float, Field(ge=0.001, le=1e6)] | None = None
    parent: Name | None = Field(default=None, examples=["research"])
    weight: Annotated[float, Field(ge=0.001, le=1e6)] = 1.0
    quotas: Annotated[list[QuotaBody], Field(max_length=MOST_QUOTAS)] = []

    @model_validator(mode="after")
    def _has_distinct_quotas(self) -> Self:
        kinds = [(quota.resources[0], quota.site, quota.gpu_type) for quota in self.quotas]
        again = next((number for number, kind in enumerate(kinds) if kind in kinds[:number]), None)
        if again is not None:
            refuse((("quotas", again), "is of the same resource and site as one before: leave one of the two out"))
        return self
