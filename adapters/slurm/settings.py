"""Settings of a site whose engine is `slurm`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.commands import Transport
from adapters.secrets import Secret

Version = Literal["v0.0.38", "v0.0.40", "v0.0.41", "v0.0.42"]


class RestSettings(BaseModel):
    """A slurmrestd that takes JWTs (https://slurm.schedmd.com/rest.html)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern="^https?://[^/]+")
    """Without the version: `http://login1:6820`."""
    user: str = Field(min_length=1)
    token: Secret
    """What `scontrol token` prints after `SLURM_JWT=`; read again for each request, so that one that was renewed is used."""
    version: Version | None = None
    """The dialect to speak; asked for when absent, the newest first."""
    connections: int = Field(default=8, ge=1)
    """Requests at once: there is no request that submits or cancels many."""


class Place(BaseModel):
    """Where at the site a run goes, in Slurm's words. What is absent is left to Slurm's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    """Features of nodes, as for `sbatch --constraint`."""
    reservation: str | None = None


class SlurmSettings(BaseModel):
    """Slurm is spoken to by `rest` where that is given, else by `command`. Files are read by `command` where that is given,
    else at the storage's path on the broker's own machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rest: RestSettings | None = None
    command: Transport | None = None
    """Where `sbatch` and the others are run: here (`{kind: local}`) or at a login node (`{kind: ssh, ...}`)."""
    mount: str | None = Field(default=None, pattern="^/")
    """Where the nodes, and the login node, see the site's storage; the path of its URL when absent."""
    path: str = "/usr/local/bin:/usr/bin:/bin"
    """PATH of the runs; `srun` and `scontrol` must be in it."""
    pools: Mapping[str, Place] = {}
    """By pool. A pool's partition is the one of its name where none is given."""
    tenants: Mapping[str, Place] = {}
    """By tenant; what is given here comes before what the pool says."""
    gpus: Mapping[str, str] = {}
    """GPU type of ours to Slurm's, where they differ: the word between the colons of `gpu:a100:2`."""
    history: bool = False
    """Whether the site has accounting (slurmdbd) in which a run is found after `MinJobAge`."""

    @model_validator(mode="after")
    def _is_reachable(self) -> SlurmSettings:
        if self.rest is None and self.command is None:
            raise ValueError("give rest, command or both")
        return self

    def place(self, pool: str, tenant: str) -> Place:
        """Where a run of this tenant in this pool goes; it has a partition."""
        of_pool, of_tenant = self.pools.get(pool, Place()), self.tenants.get(tenant, Place())
        given = {"partition": pool, **of_pool.model_dump(exclude_none=True), **of_tenant.model_dump(exclude_none=True)}
        return Place(**given)

    def place_of(self, pool: str) -> Place:
        """What the pool's own settings say; it has a partition."""
        return self.place(pool, "")
