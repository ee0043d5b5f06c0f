"""One class against all sites: what speaks against each, or the ways to run it there with their costs, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from broker.jobs.model import Cost, Shape
from broker.placement.arrays import Flags, Floats, Places
from broker.placement.filters import LASTING_RULES, PASSING_RULES, Objection, gpu_types, pool_objection, site_objections
from broker.placement.pools import Pools
from broker.placement.staging import Stagings
from broker.placement.view import SiteView
from topology.resources import EPSILON, MOST_TIMES, Resources


@dataclass(frozen=True, slots=True)
class Options:
    """The ways to run a class where no hard rule speaks against it: one for each pool and GPU type, by the names of site, pool
    and type. `rows` and `places` are those of `Pools`, `sites` places in the order of sites. Costs are without staging and
    waiting."""

    rows: Places
    places: Places
    sites: Places
    gpu_types: tuple[str | None, ...]
    tasks: tuple[Resources, ...]
    run_hours: Floats
    compute_money: Floats
    carbon_kg: Floats
    weighed: Floats

    def __len__(self) -> int:
        return len(self.places)

    def cost(self, option: int, stagings: Stagings | None, wait_hours: float = 0.0) -> Cost:
        """Of one of them, in words that are stored."""
        site = int(self.sites[option])
        return Cost(
            wait_hours=wait_hours,
            staging_hours=float(stagings.hours[site]) if stagings else 0.0,
            run_hours=float(self.run_hours[option]),
            compute_money=float(self.compute_money[option]),
            egress_money=float(stagings.money[site]) if stagings else 0.0,
            carbon_kg=float(self.carbon_kg[option]),
        )


@dataclass(frozen=True, slots=True)
class _Slots:
    """Pools as a class sees them: once each for tasks without GPUs, or once for each GPU type that they have."""

    places: Places
    kinds: Places
    """The type's place in `Pools.kinds`; -1 without."""
    cpu_price: Floats
    gpu_price: Floats


