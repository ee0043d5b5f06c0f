"""What tenants hold and held of late, and how many of their jobs are where, in a simulation: as the broker's planner is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from broker.jobs.model import Shape, Together
from broker.placement.fading import NONE, Fading
from broker.placement.view import Group, TenantView
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


class Groups:
    """How many jobs of a word that they have in common are at each site, for rules of those that belong together."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, Together, str], Counter[str]] = {}

    def count(self, shape: Shape, site: str, more: int) -> None:
        """So many more of a class are at a site; fewer where that is negative."""
        for rule, word in shape.sites.words:
            self._at.setdefault((shape.tenant, rule, word), Counter())[site] += more

    def views(self, shapes: Iterable[Shape]) -> tuple[Group, ...]:
        """Those that these classes belong to, as far as any are at sites."""
        words = dict.fromkeys((shape.tenant, *word) for shape in shapes for word in shape.sites.words)
        return tuple(Group(*word, dict(at)) for word in words if (at := +self._at.get(word, Counter())))
