"""The shape of each document, field by field; `values.py` turns bodies into plain values and back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from adapters.kinds import KINDS
from broker.documents.fields import (
    Amount,
    Argument,
    Body,
    Count,
    Duration,
    Environment,
    GpuCounts,
    Name,
    Names,
    Path,
    Positive,
    StorageUrl,
    Text,
    Texts,
    Version,
)
from broker.jobs.model import INFRASTRUCTURE, Ending
from topology.site import Admission, Fabric

MOST_TASKS = 100_000
MOST_SCRIPT_BYTES = 64 * 1024
FABRICS = tuple(str(fabric) for fabric in Fabric)
ENDINGS = tuple(str(ending) for ending in Ending if ending not in (Ending.WITHDRAWN, Ending.CANCELLED))


def _one_of(*allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"use one of {', '.join(allowed)}")
        return value

    return AfterValidator(check)


def _engine(value: dict[str, Any]) -> dict[str, Any]:
    """The settings as that kind's own model reads them."""
    kind = value.get("kind")
    if kind not in KINDS:
        raise ValueError(f"kind: use one of {', '.join(KINDS)}")
    try:
        KINDS[kind].settings.model_validate({name: item for name, item in value.items() if name != "kind"})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return value


class LocationBody(Body):
    """Degrees."""

    lat: Annotated[float, Field(ge=-90, le=90)]
    lon: Annotated[float, Field(ge=-180, le=180)]


class NodeBody(Body):
    """What one node of a pool has."""

    cpus: Positive
    memory_gib: Amount = 0.0
    gpus: GpuCounts = {}


class PowerBody(Body):
    """Watts of one busy cpu and one busy GPU."""

    cpu_w: Amount = 0.0
    gpu_w: Amount = 0.0


class PoolBody(Body):
    """Nodes of one make."""

    name: Name
    nodes: Annotated[int, Field(ge=1, le=1_000_000)]
    per_node: NodeBody
    speed: Annotated[float, Field(gt=0, le=1_000)] = 1.0
    power: PowerBody = PowerBody()


class StorageBody(Body):
    """What tasks at the site read as local."""

    url: StorageUrl
    file_systems: list[Name] = []


class PriceBody(Body):
    """Money per hour."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    cpu_hour: Amount = 0.0
    gpu_hour: dict[Name, Amount] = {}


class SiteBody(Body):
    """One data centre."""

    name: Name
    region: Text = ""
    location: LocationBody | None = None
    engine: Annotated[dict[str, Any], AfterValidator(_engine)]
    pools: Annotated[list[PoolBody], Field(min_length=1, max_length=1_000)]
    fabric: Annotated[str, _one_of(*FABRICS)] = str(Fabric.NONE)
    storage: StorageBody
    price: PriceBody = PriceBody()
    carbon_g_per_kwh: Amount = 0.0
    admission: Annotated[str, _one_of(*map(str, Admission))] = str(Admission.OPEN)

    @model_validator(mode="after")
    def _has_distinct_pools(self) -> SiteBody:
        names = [pool.name for pool in self.pools]
        if len(set(names)) < len(names):
            raise ValueError("pools: give each pool a name of its own")
        return self


class LinkBody(Body):
    """One direction between two sites."""

    source: Annotated[Name, Field(alias="from")]
    target: Annotated[Name, Field(alias="to")]
    bandwidth_gbps: Positive
    latency_ms: Amount = 0.0
    price_per_gib: Amount = 0.0

    @model_validator(mode="after")
    def _joins_two_sites(self) -> LinkBody:
        if self.source == self.target:
            raise ValueError("to: name another site than in from")
        return self


class ReplicaBody(Body):
    """A whole copy at a site, at a path below its storage."""

    site: Name
    path: Path


class DatasetBody(Body):
    """One version of a dataset. Size and checksum are measured when absent."""

    name: Name
    version: Version = "1"
    tenant: Name = "default"
    size_bytes: Annotated[int, Field(ge=0)] | None = None
    checksum: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    replicas: Annotated[list[ReplicaBody], Field(max_length=10_000)] = []

    @model_validator(mode="after")
    def _has_one_replica_per_site(self) -> DatasetBody:
        sites = [replica.site for replica in self.replicas]
        if len(set(sites)) < len(sites):
            raise ValueError("replicas: name each site once")
        return self


class TenantBody(Body):
    """Who jobs and datasets belong to."""

    name: Name
    max_pending: Annotated[int, Field(ge=1, le=100_000_000)] = 10_000


class GpusBody(Body):
    """GPUs per task: of which types any one will do."""

    count: Count = 0
    types: list[Name] = []


class ResourcesBody(Body):
    """What each task needs."""

    cpus: Positive = 1.0
    memory_gib: Amount = 0.5
    gpus: GpusBody = GpusBody()


class InputBody(Body):
    """A dataset to read; its newest version when none is named."""

    dataset: Name
    version: Version | None = None


class OutputBody(Body):
    """A dataset that the job makes."""

    dataset: Name


class WeightsBody(Body):
    """Raw weights of hours, money and kg of CO2."""

    hours: Amount = 0.0
    money: Amount = 0.0
    carbon_kg: Amount = 0.0

    @model_validator(mode="after")
    def _weighs_something(self) -> WeightsBody:
        if self.hours + self.money + self.carbon_kg == 0:
            raise ValueError("give at least one weight above 0")
        return self


class RequireBody(Body):
    """Regions or sites of which any one will do."""

    region: Texts = []
    site: Names = []


class SitesBody(Body):
    """Where the job may run."""

    require: RequireBody = RequireBody()
    exclude: Names = []
    fabric: Annotated[str, _one_of("rdma", *FABRICS)] | None = None
    file_system: Name | None = None


class RetryBody(Body):
    """How often, and after what."""

    attempts: Annotated[int, Field(ge=1, le=1_000)] = 3
    reasons: list[Annotated[str, _one_of(*ENDINGS)]] = [str(ending) for ending in INFRASTRUCTURE]


class JobBody(Body):
    """What a user submits: exactly one of `command` and `script`."""

    name: Name
    tenant: Name = "default"
    command: Annotated[list[Argument], Field(min_length=1, max_length=10_000)] | None = None
    script: Annotated[str, Field(min_length=1, max_length=MOST_SCRIPT_BYTES)] | None = None
    tasks: Annotated[int, Field(ge=1, le=MOST_TASKS)] = 1
    resources: ResourcesBody = ResourcesBody()
    inputs: Annotated[list[InputBody], Field(max_length=1_000)] = []
    outputs: Annotated[list[OutputBody], Field(max_length=15)] = []
    run_time: Duration | None = None
    walltime: Duration | None = None
    objective: Literal["fastest", "cheapest", "greenest"] | WeightsBody = "fastest"
    max_wait: Duration | None = None
    sites: SitesBody = SitesBody()
    retry: RetryBody = RetryBody()
    priority: Annotated[int, Field(ge=0, le=1_000_000)] = 50
    env: Environment = {}

    @model_validator(mode="after")
    def _is_whole(self) -> JobBody:
        if (self.command is None) == (self.script is None):
            raise ValueError("command: give either command or script")
        for field, names in (("inputs", [each.dataset for each in self.inputs]), ("outputs", [each.dataset for each in self.outputs])):
            if len(set(names)) < len(names):
                raise ValueError(f"{field}: name each dataset once")
        return self
