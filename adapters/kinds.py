"""The one table of engine kinds: what its settings are, and how its adapter is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from adapters.base import SiteAdapter
from adapters.kubernetes.settings import KubernetesSettings
from adapters.lsf.adapter import open_lsf
from adapters.lsf.settings import LsfSettings
from adapters.process.adapter import open_process
from adapters.process.settings import ProcessSettings
from adapters.ray.adapter import open_ray
from adapters.ray.settings import RaySettings
from adapters.slurm.adapter import open_slurm
from adapters.slurm.settings import SlurmSettings
from adapters.yarn.adapter import open_yarn
from adapters.yarn.settings import YarnSettings
from topology.site import Site


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of engine. `open` takes the site, its settings as read by `settings`, and the federation's name. `takes` is what
    it can run that others cannot: `images` (a run names a container image), `spark` (a run is a Spark application)."""

    settings: type[BaseModel]
    open: Callable[[Site, Any, str], SiteAdapter]
    takes: frozenset[str] = frozenset()


def _open_kubernetes(site: Site, settings: KubernetesSettings, federation: str) -> SiteAdapter:
    from adapters.kubernetes.adapter import open_kubernetes  # an extra: kubernetes-asyncio

    return open_kubernetes(site, settings, federation)


KINDS: Mapping[str, Kind] = {
    "kubernetes": Kind(KubernetesSettings, _open_kubernetes, frozenset({"images"})),
    "process": Kind(ProcessSettings, open_process),
    "lsf": Kind(LsfSettings, open_lsf),
    "ray": Kind(RaySettings, open_ray),
    "slurm": Kind(SlurmSettings, open_slurm),
    "yarn": Kind(YarnSettings, open_yarn, frozenset({"spark"})),
}


def takes(kind: str) -> frozenset[str]:
    """What engines of this kind run that others cannot; nothing for a kind that is not in the table."""
    return KINDS[kind].takes if kind in KINDS else frozenset()


def open_adapter(site: Site, federation: str) -> SiteAdapter:
    """The adapter of a site. Nothing is called there yet. Raises KeyError for a kind that is not in the table."""
    kind = KINDS[site.engine.kind]
    return kind.open(site, kind.settings.model_validate(site.engine.settings), federation)
