"""Settings of a site whose engine is `lsf`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from adapters.commands import LocalTransport, Transport
from topology.site import Site


class MemoryUnit(StrEnum):
    """The cluster's `LSF_UNIT_FOR_LIMITS`, which says what a memory requirement without a unit means."""

    KB = "KB"
    MB = "MB"
    GB = "GB"
    TB = "TB"

    @property
    def per_gib(self) -> float:
        """So many of this unit are one GiB. LSF's units are powers of 1024."""
        return {"KB": 1024.0**2, "MB": 1024.0, "GB": 1.0, "TB": 1 / 1024}[self.value]


class CpuMode(StrEnum):
    """How cpus are asked for: as job slots, or as cores bound to a slot by affinity scheduling (`AFFINITY=Y` in lsb.hosts)."""

    SLOTS = "slots"
    AFFINITY = "affinity"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PoolSettings(_Settings):
    """Where the runs of a pool go."""

    queue: str | None = None
    """The pool's own name when absent."""
    hosts: tuple[str, ...] = ()
    """Host names and host groups that make up the pool; the queue's hosts when absent."""
    select: str | None = None
    """Resource requirement of its hosts, as in `select[...]`: `mg && ncpus>=64`."""
    app: str | None = None


class TenantSettings(_Settings):
    """As whom a tenant's runs are submitted. What is given here goes before what its pool says."""

    queue: str | None = None
    project: str | None = None
    app: str | None = None
    user_group: str | None = None
    service_class: str | None = None


class LsfSettings(_Settings):
    """All but `mount` have defaults that suit commands on this machine."""

    transport: Transport = LocalTransport()
    bin: str | None = Field(default=None, pattern="^/")
    """Where the commands are (`LSF_BINDIR`); those in `PATH` when absent. `LSF_ENVDIR` and the like go into `transport.env`."""
    mount: str | None = Field(default=None, pattern="^/")
    """Where jobs and the machine of the commands see the site's storage; the path of `storage.url` when absent."""
    pools: Mapping[str, PoolSettings] = {}
    tenants: Mapping[str, TenantSettings] = {}
    """By name; `*` is for those that are not named."""
    gpus: Mapping[str, str] = {}
    """Our name of a type to LSF's `gmodel`; the same name when absent."""
    memory_unit: MemoryUnit | None = None
    """`LSF_UNIT_FOR_LIMITS` of a cluster that takes no units in requirements; where absent each requirement names its unit."""
    cpus: CpuMode = CpuMode.SLOTS
    reservation: str | None = None
    """An advance reservation (`bsub -U`)."""
    pack: int = Field(default=0, ge=0)
    """Runs that one `bsub -pack` submits: the cluster's `LSB_MAX_PACK_JOBS`; 0 where job packs are off, as they are at first."""
    options: tuple[str, ...] = ()
    """More words for every `bsub`."""
    at_once: int = Field(default=8, ge=1)
    """Submissions at the same time."""

    def pool(self, name: str) -> PoolSettings:
        """Settings of a pool, those that are not given included."""
        return self.pools.get(name, PoolSettings())

    def tenant(self, name: str) -> TenantSettings:
        """Settings of a tenant, or those of all that are not named."""
        return self.tenants.get(name, self.tenants.get("*", TenantSettings()))


def mount_of(site: Site, settings: LsfSettings) -> PurePosixPath:
    """Where jobs see the site's storage. Raises ValueError where neither the settings nor the storage's URL say it."""
    if settings.mount:
        return PurePosixPath(settings.mount)
    url = urlsplit(site.storage.url)
    if url.scheme != "file" or not url.path.startswith("/"):
        raise ValueError(f"engine.mount: say where jobs see the site's storage {site.storage.url}")
    return PurePosixPath(unquote(url.path))
