"""What one plan works out that the next may use again. It changes how long a plan takes, never what is planned."""

from __future__ import annotations

from collections.abc import Sequence

from broker.placement.judge import Judge
from broker.placement.pools import Pools
from broker.placement.routes import Routes
from broker.placement.view import PlanInput
from topology.graph import Topology
from topology.site import Site

MOST_ROWS = 4096
"""Past so many needs all is forgotten."""
MOST_CLASSES = 16_384
"""Past so many classes that were judged, those are."""


class Memory:
    """Made once, and handed to one plan after the other."""

    def __init__(self) -> None:
        self._sites: tuple[Site, ...] = ()
        self._states: tuple[object, ...] = ()
        self._topology: Topology | None = None
        self._pools: Pools | None = None
        self._judge: Judge | None = None
        self._routes: Routes | None = None

    def begin(self, given: PlanInput) -> tuple[Pools, Judge, Routes]:
        """For a plan that begins."""
        views = sorted(given.sites, key=lambda view: view.site.name)
        sites = tuple(view.site for view in views)
        pools, judge = self._pools, self._judge
        if pools is None or judge is None or sites != self._sites or len(pools) > MOST_ROWS:
            if pools is None or len(pools) > MOST_ROWS or _layout(sites) != _layout(self._sites):
                pools = self._pools = Pools(sites)
            judge = None
            self._sites = sites
        states = tuple((view.health, view.reason, view.is_lost, view.takes) for view in views)
        if judge is None or states != self._states or len(judge) > MOST_CLASSES:
            judge = self._judge = Judge(views, pools)
            self._states = states
        pools.begin(views, given.now)
        return pools, judge, self._begin_routes(given.topology, sites)

    def _begin_routes(self, topology: Topology, sites: Sequence[Site]) -> Routes:
        known, names = self._topology, [site.name for site in sites]
        is_same = known is not None and (known.links is topology.links or known.links == topology.links)
        if self._routes is None or not is_same or self._routes.sites != names:
            self._routes = Routes(topology, names)
            self._topology = topology
        return self._routes


def _layout(sites: Sequence[Site]) -> list[object]:
    """What the columns of `Pools` stand for."""
    return [(site.name, site.pools) for site in sites]

