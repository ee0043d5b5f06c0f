"""The one table of engine kinds: what its settings are, and how its adapter is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from adapters.base import SiteAdapter
from adapters.process.adapter import open_process
from adapters.process.settings import ProcessSettings
from topology.site import Site


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of engine. `open` takes the site, its settings as read by `settings`, and the federation's name."""

    settings: type[BaseModel]
    open: Callable[[Site, Any, str], SiteAdapter]


KINDS: Mapping[str, Kind] = {
    "process": Kind(ProcessSettings, open_process),
}


def open_adapter(site: Site, federation: str) -> SiteAdapter:
    """The adapter of a site. Nothing is called there yet. Raises KeyError for a kind that is not in the table."""
    kind = KINDS[site.engine.kind]
    return kind.open(site, kind.settings.model_validate(site.engine.settings), federation)
