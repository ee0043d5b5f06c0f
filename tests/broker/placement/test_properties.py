"""What must hold for any queue over any federation."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.placement.assign import plan
from broker.placement.memory import Memory
from broker.placement.shares import Links, Shares
from tests.broker.placement.drawn import PRIORITIES, cost_of, greedy, is_ahead, rooms_after, worlds


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_no_more_waits_at_a_site_than_its_admin_allows(world):
    made = plan(world)
    for view in world.sites:
        (pool,) = view.site.pools
        there = [placement for placement in made.placements if placement.site == view.site.name and is_ahead(placement)]
        cpus = sum(each.shape.resources.cpus * each.shape.tasks * each.count for each in there)
        gpus = sum(each.shape.resources.gpus.count * each.shape.tasks * each.count for each in there)
        assert cpus <= pool.per_node.cpus * pool.nodes * view.site.queue_ahead + 1e-6
        assert gpus <= pool.per_node.gpu_count * pool.nodes * view.site.queue_ahead


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_nothing_is_placed_beyond_room_and_gangs_are_whole(world):
    rooms_after(world, plan(world).placements)


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_each_job_is_placed_at_most_once_or_its_class_has_a_reason(world):
    made = plan(world)
    counts = defaultdict(int)
    for placement in made.placements:
        assert placement.count > 0
        counts[placement.shape] += placement.count
    for queued in world.classes:
        assert counts[queued.shape] <= queued.count
        assert (counts[queued.shape] < queued.count) == (queued.shape in made.passed)


@given(worlds(), st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_input_does_not_matter(world, chance):
    classes, sites = list(world.classes), list(world.sites)
    chance.shuffle(classes)
    chance.shuffle(sites)
    assert plan(replace(world, classes=tuple(classes), sites=tuple(sites))) == plan(world)


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_booked_shares_never_exceed_a_link(world):
    made = plan(world)
    booked = defaultdict(float)
    for booking in made.bookings:
        for name in booking.links:
            booked[name] += booking.share_gbps
    assert all(share <= world.topology.links[name].bandwidth_gbps * (1 + 1e-9) for name, share in booked.items())
    assert len({(booking.dataset, booking.target) for booking in made.bookings}) == len(made.bookings)
    assert all(free >= 0 for free in Shares(Links(world.topology), made.bookings).free_gbps.values())


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_what_is_missing_has_a_booking_and_what_is_there_has_none(world):
    for placement in plan(world).placements:
        missing = {dataset for dataset in placement.shape.inputs if not world.topology.replica(dataset, placement.site)}
        assert {booking.dataset for booking in placement.bookings} == missing
        assert {booking.target for booking in placement.bookings} <= {placement.site}


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_lower_priorities_cost_higher_ones_nothing(world):
    highest = max(queued.shape.priority for queued in world.classes)
    alone = replace(world, classes=tuple(queued for queued in world.classes if queued.shape.priority == highest))
    assert [each for each in greedy(world).placements if each.shape.priority == highest] == list(greedy(alone).placements)
    assert cost_of(plan(world), highest) <= cost_of(greedy(alone)) + 1e-6


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_a_class_that_found_no_room_has_none_left_at_the_end_either(world):
    """But where it is kept: a gang may wait for GPUs while the cpus beside them stand idle for it. Where a better deal of what
    was placed has made room, the plan says that another should follow."""
    made = plan(world)
    if made.is_cut:
        return
    rooms = rooms_after(world, made.placements)
    awaited = {shape: awaited_site(passed) for shape, passed in made.passed.items()}
    for shape, passed in made.passed.items():
        is_for_room_alone = "would cost more" not in passed.reason and "kept for" not in passed.reason
        if awaited[shape] and is_for_room_alone and shape.priority == PRIORITIES[-1] and not shape.inputs:
            kind = "a100" if shape.resources.gpus.count else None
            kept = {site for other, site in awaited.items() if other != shape}
            left = {site: room for site, room in rooms.items() if site not in kept}
            assert all(room.fit(shape.resources.on(kind)) < shape.tasks for room in left.values())


def awaited_site(passed):
    """The site in `waits for osl/cpu, about ...`."""
    found = re.match("waits for ([a-z]+)/", passed.reason)
    return found and found[1]


@given(st.lists(worlds(), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_what_is_remembered_of_earlier_plans_changes_nothing(found):
    memory = Memory()
    for step, world in enumerate(found):
        later = replace(world, now=world.now + step * 1800)
        again = replace(later, sites=found[0].sites)
        assert plan(again, memory=memory) == plan(again)
        assert plan(later, memory=memory) == plan(later)
