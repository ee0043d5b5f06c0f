"""Settings of a site whose engine is `yarn`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from adapters.secrets import Secret
from adapters.yarn.master.staging import Place
from topology.site import Site

Url = Annotated[str, StringConstraints(pattern="^https?://[^/?#]+(/[^?#]*)?$")]


HostPort = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.\-]+:[0-9]+$")]
HDFS_PORT = 9870
"""Of a name node's web address where nothing says (hdfs-default.xml, dfs.namenode.http-address)."""


class SparkSettings(BaseModel):
    """Where a site's nodes have Spark."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: str = Field(pattern=r"^/[A-Za-z0-9._/+\-]+$")
    """Spark's folder on every node, with its `jars` and `python`."""
    python: str = "python3"
    """What runs Python applications, on every node: as new as that Spark asks for."""


class YarnSettings(BaseModel):
    """Only the resource manager has no default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resource_manager: tuple[Url, ...] = Field(min_length=1)
    """Web addresses of the resource managers, `http://host:8088`; where there are several, the active one is looked for."""
    user: str = "fedbroker"
    """Whom applications belong to, as YARN's simple authentication takes it (`user.name`)."""
    password: Secret | None = None
    """With it `user` logs in by HTTP Basic, as a gateway before the resource manager asks."""
    token: Secret | None = None
    """A bearer token, as a gateway asks for; instead of `password`."""
    ca_file: str | None = Field(default=None, pattern="^/")
    """Certificates of those who sign the resource manager's; the system's when absent."""
    queue: str = "default"
    queues: Mapping[str, str] = Field(default_factory=dict)
    """Tenant to queue, where it is not `queue`."""
    priority: int | None = Field(default=None, ge=0)
    """Of applications within their queue; the queue's default when absent."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Pool to node label; nodes without a label are the pool that is not named here."""
    gpus: Mapping[str, str] = Field(default_factory=dict)
    """GPU type to YARN's resource type, where it is not `yarn.io/gpu`."""
    mount: str | None = Field(default=None, pattern="^/")
    """Where tasks see the site's storage; the path of its url when that is a `file:` one. Without it storage whose url is
    `webhdfs:` is not mounted: tasks get copies of their inputs, and their outputs are stored."""
    name_nodes: tuple[HostPort, ...] = ()
    """host:port of the web addresses of HDFS's name nodes as nodes reach them, for storage that is not mounted; that of the
    storage's url when absent."""
    python: str = "python3"
    """Python 3.8 or newer on every node: the application master needs it, and nothing else."""
    spark: SparkSettings | None = None
    """Without it the site takes no Spark applications."""
    scheduler_address: str | None = None
    """host:port at which application masters reach the resource manager; as the nodes' yarn-site.xml says when absent."""
    gang_patience_s: float = Field(default=600.0, gt=0)
    """For how long a gang holds some of its containers while it waits for the others, before it gives all back and fails."""
    grace_s: float = Field(default=5.0, ge=0)
    """Between SIGTERM and SIGKILL when a run's walltime is over."""
    concurrency: int = Field(default=8, ge=1)
    """Calls in flight while runs are submitted or cancelled."""

    @model_validator(mode="after")
    def _is_one_login(self) -> YarnSettings:
        if self.password and self.token:
            raise ValueError("give a password or a token, not both")
        return self

    def label(self, pool: str) -> str:
        """The partition that is this pool; empty for the default one."""
        return self.labels.get(pool, "")

    def resource_type(self, gpu: str) -> str:
        """YARN's name for a type of GPU."""
        return self.gpus.get(gpu, "yarn.io/gpu")


def storage_of(site: Site, settings: YarnSettings) -> PurePosixPath | Place:
    """Where tasks see the site's storage, or where it is in HDFS. Raises ValueError where nothing says, or where HDFS asks for
    more than a user's name."""
    url = urlsplit(site.storage.url)
    if settings.mount:
        return PurePosixPath(settings.mount)
    if url.scheme == "file" and url.path.startswith("/"):
        return PurePosixPath(unquote(url.path))
    if url.scheme != "webhdfs":
        raise ValueError(f"engine.settings.mount: say where tasks see {site.storage.url}")
    options = site.storage.options
    for asked in ("token", "password", "https"):
        if options.get(asked):
            raise ValueError(
                f"engine.settings.mount: tasks come to {site.storage.url} by a user's name alone and over plain HTTP, and its "
                f"options say {asked}: say where nodes mount it"
            )
    name_nodes = settings.name_nodes or (f"{url.hostname}:{url.port or HDFS_PORT}",)
    return Place(name_nodes, str(options.get("user") or settings.user), unquote(url.path) or "/")
