"""Placements dealt out anew: by example, and never for the worse."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings

from broker.placement.assign import plan
from tests.broker.placement.drawn import cost_of, greedy, rooms_after, worlds
from tests.broker.placement.worlds import a_shape, a_view, a_world, running, waiting


def where(made):
    return {(placement.shape.run_time_s, placement.site) for placement in made.placements}


def a_contest():
    """Both want fra, which is fast and has room for one: the older gains 1 h there, the younger 4 h."""
    older, younger = waiting(a_shape(run_hours=2, cpus=8), age=99), waiting(a_shape(run_hours=8, cpus=8))
    return a_world(a_view("ams", cpus=8), a_view("fra", cpus=8, speed=2), classes=[older, younger])


def test_the_fast_site_goes_to_whom_it_serves_most():
    # greedy: 1 h + 8 h = 9 h; dealt anew: 2 h + 4 h = 6 h
    world = a_contest()
    assert where(greedy(world)) == {(7200, "fra"), (28800, "ams")}
    assert where(plan(world)) == {(7200, "ams"), (28800, "fra")}


def test_nobody_moves_for_a_lower_priority():
    world = a_contest()
    older, younger = world.classes
    above = replace(older, shape=replace(older.shape, priority=60))
    assert where(plan(replace(world, classes=(above, younger)))) == {(7200, "fra"), (28800, "ams")}


def test_what_is_kept_for_a_gang_stays_kept():
    # 4 of the 8 cpus of ams come back in an hour, for the gang; a long job that would rather be there has no claim to them
    gang = waiting(a_shape(run_hours=1, tasks=8, names=("ams",)), age=100)
    long = [waiting(a_shape(run_hours=hours, cpus=4), age=50) for hours in (8, 9)]
    views = (a_view("ams", held=(running(4, until=1),), speed=1.1), a_view("fra", cpus=4), a_view("osl", cpus=4, speed=1.05))
    made = plan(a_world(*views, classes=[gang, *long]))
    assert {placement.site for placement in made.placements} == {"fra", "osl"}


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_a_deal_is_never_dearer_and_places_the_same_jobs(world):
    before, after = greedy(world), plan(world)
    counts = [Counter(), Counter()]
    for made, count in zip((before, after), counts, strict=True):
        for placement in made.placements:
            count[placement.shape] += placement.count
    assert counts[0] == counts[1]
    assert cost_of(after) <= cost_of(before) + 1e-6
    rooms_after(world, after.placements)


@given(worlds())
@settings(max_examples=200, deadline=None)
def test_no_priority_pays_for_a_lower_one(world):
    before, after = greedy(world), plan(world)
    for priority in {queued.shape.priority for queued in world.classes}:
        assert cost_of(after, priority) <= cost_of(before, priority) + 1e-6
