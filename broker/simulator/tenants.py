"""What tenants hold, and have held of late, in a simulation: as the planner of a broker is told of it."""

from __future__ import annotations

from dataclasses import replace

from broker.placement.fading import NONE, Fading
from broker.placement.view import TenantView
from broker.simulator.scenario import Scenario
from topology.resources import Resources


class Tenants:
    """All that are named in a scenario, or have jobs in it."""

    def __init__(self, scenario: Scenario) -> None:
        declared = {tenant.name: tenant for tenant in scenario.tenants}
        jobs = (*scenario.arrivals, *(each.arrival for each in scenario.begun))
        names = sorted({*declared, *(arrival.shape.tenant for arrival in jobs)})
        self._declared = [declared.get(name, TenantView(name)) for name in names]
        self._fading = Fading(scenario.half_life_s, {tenant.name: tenant.past for tenant in scenario.tenants}, 0.0)
        self._holds = {name: Resources() for name in names}
        self._holds_at: dict[str, dict[str, Resources]] = {name: {} for name in names}

    def hold(self, tenant: str, site: str, amount: Resources) -> None:
        """A tenant holds so much more at a site."""
        at = self._holds_at[tenant]
        at[site] = at.get(site, Resources()) + amount
        self._holds[tenant] += amount

    def let_go(self, tenant: str, site: str, amount: Resources) -> None:
        """A tenant holds so much less at a site."""
        self._holds_at[tenant][site] -= amount
        self._holds[tenant] -= amount

    def views(self, now: float) -> tuple[TenantView, ...]:
        """As of now (seconds from the start)."""
        past = self._fading.look(now, self._holds)
        return tuple(
            replace(each, holds=self._holds[each.name], past=past.get(each.name, NONE), holds_at=dict(self._holds_at[each.name]))
            for each in self._declared
        )
