"""Whose turn it is: among tenants, and inside one by priority, deadline and age."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.placement.assign import plan
from broker.placement.fair import SLACK, ByFairShare
from broker.placement.view import TenantView
from tests.broker.placement.worlds import a_shape, a_view, a_world, waiting
from topology.resources import Resources


def placed(world):
    """Jobs placed, by tenant."""
    counts = Counter()
    for placement in plan(world).placements:
        counts[placement.shape.tenant] += placement.count
    return dict(counts)


def a_queue(tenant, count=100, **shape):
    return waiting(a_shape(tenant=tenant, **shape), count)


def test_equal_tenants_get_equal_shares_however_long_their_queues():
    world = a_world(a_view("ams", cpus=12), classes=[a_queue("a", 1000), a_queue("b", 8)])
    assert placed(world) == {"a": 6, "b": 6}


def test_shares_go_by_weight():
    tenants = (TenantView("a", weight=3.0), TenantView("b"))
    world = a_world(a_view("ams", cpus=12), classes=[a_queue("a"), a_queue("b")], tenants=tenants)
    assert placed(world) == {"a": 9, "b": 3}


def test_the_dominant_resource_counts():
    # Ghodsi et al., NSDI 2011, section 4.1: 9 cpus and 18 GB; a wants <1 cpu, 4 GB>, b <3 cpus, 1 GB>: 3 jobs of a, 2 of b
    view = a_view("ams", cpus=9)
    (room,) = [replace(free, memory_gib=18.0) for free, _ in view.rooms["cpu"].groups]
    view = replace(view, rooms={"cpu": type(view.rooms["cpu"])(((room, 1),))})
    jobs = [a_queue("a", cpus=1, memory_gib=4), a_queue("b", cpus=3, memory_gib=1)]
    assert placed(a_world(view, classes=jobs)) == {"a": 3, "b": 2}


def test_what_a_tenant_holds_counts():
    tenants = (TenantView("a", holds=Resources(cpus=6)), TenantView("b"))
    world = a_world(a_view("ams", cpus=12, free=[6]), classes=[a_queue("a"), a_queue("b")], tenants=tenants)
    assert placed(world)["b"] >= 5


def test_what_a_tenant_held_of_late_counts():
    tenants = (TenantView("a", past=(6.0, 0.0, 0.0)), TenantView("b"))
    world = a_world(a_view("ams", cpus=12), classes=[a_queue("a"), a_queue("b")], tenants=tenants)
    assert placed(world) == {"a": 3, "b": 9}


def test_a_tree_shares_level_by_level():
    parents = (TenantView("physics"), TenantView("ml"))
    tenants = (*parents, TenantView("a", "physics"), TenantView("b", "physics"), TenantView("c", "ml"))
    queues = [a_queue(name) for name in "abc"]
    assert placed(a_world(a_view("ams", cpus=12), classes=queues, tenants=tenants)) == {"a": 3, "b": 3, "c": 6}


def test_what_a_branch_does_not_want_goes_to_the_others():
    tenants = (TenantView("physics"), TenantView("ml"), TenantView("a", "physics"), TenantView("c", "ml"))
    queues = [a_queue("a", 2), a_queue("c")]
    assert placed(a_world(a_view("ams", cpus=12), classes=queues, tenants=tenants)) == {"a": 2, "c": 10}


def test_an_inner_tenant_may_submit_itself():
    tenants = (TenantView("ml"), TenantView("a", "ml"), TenantView("b"))
    queues = [a_queue("ml"), a_queue("a"), a_queue("b")]
    assert placed(a_world(a_view("ams", cpus=12), classes=queues, tenants=tenants)) == {"ml": 3, "a": 3, "b": 6}


def test_a_sibling_that_holds_much_does_not_cost_the_others_their_turn():
    # a holds half of all and wants no more; its sibling b wants, and so does c outside
    tenants = (TenantView("ml"), TenantView("a", "ml", holds=Resources(cpus=6)), TenantView("b", "ml"), TenantView("c"))
    world = a_world(a_view("ams", cpus=12, free=[6]), classes=[a_queue("b"), a_queue("c")], tenants=tenants)
    assert placed(world) == {"b": 3, "c": 3}


CIRCLE = (TenantView("a", "b"), TenantView("b", "a"))


@pytest.mark.parametrize("tenants", [CIRCLE, (TenantView("a", "a"),), (TenantView("a", "unknown"),)])
def test_a_tree_that_is_none_stands_at_the_top(tenants):
    assert placed(a_world(a_view("ams", cpus=4), classes=[a_queue("a")], tenants=tenants)) == {"a": 4}


def test_priority_counts_inside_a_tenant_only():
    queues = [a_queue("a", priority=90), a_queue("a", run_hours=2, priority=10), a_queue("b", priority=10)]
    made = plan(a_world(a_view("ams", cpus=8), classes=queues))
    counts = Counter()
    for placement in made.placements:
        counts[placement.shape.tenant, placement.shape.priority] += placement.count
    assert counts == {("a", 90): 4, ("b", 10): 4}


def test_a_near_deadline_goes_before_age_and_not_before_priority():
    # room for two: the urgent one must start within 10 min to end in time, the calm one within 9 h
    urgent, calm = a_shape(run_hours=1, deadline_s=4200), a_shape(run_hours=1, deadline_s=36000)
    old, high = a_shape(run_hours=2), a_shape(run_hours=3, priority=90)
    queues = [waiting(urgent, age=1), waiting(calm, age=2), waiting(old, age=900), waiting(high)]
    made = plan(a_world(a_view("ams", cpus=3), classes=queues))
    assert [placement.shape for placement in made.placements] == [high, urgent, old]


def test_of_near_deadlines_the_earliest_goes_first():
    first, second = a_shape(run_hours=1, deadline_s=4000), a_shape(run_hours=2, deadline_s=7900)
    made = plan(a_world(a_view("ams", cpus=1), classes=[waiting(second, age=99), waiting(first, age=1)]))
    assert [placement.shape for placement in made.placements] == [first]


TENANTS = ("a", "b", "c", "d")


@st.composite
def trees(draw):
    """Tenants in a tree of two levels, each with a queue that it cannot place in whole, on one large node."""
    inner = draw(st.integers(1, 2))
    parents = [TenantView(f"p{number}", weight=draw(st.sampled_from([1.0, 2.0]))) for number in range(inner)]
    leaves = [TenantView(name, draw(st.sampled_from(parents)).name, draw(st.sampled_from([1.0, 1.0, 3.0]))) for name in TENANTS]
    used = {leaf.parent for leaf in leaves}
    cpus, memory = st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.25, 0.5, 1.0])
    shapes = [a_shape(tenant=leaf.name, cpus=draw(cpus), memory_gib=draw(memory)) for leaf in leaves]
    queues = [waiting(shape, 400, draw(st.integers(0, 9))) for shape in shapes]
    return [parent for parent in parents if parent.name in used], leaves, queues


@given(trees(), st.randoms())
@settings(max_examples=60, deadline=None)
def test_each_tenant_that_wants_more_has_its_part_of_the_federation(found, chance):
    """The sharing incentive: never less than what a federation of its own, as large as its weights say, would give it."""
    parents, leaves, queues = found
    chance.shuffle(queues)
    world = a_world(a_view("ams", cpus=100), classes=queues, tenants=(*parents, *leaves))
    counts = placed(world)
    weights = {parent.name: parent.weight for parent in parents}
    for queued in queues:
        leaf = next(leaf for leaf in leaves if leaf.name == queued.shape.tenant)
        siblings = sum(other.weight for other in leaves if other.parent == leaf.parent)
        part = weights[leaf.parent] / sum(weights.values()) * leaf.weight / siblings
        each = max(queued.shape.resources.cpus / 100, queued.shape.resources.memory_gib / 64)
        largest = max(max(other.shape.resources.cpus / 100, other.shape.resources.memory_gib / 64) for other in queues)
        held = counts.get(leaf.name, 0) * each
        assert held >= part - 4 * (largest + SLACK) or counts[leaf.name] == queued.count


@given(trees())
@settings(max_examples=60, deadline=None)
def test_whoever_has_the_least_is_next(found):
    parents, leaves, queues = found
    first, *others = leaves
    holding = [replace(leaf, holds=Resources(cpus=1 + number)) for number, leaf in enumerate(others)]
    tenants = (*parents, first, *holding)
    order = ByFairShare(a_world(a_view("ams", cpus=100), classes=queues, tenants=tenants))
    shares = order.shares()
    turn = order.turn()
    assert turn is not None
    branch = min((parent for parent in parents), key=lambda parent: (shares[parent.name], parent.name))
    mine = [leaf for leaf in leaves if leaf.parent == branch.name]
    assert turn[0].shape.tenant == min(mine, key=lambda leaf: (shares[leaf.name], leaf.name)).name
