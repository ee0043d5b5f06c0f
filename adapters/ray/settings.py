"""Settings of a site whose engine is `ray`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from adapters.secrets import Secret
from topology.site import Site

AbsolutePath = Annotated[str, StringConstraints(pattern="^/")]
ResourceName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PoolSettings(_Strict):
    """Which nodes are a pool: those that have the custom resource and all of the labels.
    https://docs.ray.io/en/latest/ray-core/scheduling/labels.html"""

    resource: ResourceName | None = None
    labels: Mapping[str, str] = {}


class GpuSettings(_Strict):
    """How a GPU type is told, by a custom resource: of `counted` a node has as many as GPUs of the type; `marker` is had by
    nodes all of whose GPUs are of the type, as Ray itself sets `accelerator_type:A100`."""

    counted: ResourceName | None = None
    marker: ResourceName | None = None


class RaySettings(_Strict):
    """Where the head is, who we are there, and how runs become its jobs."""

    url: str = Field(pattern="^https?://[^/]+/?$")
    """Of the dashboard, which has the Jobs API."""
    ca_file: AbsolutePath | None = None
    """Certificates by which an https address is known; those of this machine when absent."""
    token: Secret | None = None
    """Where the cluster asks for one: https://docs.ray.io/en/latest/ray-security/token-auth.html"""
    pools: Mapping[str, PoolSettings] = {}
    """By pool of the site; a pool that is absent here is every node that has cpus."""
    gpus: Mapping[str, GpuSettings] = {}
    """By GPU type; `marker: accelerator_type:<TYPE>`, in capitals, for one that is absent."""
    mount: AbsolutePath | None = None
    """Where tasks see the site's storage; at the path of `storage.url` when absent."""
    python: str = "python3"
    """The Python that has the cluster's ray, as nodes call it."""
    runtime_env: Mapping[str, Any] = {}
    """Of every job: https://docs.ray.io/en/latest/ray-core/handling-dependencies.html#runtime-environments"""
    leader_resources: Mapping[ResourceName, float] = {}
    """What the process that leads a gang takes: a custom resource bounds how many gangs wait at once."""
    grace_s: float = Field(default=2.0, ge=0, le=600)
    """Between SIGTERM and SIGKILL. Ray itself kills `RAY_JOB_STOP_WAIT_TIME_S`, 3 s, after a cancel."""
    afterlife_s: float = Field(default=90.0, ge=0, le=3600)
    """How long after the start of a head nodes may go on with what an earlier head gave them: Ray's
    `RAY_gcs_rpc_server_reconnect_timeout_s`, which is 60, and some more. Until then no run that the head does not know of is
    taken for gone."""

    def pool(self, name: str) -> PoolSettings:
        """What is said of a pool."""
        return self.pools.get(name, PoolSettings())

    def gpu(self, kind: str) -> GpuSettings:
        """What is said of a GPU type."""
        said = self.gpus.get(kind, GpuSettings())
        return said if said.counted or said.marker else GpuSettings(marker=f"accelerator_type:{kind.upper()}")


def check(site: Site, settings: RaySettings) -> None:
    """Raises ValueError, with the field and the cure, for settings that do not fit the rest of the site."""
    for name in settings.pools.keys() - {pool.name for pool in site.pools}:
        raise ValueError(f"pools.{name}: the site has no such pool")
    storage_mount(site, settings)


def storage_mount(site: Site, settings: RaySettings) -> PurePosixPath:
    """Where tasks see the site's storage. Raises ValueError when nothing says so."""
    path = settings.mount
    if path is None and urlsplit(site.storage.url).scheme == "file":
        path = unquote(urlsplit(site.storage.url).path)
    if not path or not path.startswith("/"):
        raise ValueError("mount: say where tasks see storage that is not file:///some/directory")
    return PurePosixPath(path)
