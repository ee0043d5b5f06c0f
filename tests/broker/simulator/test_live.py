"""The live federation as a scenario: what is taken over of it, and how it goes on from there."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.placement.view import TenantView
from broker.records import Booking, Health
from broker.simulator.engine import simulate
from broker.simulator.live import live
from broker.simulator.policies import Ours
from broker.simulator.scenario import Arrival, Maintenance, SiteLost, Underway
from tests.broker.placement.worlds import GIB_PER_SECOND, NOW, a_dataset, a_link, a_shape, a_view, a_world

HOUR = 3600.0
FOREVER = float("inf")


def queue(shape, count, age=HOUR):
    """Jobs of a class, a second apart."""
    return {shape: [(NOW - age + number, f"j{number}") for number in range(count)]}


def at_site(name, site, ends_in_h=None, **shape):
    made = a_shape(**shape)
    ends_at = None if ends_in_h is None else NOW + ends_in_h * HOUR
    return Underway(Arrival(name, NOW - HOUR, made, made.run_time_s), site, "cpu", None, ends_at)


def ran(scenario):
    return {job.name: job for job in simulate(scenario, Ours()).jobs}


def a_booking(source, target, gib, ago_s=0.0, name="corpus"):
    return Booking(a_dataset(name), source, target, (f"{source}:{target}",), GIB_PER_SECOND, gib, NOW - ago_s)


def test_the_queue_has_its_age_and_begins_now():
    scenario = live(a_world(a_view("ams", cpus=2)), queue(a_shape(), 2), ())
    assert [(job.name, job.at) for job in scenario.arrivals] == [("j0", -HOUR), ("j1", 1 - HOUR)]
    assert [job.started_at for job in ran(scenario).values()] == [0.0, 0.0]


def test_what_runs_holds_its_room_until_it_is_expected_to_end():
    # 2 cpus of 4 for another 3 h: a job of 4 waits for that, one of 2 does not
    world = a_world(a_view("ams", cpus=4))
    waits = {a_shape(cpus=4): [(NOW - 60, "large")], a_shape(cpus=2, run_hours=2): [(NOW, "small")]}
    found = ran(live(world, waits, [at_site("runs", "ams", 3, cpus=2)]))
    assert (found["runs"].started_at, found["runs"].ended_at) == (0.0, 3 * HOUR)
    assert found["small"].started_at < 60
    assert found["large"].started_at == pytest.approx(3 * HOUR, abs=60)


def test_what_should_be_over_already_ends_at_once():
    assert ran(live(a_world(a_view("ams")), {}, [at_site("late", "ams", -5)]))["late"].ended_at == 0.0


def test_what_waits_in_a_sites_own_queue_starts_there_in_turn():
    # one cpu: what runs ends after half an hour, then an hour each, in their order
    there = [at_site("runs", "ams", 0.5), at_site("next", "ams"), at_site("last", "ams")]
    found = ran(live(a_world(a_view("ams", cpus=1)), {}, there))
    starts = [found[name].started_at / HOUR for name in ("runs", "next", "last")]
    assert starts == [0.0, pytest.approx(0.5), pytest.approx(1.5)]


def test_what_others_use_is_not_there_to_be_used():
    # two nodes of 8 cpus, of which others leave 6 and 2: one job of 5 at a time
    world = a_world(a_view("ams", cpus=8, nodes=2, free=(6, 2)))
    found = ran(live(world, queue(a_shape(cpus=5), 2), ()))
    assert sorted(round(job.started_at / HOUR) for job in found.values()) == [0, 1]


def test_a_gang_that_waits_where_others_took_the_room_goes_elsewhere():
    world = a_world(a_view("ams", cpus=8, free=(2,)), a_view("fra", cpus=8))
    job = ran(live(world, {}, [at_site("gang", "ams", tasks=4)]))["gang"]
    assert (job.site, job.attempts) == ("fra", 2)


def test_data_on_its_way_comes_when_it_is_expected_and_is_not_paid_again():
    # 3600 GiB at 1 GiB/s, begun half an hour ago
    world = a_world(
        *(a_view("ams"), a_view("fra")),
        at={"corpus": "ams"},
        links=[a_link("ams", "fra", price=1.0)],
        bookings=(a_booking("ams", "fra", 3600, ago_s=HOUR / 2),),
    )
    job = ran(live(world, {}, [at_site("reads", "fra", inputs=("corpus",))]))["reads"]
    assert (job.started_at, job.egress_money, job.wan_gib) == (pytest.approx(HOUR / 2), 0.0, 0.0)


def test_a_transfer_under_way_leaves_others_what_is_free_of_the_link():
    # all of the link for half an hour; then another hour for the same size
    world = a_world(
        *(a_view("ams"), a_view("fra")),
        at={"corpus": "ams", "images": "ams"},
        links=[a_link("ams", "fra")],
        bookings=(a_booking("ams", "fra", 1800),),
    )
    job = ran(live(world, queue(a_shape(inputs=("images",), names=("fra",)), 1), ()))["j0"]
    assert job.started_at == pytest.approx(1.5 * HOUR, abs=60)


def test_data_that_can_come_from_nowhere_keeps_its_reader_in_the_queue():
    world = a_world(a_view("ams"), a_view("fra"), at={"corpus": "ams"})
    job = ran(live(world, {}, [at_site("reads", "fra", inputs=("corpus",))]))["reads"]
    assert (job.site, job.attempts) == ("ams", 2)


def test_a_transfer_over_what_is_no_longer_declared_is_left_out():
    world = a_world(a_view("ams"), a_view("fra"), at={"corpus": "ams"}, bookings=(a_booking("ams", "fra", 1.0),))
    assert live(world, {}, ()).bookings == ()


def test_sites_stay_as_they_are():
    up, down = a_view("up"), a_view("down", health=Health.DOWN)
    lost = replace(a_view("lost", health=Health.DOWN), is_lost=True)
    changes = live(a_world(up, down, lost), {}, ()).changes
    assert changes == (Maintenance(0.0, "down", FOREVER), SiteLost(0.0, "lost", FOREVER))


def test_a_pool_that_was_not_seen_yet_takes_nothing():
    world = a_world(replace(a_view("ams"), rooms={}), a_view("fra"))
    assert ran(live(world, queue(a_shape(), 1), ()))["j0"].site == "fra"


def test_tenants_go_on_with_what_they_held_and_how_it_fades():
    held = TenantView("red", weight=2.0, past=(10.0, 0.0, 0.0))
    scenario = live(a_world(a_view("ams"), tenants=(held,)), {}, (), half_life_s=60.0)
    assert (scenario.tenants, scenario.half_life_s) == ((held,), 60.0)


def test_of_a_long_queue_the_same_part_of_each_class_is_simulated():
    # 600 and 300 jobs, of which 90 may be: every tenth of each
    large, small = a_shape(cpus=4), a_shape(cpus=1)
    scenario = live(a_world(a_view("ams")), queue(large, 600) | queue(small, 300), (), most=90)
    assert sum(job.shape == large for job in scenario.arrivals) == 60
    assert sum(job.shape == small for job in scenario.arrivals) == 30
    assert len({job.name for job in scenario.arrivals if job.shape == large}) == 60
    assert scenario.notes.startswith("90 of 900 jobs that wait")


@given(st.lists(st.integers(1, 40), max_size=8), st.integers(1, 120))
def test_a_sample_is_as_large_as_it_may_be_and_takes_of_each_class_its_part(sizes, most):
    waits = {}
    for number, count in enumerate(sizes):
        waits[a_shape(cpus=number + 1)] = [(NOW + at, f"c{number}-{at}") for at in range(count)]
    arrivals = live(a_world(a_view("ams")), waits, (), most=most).arrivals
    whole = sum(sizes)
    assert len({job.name for job in arrivals}) == len(arrivals) == min(most, whole)
    for shape, members in waits.items():
        assert abs(sum(job.shape == shape for job in arrivals) - len(members) * min(most / whole, 1)) < 1
