"""A plan made in parts: what must hold whatever the federation and the queue, and what the division is for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.placement.assign import plan
from broker.placement.fair import ByFairShare
from broker.placement.grouping import grouped
from broker.placement.memory import Memory
from broker.placement.merging import plan_in_parts
from broker.placement.partition import Division, divide
from broker.placement.shares import Links, Shares
from broker.placement.sketch import in_whole
from broker.placement.view import Attempts, Passed, Plan, PlanInput, SiteView, TenantView
from broker.records import Quota
from tests.broker.placement.drawn import rooms_after, shapes, worlds
from tests.broker.placement.worlds import NOW, a_link, a_shape, a_view, a_world, running, waiting
from topology.resources import Resources

counts = st.integers(1, 4)


def plans(parts: Sequence[PlanInput]) -> list[Plan]:
    return [plan(part) for part in parts]


def in_parts(world: PlanInput, count: int) -> Plan:
    return plan_in_parts(world, grouped(world, count), plans)


def divided(world: PlanInput, count: int) -> Division:
    pools, judge, _ = Memory().begin(world)
    return divide(world, grouped(world, count), pools, judge)


def placed(made: Plan) -> Counter:
    found = Counter()
    for placement in made.placements:
        found[placement.shape] += placement.count
    return found


@given(worlds(), counts)
@settings(max_examples=100, deadline=None)
def test_each_site_job_and_link_is_in_exactly_one_part(world, count):
    division = divided(world, count)
    assert sorted(view.site.name for part in division.parts for view in part.sites) == ["ams", "fra", "osl"]
    assert sorted(name for part in division.parts for name in part.topology.links) == sorted(world.topology.links)
    created, in_all = defaultdict(list), Counter()
    for part in division.parts:
        for queued in part.classes:
            created[queued.shape] += queued.created
            in_all[queued.shape] += queued.count
    for queued in world.classes:
        if queued.shape in division.passed:
            assert queued.shape not in created
        else:
            assert (sorted(created[queued.shape]), in_all[queued.shape]) == (sorted(queued.created), queued.count)


@given(worlds(), counts)
@settings(max_examples=200, deadline=None)
def test_nothing_is_placed_beyond_room_and_no_job_twice(world, count):
    made = in_parts(world, count)
    rooms_after(world, made.placements)
    for queued in world.classes:
        number = placed(made)[queued.shape]
        assert number <= queued.count
        assert (number < queued.count) == (queued.shape in made.passed)


@given(worlds(), counts)
@settings(max_examples=200, deadline=None)
def test_what_placements_need_is_booked_once_and_within_each_link(world, count):
    made = in_parts(world, count)
    booked = defaultdict(float)
    for booking in made.bookings:
        for name in booking.links:
            booked[name] += booking.share_gbps
    assert all(share <= world.topology.links[name].bandwidth_gbps * (1 + 1e-9) for name, share in booked.items())
    assert all(free >= 0 for free in Shares(Links(world.topology), made.bookings).free_gbps.values())
    assert len({(booking.dataset, booking.target) for booking in made.bookings}) == len(made.bookings)
    assert {booking for placement in made.placements for booking in placement.bookings} == set(made.bookings)
    for placement in made.placements:
        missing = {dataset for dataset in placement.shape.inputs if not world.topology.replica(dataset, placement.site)}
        assert {booking.dataset for booking in placement.bookings} == missing


@given(worlds(), st.integers(1, 10), counts)
@settings(max_examples=100, deadline=None)
def test_the_limit_of_a_plan_holds_for_the_whole(world, most, count):
    made = in_parts(replace(world, most=most), count)
    assert sum(placed(made).values()) <= most


@given(worlds())
@settings(max_examples=50, deadline=None)
def test_one_part_is_the_whole(world):
    assert in_parts(world, 1) == plan(world)


@given(worlds(), counts, st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_input_does_not_matter(world, count, chance):
    classes, sites = list(world.classes), list(world.sites)
    chance.shuffle(classes)
    chance.shuffle(sites)
    assert in_parts(replace(world, classes=tuple(classes), sites=tuple(sites)), count) == in_parts(world, count)


@given(st.lists(worlds(), min_size=2, max_size=3), st.integers(2, 3))
@settings(max_examples=50, deadline=None)
def test_what_is_remembered_of_earlier_plans_changes_nothing(found, count):
    memory = Memory()
    for world in found:
        groups = grouped(world, count)
        assert plan_in_parts(world, groups, plans, memory) == plan_in_parts(world, groups, plans)


@given(worlds(), shapes, st.integers(1, 8), counts)
@settings(max_examples=150, deadline=None)
def test_of_a_class_alone_without_data_no_fewer_start_than_in_the_whole_where_nothing_runs(world, shape, jobs, count):
    shape = replace(shape, inputs=())
    empty = tuple(replace(view, held=(), site=replace(view.site, queue_ahead=0.0)) for view in world.sites)
    alone = replace(world, sites=empty, classes=(waiting(shape, jobs),))
    assert placed(in_parts(alone, count)) >= placed(plan(alone))


def test_sites_that_are_linked_well_are_in_one_group_and_groups_are_even():
    # north and south: 10 GiB/s inside, 1 GiB/s between; all sites are alike, so two groups of two
    sites = [a_view(name) for name in ("ams", "osl", "rom", "ath")]
    inside = [("ams", "osl"), ("rom", "ath")]
    links = [a_link(a, b, 10) for a, b in inside] + [a_link("ams", "rom", 1), a_link("osl", "ath", 1)]
    groups = grouped(a_world(*sites, links=links), 2)
    assert groups.group("ams") == groups.group("osl") != groups.group("rom") == groups.group("ath")


def test_sites_that_hold_what_the_same_jobs_read_are_in_one_group():
    sites = [a_view(name) for name in ("ams", "fra", "osl", "rom")]
    queue = [waiting(a_shape(inputs=("corpus",)), 9), waiting(a_shape(inputs=("images",)), 9)]
    groups = grouped(a_world(*sites, classes=queue, at={"corpus": "ams osl", "images": "fra rom"}), 2)
    assert groups.group("ams") == groups.group("osl") != groups.group("fra") == groups.group("rom")


def test_a_site_of_no_group_is_told():
    groups = grouped(a_world(a_view("ams"), a_view("osl")), 2)
    with pytest.raises(LookupError, match="site rom is in no group"):
        groups.group("rom")


def test_jobs_go_to_the_part_that_holds_their_data():
    queue, links = [waiting(a_shape(inputs=("corpus",)), 8)], [a_link("osl", "ams")]
    world = a_world(a_view("ams"), a_view("osl"), classes=queue, at={"corpus": "osl"}, links=links)
    (site,) = {placement.site for placement in in_parts(world, 2).placements}
    assert site == "osl"


def test_jobs_are_divided_by_room_and_each_part_gets_old_and_new_ones():
    # 12 jobs over 8 and 4 free cpus: 8 and 4; of ages 12 to 1 the smaller part gets every third
    shape, world = a_shape(), a_world(a_view("ams", 8), a_view("osl", 4))
    queued = replace(waiting(shape, 12), created=tuple(float(number) for number in range(12)))
    large, small = (part.classes[0].created for part in divided(replace(world, classes=(queued,)), 2).parts)
    assert (len(large), len(small)) == (8, 4)
    assert max(late - early for early, late in pairwise(small)) == 3


def test_data_that_comes_through_other_parts_is_booked_in_the_second_round():
    # fra, between ams and osl, has no room of its own; each site is a group, and no group owns both links
    links = [a_link("ams", "fra"), a_link("fra", "osl")]
    shape = a_shape(inputs=("corpus",), names=("osl",))
    world = a_world(a_view("ams"), a_view("fra"), a_view("osl"), classes=[waiting(shape)], at={"corpus": "ams"}, links=links)
    groups = grouped(world, 3)
    assert not any(plan(part).placements for part in divided(world, 3).parts)
    (placement,) = plan_in_parts(world, groups, plans).placements
    assert placement.bookings[0].links == ("ams:fra", "fra:osl")


def test_what_one_part_has_no_room_for_goes_where_another_has_some():
    # a gang of 6 tasks, 2 cpus each: by sums ams has room for two, on its 4 nodes of 3 cpus for none; osl has room for one
    world = a_world(a_view("ams", 3, nodes=8), a_view("osl", 12), classes=[waiting(a_shape(tasks=6, cpus=2), 3)])
    made = in_parts(world, 2)
    assert sum(placement.count for placement in made.placements) == sum(placement.count for placement in plan(world).placements)


def test_a_pool_that_something_waits_for_is_left_alone_by_the_second_round():
    # big waits for all of ams, where 2 of 8 cpus are free; small could only run there, for longer than that takes
    big, small = a_shape(cpus=8, names=("ams",), priority=90), a_shape(run_hours=9, inputs=("corpus",), names=("ams",))
    links = [a_link("osl", "fra"), a_link("fra", "ams")]
    sites = a_view("ams", held=(running(6, until=1),)), a_view("fra"), a_view("osl")
    world = a_world(*sites, classes=[waiting(big), waiting(small)], at={"corpus": "osl"}, links=links)
    made = in_parts(world, 3)
    assert made.placements == ()
    assert made.passed[big].site == "ams"


def test_a_class_that_no_site_can_run_is_told_of_all_of_them():
    world = a_world(a_view("ams"), a_view("osl"), classes=[waiting(a_shape(cpus=9))])
    (reason,) = in_parts(world, 2).passed.values()
    assert reason == plan(world).passed[a_shape(cpus=9)]
    assert "ams" in reason.reason
    assert "osl" in reason.reason


def test_tenants_shares_in_each_part_are_about_those_in_the_whole():
    # two equal sites and tenants without rules: half of all in each part, so each share is what it is in the whole
    tenants = (TenantView("bio", weight=2, holds=Resources.of(8, 0, {"a100": 2}), past=(2.0, 0.0, 0.0)), TenantView("geo"))
    queue = [waiting(a_shape(tenant=name), 16) for name in ("bio", "geo")]
    world = a_world(a_view("ams", gpus={"a100": 8}), a_view("osl", gpus={"a100": 8}), classes=queue, tenants=tenants)
    parts = divided(world, 2).parts
    assert [ByFairShare(part).shares() for part in parts] == [pytest.approx(ByFairShare(world).shares())] * 2
    assert sum((part.tenants[0].holds for part in parts), Resources()) == tenants[0].holds


def test_a_tenant_that_can_run_in_one_part_only_has_all_its_weight_there():
    # bio wants ams alone, half of all room: its weight of 1 counts twice there; geo wants both alike
    queue = [waiting(a_shape(tenant="bio", names=("ams",)), 8), waiting(a_shape(tenant="geo"), 16)]
    tenants = (TenantView("bio"), TenantView("geo"))
    parts = divided(a_world(a_view("ams"), a_view("osl"), classes=queue, tenants=tenants), 2).parts
    bio, geo = next(part.tenants for part in parts if part.sites[0].site.name == "ams")
    assert bio.weight == 2
    assert geo.weight < 1


def test_whole_numbers_add_up_and_nothing_goes_where_nothing_is():
    # 7 by 2 : 1 : 0 is 4.67, 2.33 and 0
    assert in_whole(np.array([2.0, 1.0, 0.0]), 7).tolist() == [5, 2, 0]


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        (Plan, ("placements", "bookings", "passed", "evictions", "is_cut", "faults")),
        (PlanInput, ("now", "topology", "sites", "classes", "bookings", "tenants", "most", "groups")),
        (TenantView, ("name", "parent", "weight", "holds", "past", "holds_at", "quotas")),
        (Passed, ("reason", "help", "site", "pool")),
    ],
)
def test_each_field_of_a_plan_and_its_input_is_divided_and_merged_on_purpose(kind, known):
    """A new field is to be thought of in `partition.py` and `merging.py`, and then named here."""
    assert tuple(field.name for field in fields(kind)) == known


def test_a_quota_of_all_sites_together_is_kept_though_there_are_parts():
    tenants = (TenantView("a", quotas=(Quota("cpus", 3.0),)),)
    queue = [waiting(a_shape(tenant="a"), 10)]
    made = in_parts(a_world(a_view("ams"), a_view("osl"), classes=queue, tenants=tenants), 2)
    assert sum(placed(made).values()) == 3


def test_a_quota_of_each_site_is_kept_part_by_part():
    tenants = (TenantView("a", quotas=(Quota("cpus", 3.0, "ams"), Quota("cpus", 2.0, "osl"))),)
    queue = [waiting(a_shape(tenant="a"), 10)]
    made = in_parts(a_world(a_view("ams"), a_view("osl"), classes=queue, tenants=tenants), 2)
    assert sum(placed(made).values()) == 5


def test_what_gives_way_in_a_part_gives_way_in_the_whole():
    def full(name: str) -> SiteView:
        names = tuple(f"{name}-{number}" for number in range(8))
        group = Attempts("b", 50, "cpu", Resources(1.0), 1, names, (NOW - 60.0,) * 8)
        return replace(a_view(name, held=(running(1, until=10, count=8),)), preemptible=(group,))

    made = in_parts(a_world(full("ams"), full("osl"), classes=[waiting(a_shape(), 4)]), 2)
    assert len({eviction.job for eviction in made.evictions}) == len(made.evictions) == 4
