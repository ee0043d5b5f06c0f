"""Datasets and their replicas. Names belong to a tenant: `vision/corpus@1`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class DatasetId:
    """One version of a tenant's dataset."""

    tenant: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Named, versioned, immutable bytes. Size and checksum are None until measured at a replica. A temporary one goes some time
    after it was made, once no unfinished job reads it."""

    id: DatasetId
    size_bytes: int | None = None
    checksum: str | None = None
    created_at: float = 0.0
    is_temporary: bool = False
    regions: tuple[str, ...] = ()
    """Those that copies may be brought to; empty for all."""

    def may_enter(self, region: str) -> bool:
        """Whether a copy may be brought to a site of this region; what is there already may stay."""
        return not self.regions or region in self.regions


@dataclass(frozen=True, slots=True)
class Replica:
    """A whole copy of a dataset at a site, at `path` below the site's storage."""

    dataset: DatasetId
    site: str
    path: str