class Judge:
    """Judges classes against sites as they are declared and how they fare; nothing here changes while a plan is made."""

    def __init__(self, views: Sequence[SiteView], pools: Pools) -> None:
        self.views = views
        self._pools = pools
        sites = [views[at].site for at in pools.sites]
        self._speed = np.array([pool.speed for pool in pools.pools])
        self._cpu_w = np.array([pool.power.cpu_w for pool in pools.pools])
        self._gpu_w = np.array([pool.power.gpu_w for pool in pools.pools])
        self._carbon = np.array([site.carbon_g_per_kwh for site in sites])
        self._nodes = np.array([float(pool.nodes) for pool in pools.pools])
        width = 2 + len(pools.kinds)
        self._per_node = np.array([pools.vector(pool.per_node) for pool in pools.pools]).reshape(-1, width)
        cpu_price = np.array([site.price.cpu_hour for site in sites])
        everywhere = np.arange(len(sites))
        self._bare = _Slots(everywhere, everywhere * 0 - 1, cpu_price, cpu_price * 0)
        pairs = [(at, kind) for at in everywhere for kind, _ in pools.pools[at].per_node.gpus]
        at = np.array([at for at, _ in pairs], dtype=np.intp)
        kinds = np.array([pools.kinds.index(kind) for _, kind in pairs], dtype=np.intp)
        gpu_price = np.array([sites[at].price.gpu_hour.get(kind, 0.0) for at, kind in pairs], dtype=float)
        self._with_gpus = _Slots(at, kinds, cpu_price[at], gpu_price)
        self._allowed: dict[object, Flags] = {}
        self._judged: dict[Shape, Options] = {}
        self._against: dict[Shape, dict[str, tuple[Objection, ...]]] = {}

    def options(self, shape: Shape) -> Options:
        """Where and how it may run."""
        found = self._judged.get(shape)
        if found is None:
            found = self._judged[shape] = self._judge(shape)
        return found

    def objections(self, shape: Shape) -> dict[str, tuple[Objection, ...]]:
        """What speaks against a class at each site that offers no way to run it, but for its inputs."""
        found = self._against.get(shape)
        if found is None:
            against = ((view.site.name, _objections(shape, view)) for view in self.views)
            found = self._against[shape] = {site: said for site, said in against if said}
        return found

    def is_ever_open(self, shape: Shape, site: int) -> bool:
        """Whether a site takes a class, or will once what speaks against it has passed."""
        return not any(each.kind.is_lasting for each in _objections(shape, self.views[site]))

    def _judge(self, shape: Shape) -> Options:
        gpus = shape.resources.gpus
        slots = self._with_gpus if gpus.count else self._bare
        each = np.zeros((len(slots.places), 2 + len(self._pools.kinds)))
        each[:, 0], each[:, 1] = shape.resources.cpus, shape.resources.memory_gib
        if gpus.count:
            each[np.arange(len(each)), 2 + slots.kinds] = gpus.count
        times = _per_node(self._per_node[slots.places], each)
        fits = (times >= 1) & (times * self._nodes[slots.places] >= shape.tasks)
        if gpus.count and gpus.types:
            wanted = np.array([kind in gpus.types for kind in self._pools.kinds], dtype=bool)
            fits &= wanted[slots.kinds]
        chosen = np.flatnonzero(fits & self._open_to(shape)[self._pools.sites[slots.places]])
        places = slots.places[chosen]
        kinds = [self._pools.kinds[kind] if kind >= 0 else None for kind in slots.kinds[chosen]]
        of_kind = {kind: shape.resources.on(kind) for kind in dict.fromkeys(kinds)}
        rows = {kind: self._pools.row(task, shape.tasks) for kind, task in of_kind.items()}
        hours = shape.run_time_s / self._speed[places] / 3600
        money, carbon = self._prices(shape, slots, chosen, hours)
        objective = shape.objective
        weighed = objective.hours * hours + objective.money * money + objective.carbon_kg * carbon
        return Options(
            rows=np.array([rows[kind] for kind in kinds], dtype=np.intp),
            places=places,
            sites=self._pools.sites[places],
            gpu_types=tuple(kinds),
            tasks=tuple(of_kind[kind] for kind in kinds),
            run_hours=hours,
            compute_money=money,
            carbon_kg=carbon,
            weighed=weighed,
        )

    def _prices(self, shape: Shape, slots: _Slots, chosen: Places, hours: Floats) -> tuple[Floats, Floats]:
        """Money is hours * tasks * (cpus * price of a cpu + GPUs * price of that GPU); carbon is the power of the busy cpus and
        GPUs: W * h / 1000 = kWh, times g per kWh / 1000 = kg."""
        each, gpus, places = shape.resources, shape.resources.gpus.count, slots.places[chosen]
        money = hours * shape.tasks * (each.cpus * slots.cpu_price[chosen] + gpus * slots.gpu_price[chosen])
        watts = shape.tasks * (each.cpus * self._cpu_w[places] + gpus * self._gpu_w[places])
        return money, watts * hours / 1000 * self._carbon[places] / 1000

    def _open_to(self, shape: Shape) -> Flags:
        """The sites as a whole that no rule speaks against: the same for all shapes of which those rules see the same."""
        rules = shape.sites
        asked = (rules.names, rules.exclude, rules.regions, rules.fabric, rules.file_system)
        looked_at = (asked, shape.refused_by, shape.needs)
        found = self._allowed.get(looked_at)
        if found is None:
            against = (site_objections(shape, view, LASTING_RULES + PASSING_RULES) for view in self.views)
            found = np.array([not said for said in against], dtype=bool)
            self._allowed[looked_at] = found
        return found


def _per_node(nodes: Floats, each: Floats) -> Floats:
    """How many tasks fit an empty node of each pool."""
    whole = np.where(each > EPSILON, each, np.inf)
    times: Floats = np.where(np.isfinite(whole), (nodes + EPSILON) // whole, np.inf).min(axis=1, initial=MOST_TIMES)
    return times


def _objections(shape: Shape, view: SiteView) -> tuple[Objection, ...]:
    """What the hard rules say that look at a site alone."""
    objections = site_objections(shape, view, LASTING_RULES + PASSING_RULES)
    pairs = [(pool, gpu_type) for pool in view.site.pools for gpu_type in gpu_types(shape, pool)]
    against = [pool_objection(shape, view.site, pool, gpu_type) for pool, gpu_type in pairs]
    if all(against):
        objections += tuple(dict.fromkeys(objection for objection in against if objection))
    return objections
