"""Settings of a site whose engine is `kubernetes`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from adapters.secrets import Secret
from topology.site import Site

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""Of an object of Kubernetes: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/"""
AbsolutePath = Annotated[str, StringConstraints(pattern="^/")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scheduler(StrEnum):
    """What starts the pods: Kubernetes itself, or a batch scheduler that was installed beside it."""

    PLAIN = "plain"
    VOLCANO = "volcano"
    KUEUE = "kueue"


class Capacity(StrEnum):
    """Where the room of a pool is read from."""

    NODES = "nodes"
    """Nodes less other people's pods: the login must be allowed to list both in the whole cluster."""
    QUEUE = "queue"
    """What the queue of Volcano or Kueue may use."""
    DECLARED = "declared"
    """The site's pools as they are declared, for clusters that show us neither."""


class Server(_Strict):
    """An API server and a token for it, where there is no kubeconfig."""

    url: str = Field(pattern="^https?://")
    ca_file: AbsolutePath | None = None
    """Certificates by which the server is known; those of this machine when absent."""
    token: Secret


class Volume(_Strict):
    """A directory of the nodes, or a persistent volume claim of the namespace. Exactly one of the two."""

    host_path: AbsolutePath | None = None
    claim: Name | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Volume:
        if (self.host_path is None) == (self.claim is None):
            raise ValueError("give one of host_path and claim")
        return self


class Mount(Volume):
    """Something more that each task sees, such as a tree of software."""

    at: AbsolutePath
    read_only: bool = True


class Toleration(_Strict):
    """https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/"""

    key: str | None = None
    operator: str = Field(default="Equal", pattern="^(Equal|Exists)$")
    value: str | None = None
    effect: str | None = Field(default=None, pattern="^(NoSchedule|PreferNoSchedule|NoExecute)$")


class PoolSettings(_Strict):
    """Which nodes are a pool, and the taints that its tasks may pass."""

    labels: Mapping[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    queue: str | None = None
    """Queue of Volcano, or local queue of Kueue, instead of the site's and the tenant's."""


class GpuSettings(_Strict):
    """How a GPU type is asked for. `labels` tell its nodes where several types have the same resource name."""

    resource: str = "nvidia.com/gpu"
    labels: Mapping[str, str] = {}


class RunAs(_Strict):
    """Numeric user and group of every process of a task."""

    user: int = Field(ge=0)
    group: int = Field(ge=0)


class KubernetesSettings(_Strict):
    """Where the cluster is, who we are there, and how runs become its objects. One of `kubeconfig`, `server` and `in_cluster`."""

    kubeconfig: AbsolutePath | None = None
    context: str | None = None
    server: Server | None = None
    in_cluster: bool = False
    namespace: Name = "default"
    namespaces: Mapping[str, Name] = {}
    """Tenant to namespace, where they have their own."""
    image: str | None = None
    """For jobs that name none. It needs /bin/sh and the usual small tools, as every image does."""
    image_pull_policy: str = Field(default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$")
    image_pull_secrets: tuple[Name, ...] = ()
    storage: Volume | None = None
    """How pods reach the site's storage; the directory of `storage.url` on every node when absent."""
    mount: AbsolutePath | None = None
    """Where tasks see it; at the path of `storage.url` when absent."""
    mounts: tuple[Mount, ...] = ()
    pools: Mapping[str, PoolSettings] = {}
    """By pool of the site; a pool that is absent here is every node."""
    gpus: Mapping[str, GpuSettings] = {}
    """By GPU type; `nvidia.com/gpu` with no label for one that is absent."""
    cpu_request: float = Field(default=1.0, gt=0, le=1)
    """Cpus asked of Kubernetes per cpu of a job: below 1 where a site lets its nodes be overcommitted."""
    service_account: Name | None = None
    priority_class: Name | None = None
    run_as: RunAs | None = None
    grace_s: int = Field(default=30, ge=1)
    """Between SIGTERM and SIGKILL."""
    gather_s: float = Field(default=600.0, gt=0)
    """How long tasks of a gang that have a place wait for the others before they give it back (plain scheduler only)."""
    start_patience_s: float = Field(default=300.0, ge=0)
    """How long a task may fail to start, for an image that cannot be pulled, before its run is given up."""
    scheduler: Scheduler = Scheduler.PLAIN
    queue: str | None = None
    """Queue of Volcano, or local queue of Kueue."""
    queues: Mapping[str, str] = {}
    """Tenant to queue, where they have their own."""
    capacity: Capacity = Capacity.NODES

    @model_validator(mode="after")
    def _agrees(self) -> KubernetesSettings:
        if sum((self.kubeconfig is not None, self.server is not None, self.in_cluster)) != 1:
            raise ValueError("give one of kubeconfig, server and in_cluster")
        if self.context is not None and self.kubeconfig is None:
            raise ValueError("context: it is a kubeconfig that has contexts")
        if self.scheduler is Scheduler.KUEUE and not self.queue:
            raise ValueError("queue: Kueue starts nothing that names no local queue")
        if self.scheduler is Scheduler.PLAIN and self.capacity is Capacity.QUEUE:
            raise ValueError("capacity: queue needs a scheduler with queues")
        return self

    def namespace_of(self, tenant: str) -> str:
        """Where runs of this tenant are."""
        return self.namespaces.get(tenant, self.namespace)

    @property
    def all_namespaces(self) -> tuple[str, ...]:
        """Every namespace that runs may be in."""
        return tuple(sorted({self.namespace, *self.namespaces.values()}))

    def queue_of(self, tenant: str, pool: str) -> str | None:
        """The queue that runs of this tenant for this pool wait in."""
        return self.pool(pool).queue or self.queues.get(tenant, self.queue)

    def pool(self, name: str) -> PoolSettings:
        """What is said of a pool."""
        return self.pools.get(name, PoolSettings())

    def gpu(self, kind: str) -> GpuSettings:
        """What is said of a GPU type."""
        return self.gpus.get(kind, GpuSettings())


def check(site: Site, settings: KubernetesSettings) -> None:
    """Raises ValueError, with the field and the cure, for settings that do not fit the rest of the site."""
    for name in settings.pools.keys() - {pool.name for pool in site.pools}:
        raise ValueError(f"pools.{name}: the site has no such pool")
    if settings.storage is None and urlsplit(site.storage.url).scheme != "file":
        raise ValueError("storage: say by which volume pods reach storage that is not file:///some/directory")
    storage_mount(site, settings)


def storage_mount(site: Site, settings: KubernetesSettings) -> PurePosixPath:
    """Where tasks see the site's storage. Raises ValueError when nothing says so."""
    path = settings.mount or unquote(urlsplit(site.storage.url).path)
    if not path.startswith("/"):
        raise ValueError("mount: say where tasks see the site's storage")
    return PurePosixPath(path)


def storage_volume(site: Site, settings: KubernetesSettings) -> dict[str, Any]:
    """The source of the volume of that storage, as Kubernetes writes it."""
    return volume_source(settings.storage or Volume(host_path=unquote(urlsplit(site.storage.url).path)))


def volume_source(volume: Volume) -> dict[str, Any]:
    """The source of a volume as Kubernetes writes it: https://kubernetes.io/docs/concepts/storage/volumes/"""
    if volume.claim is not None:
        return {"persistentVolumeClaim": {"claimName": volume.claim}}
    return {"hostPath": {"path": volume.host_path, "type": "Directory"}}
