"""Worlds drawn at random, and what is asked of plans over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st

from broker.jobs.model import Shape, Spread, Together, Weights
from broker.placement import assign
from broker.placement.assign import plan
from broker.placement.view import Group, Placement, Plan, PlanInput, QueuedClass, SiteView
from tests.broker.placement.worlds import a_link, a_shape, a_view, a_world, running, waiting
from topology.graph import Topology
from topology.room import Room
from topology.site import Price

SITES = ("ams", "fra", "osl")
DATASETS = ("corpus", "images")
PRIORITIES = (10, 50, 90)

shapes = st.builds(
    a_shape,
    run_hours=st.sampled_from([0.1, 1, 3]),
    tasks=st.integers(1, 6),
    cpus=st.sampled_from([0.5, 1, 3]),
    gpus=st.sampled_from([0, 0, 1]),
    inputs=st.lists(st.sampled_from(DATASETS), max_size=2, unique=True).map(tuple),
    priority=st.sampled_from(PRIORITIES),
    objective=st.sampled_from([Weights(), Weights(1, 1, 0), Weights(0, 0, 1)]),
)


@st.composite
def views(draw: st.DrawFn, name: str) -> SiteView:
    held = draw(st.integers(0, 4))
    return a_view(
        name,
        cpus=draw(st.sampled_from([2, 4, 8])),
        nodes=draw(st.integers(1, 4)),
        gpus={"a100": 2} if draw(st.booleans()) else {},
        held=(running(held, until=draw(st.sampled_from([0.25, 1, 5]))),) if held else (),
        speed=draw(st.sampled_from([1.0, 2.0])),
        queue_ahead=draw(st.sampled_from([0.0, 0.0, 1.0])),
    )


@st.composite
def worlds(draw: st.DrawFn) -> PlanInput:
    sites = [draw(views(name)) for name in SITES]
    chosen = draw(st.lists(shapes, min_size=1, max_size=6, unique=True))
    classes = [waiting(shape, draw(st.integers(1, 8)), draw(st.integers(0, 99))) for shape in chosen]
    links = [a_link(a, b, draw(st.sampled_from([0.5, 2]))) for a in SITES for b in SITES if a != b and draw(st.booleans())]
    at = {name: draw(st.sampled_from(["ams", "osl", "ams fra"])) for name in DATASETS}
    return a_world(*sites, classes=classes, links=links, at=at)


RULES = st.fixed_dictionaries(
    {},
    optional={
        "max_cost": st.sampled_from([0.0, 0.5, 2.0, 9.0]),
        "deadline_s": st.sampled_from([60.0, 5000.0, 20_000.0]),
        "prefer": st.lists(st.sampled_from([*SITES, "gone"]), max_size=3, unique=True).map(tuple),
        "spill_after_s": st.sampled_from([0.0, 30.0, 600.0]),
        "affinity": st.sampled_from(["x", "y"]),
        "spread": st.builds(Spread, st.sampled_from(["x", "y"]), st.integers(1, 3)),
        "preemptible": st.booleans(),
    },
)
"""Of a shape: what limits and what prefers."""


def with_rules(shape: Shape, rules: dict[str, Any]) -> Shape:
    """The same shape, which says these fields of itself or of its sites."""
    own = {name: value for name, value in rules.items() if name in ("max_cost", "deadline_s", "preemptible")}
    of_sites = {name: value for name, value in rules.items() if name not in own}
    return replace(shape, sites=replace(shape.sites, **of_sites), **own)


@st.composite
def ruled_worlds(draw: st.DrawFn) -> PlanInput:
    """Worlds in which classes have rules and ages, sites prices and regions, datasets regions, and some jobs are at sites."""
    world = draw(worlds())
    classes = {}
    for queued in world.classes:
        shape = with_rules(queued.shape, draw(RULES))
        ages = sorted(draw(st.lists(st.sampled_from([0, 29, 30, 61, 700, 4000]), min_size=1, max_size=6)), reverse=True)
        classes[shape] = QueuedClass(shape, tuple(world.now - age for age in ages), len(ages))
    sites = {view.site.name: replace(view.site, region=view.site.name, price=Price("EUR", draw(PRICES))) for view in world.sites}
    names = st.lists(st.sampled_from(SITES), max_size=2, unique=True).map(tuple)
    datasets = [replace(each, regions=draw(names)) for each in world.topology.datasets.values()]
    replicas = [world.topology.replica(each.id, at) for each in datasets for at in world.topology.replica_sites(each.id)]
    links = [replace(link, price_per_gib=draw(PRICES) / 1000) for link in world.topology.links.values()]
    at_site = st.sampled_from(SITES)
    homes = [Group("default", Together.AFFINITY, word, {draw(at_site): 1}) for word in ("x", "y") if draw(st.booleans())]
    counts = st.dictionaries(at_site, st.integers(1, 2), min_size=1)
    spreads = [Group("default", Together.SPREAD, word, draw(counts)) for word in ("x", "y") if draw(st.booleans())]
    return replace(
        world,
        topology=Topology.of(sites.values(), links, datasets, replicas),
        sites=tuple(replace(view, site=sites[view.site.name]) for view in world.sites),
        classes=tuple(classes.values()),
        groups=(*homes, *spreads),
    )


PRICES = st.sampled_from([0.0, 0.2, 1.0])


def rooms_after(world: PlanInput, placements: Iterable[Placement]) -> dict[str, Room]:
    """What is left at each site; fails when something was placed that does not fit whole, but for what waits in its own queue."""
    rooms = {view.site.name: view.rooms["cpu"] for view in world.sites}
    for view in world.sites:
        for held in view.held:
            room = rooms[view.site.name]
            left = room.take(held.task, min(room.fit(held.task), held.tasks * len(held.ends)))
            assert left is not None
            rooms[view.site.name] = left
    for placement in placements:
        if is_ahead(placement):
            continue
        task = placement.shape.resources.on(placement.gpu_type)
        left = rooms[placement.site].take(task, placement.shape.tasks * placement.count)
        assert left is not None
        rooms[placement.site] = left
    return rooms


def is_ahead(placement: Placement) -> bool:
    """Whether it waits in the site's own queue."""
    return placement.decision.cost.wait_hours > 0


def greedy(world: PlanInput) -> Plan:
    """The plan without another deal of what it places."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(assign, "reassigned", lambda plan, *_: plan)
        return plan(world)


def cost_of(made: Plan, priority: int | None = None) -> float:
    """What placements weigh together, or those of one priority; what is brought counts once for all jobs that share it."""
    total = 0.0
    for placement in made.placements:
        cost, objective = placement.decision.cost, placement.shape.objective
        if priority in (None, placement.shape.priority):
            total += placement.count * cost.weighed(objective) - (placement.count - 1) * objective.money * cost.egress_money
    return total
