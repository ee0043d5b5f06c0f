"""Every key in etcd. All are below `/fedbroker/<federation>/`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from topology.dataset import DatasetId

SITES = "sites"
SITE_STATUS = "site-status"
LINKS = "links"
LINK_STATUS = "link-status"
DATASETS = "datasets"
REPLICAS = "replicas"
TENANTS = "tenants"
SPECS = "specs"
WISHES = "wishes"
STATES = "states"
BOOKINGS = "bookings"
UNRESOLVED = "unresolved"
SUBMISSIONS = "submissions"
MEMBERS = "members"
LEADER = "leader"
OWNERS = "owners"
RESTORE = "restore"
PAGE_KEY = "page-key"
PAUSE = "pause"
AUDIT = "audit"
TRACED = "traced"

FEDERATION_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?")
"""Short, since it prefixes every run's name, and those are at most 63 characters at some engines."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one federation. Raises ValueError for a federation name that does not fit `FEDERATION_NAME`."""

    federation: str

    def __post_init__(self) -> None:
        if not FEDERATION_NAME.fullmatch(self.federation):
            raise ValueError(f"federation: {self.federation!r} is not 1 to 16 of a-z, 0-9 and '-' (not first or last)")

    @property
    def prefix(self) -> str:
        """What all keys begin with."""
        return f"/fedbroker/{self.federation}/"

    def of(self, kind: str, *names: str) -> str:
        """The key of a record: its kind, then its names."""
        return "/".join((f"{self.prefix}{kind}", *names))

    def split(self, key: str) -> tuple[str, tuple[str, ...]]:
        """Kind and names of a key."""
        kind, *names = key[len(self.prefix) :].split("/")
        return kind, tuple(names)

    def dataset(self, dataset: DatasetId) -> str:
        """`datasets/<tenant>/<name>@<version>`."""
        return self.of(DATASETS, dataset.tenant, f"{dataset.name}@{dataset.version}")

    def replica(self, dataset: DatasetId, site: str) -> str:
        """`replicas/<tenant>/<name>@<version>/<site>`."""
        return self.of(REPLICAS, dataset.tenant, f"{dataset.name}@{dataset.version}", site)

    def booking(self, dataset: DatasetId, target: str) -> str:
        """`bookings/<target>/<tenant>/<name>@<version>`: one transfer of a dataset to a site at a time."""
        return self.of(BOOKINGS, target, dataset.tenant, f"{dataset.name}@{dataset.version}")
