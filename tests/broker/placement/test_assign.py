"""Who gets which room: by example."""

from dataclasses import replace

import pytest

from broker.jobs.model import Weights
from broker.placement.assign import plan
from broker.records import Booking
from tests.broker.placement.worlds import GIB_PER_SECOND, NOW, a_dataset, a_link, a_shape, a_view, a_world, running, waiting
from topology.site import Price


def where(given):
    """(site, how many) of each placement."""
    return [(placement.site, placement.count) for placement in plan(given).placements]


def test_a_job_goes_to_its_data():
    # ams holds the data: 0 h + 1 h run = 1 h; fra brings 3600 GiB at 1 GiB/s: 1 h + 1 h = 2 h
    job = waiting(a_shape(run_hours=1, inputs=("corpus",)))
    given = a_world(a_view("ams"), a_view("fra"), classes=[job], at={"corpus": "ams"}, links=[a_link("ams", "fra")])
    (placement,) = plan(given).placements
    assert placement.site == "ams"
    assert placement.bookings == ()
    assert [(choice.site, choice.cost.hours) for choice in placement.decision.runners_up] == [("fra", 2.0)]


def test_the_data_goes_to_the_job_where_that_is_sooner():
    # ams is full for 3 h more: 3 + 1 = 4 h; fra brings the data in 1 h: 1 + 1 = 2 h
    job = waiting(a_shape(run_hours=1, cpus=8, inputs=("corpus",)))
    full = a_view("ams", cpus=8, held=(running(8, until=3),))
    given = a_world(full, a_view("fra"), classes=[job], at={"corpus": "ams"}, links=[a_link("ams", "fra")])
    made = plan(given)
    (placement,) = made.placements
    assert placement.site == "fra"
    assert placement.bookings == made.bookings
    (booking,) = made.bookings
    assert (booking.source, booking.target, booking.links, booking.gib) == ("ams", "fra", ("ams:fra",), 3600)
    assert booking.share_gbps == pytest.approx(GIB_PER_SECOND)


def test_a_job_waits_for_its_data_where_that_is_sooner():
    # ams is full for half an hour: 0.5 + 1 = 1.5 h, against 2 h at fra
    job = waiting(a_shape(run_hours=1, cpus=8, inputs=("corpus",)))
    full = a_view("ams", cpus=8, held=(running(8, until=0.5),))
    given = a_world(full, a_view("fra"), classes=[job], at={"corpus": "ams"}, links=[a_link("ams", "fra")])
    made = plan(given)
    assert made.placements == ()
    passed = made.passed[job.shape]
    assert passed.reason == "waits for ams/cpu, about 30 min: short of 8 cpus; fra has room but would cost more"
    assert passed.help == ("8 cpus more at ams",)


def test_those_for_whom_the_wait_would_grow_too_long_go_elsewhere():
    # each job fills ams for 1 h, and ams is full for 0.5 h: the first there ends after 1.5 h, the second after 2.5 h; at fra 2 h
    jobs = waiting(a_shape(run_hours=1, cpus=8, inputs=("corpus",)), count=5)
    full = a_view("ams", cpus=8, held=(running(8, until=0.5),))
    given = a_world(full, a_view("fra", cpus=8, nodes=9), classes=[jobs], at={"corpus": "ams"}, links=[a_link("ams", "fra")])
    assert where(given) == [("fra", 4)]


def test_without_sites_or_gpus_the_reason_says_so():
    job = waiting(a_shape(gpus=1, gpu_types=("h100",)))
    assert plan(a_world(classes=[job])).passed[job.shape].reason == "no site is registered"
    assert "no h100 GPUs in pool cpu" in plan(a_world(a_view("ams"), classes=[job])).passed[job.shape].reason


def test_the_cheapest_site_is_one_thing_and_the_fastest_another():
    # ams: 2 h * 0.10 EUR = 0.20; fra at twice the speed: 1 h * 0.30 = 0.30
    ams = a_view("ams", price=a_price(0.10), speed=1)
    fra = a_view("fra", price=a_price(0.30), speed=2)
    for objective, site in ((Weights(hours=1), "fra"), (Weights(hours=0, money=1), "ams")):
        assert where(a_world(ams, fra, classes=[waiting(a_shape(run_hours=2, objective=objective))])) == [(site, 1)]


def test_what_is_promised_but_not_seen_takes_room():
    # 8 cpus usable, of which an attempt that the site has not listed yet takes 6: one job of 2 fits, not four
    given = a_world(a_view("ams", cpus=8, held=(running(6, until=9),)), classes=[waiting(a_shape(cpus=2), count=4)])
    assert where(given) == [("ams", 1)]


def test_room_is_by_node_and_never_one_number():
    # 2 + 2 cpus are free, so a task of 3 fits nowhere
    given = a_world(a_view("ams", cpus=4, nodes=2, free=[2, 2]), classes=[waiting(a_shape(cpus=3))])
    assert where(given) == []


def test_a_gang_is_whole_or_not_at_all():
    views = (a_view("ams", cpus=4, free=[3]), a_view("fra", cpus=4, free=[3]))
    assert where(a_world(*views, classes=[waiting(a_shape(tasks=4))])) == []
    assert where(a_world(*views, classes=[waiting(a_shape(tasks=3), count=3)])) == [("ams", 1), ("fra", 1)]


def test_the_higher_priority_goes_first_and_then_the_older():
    # room for two
    old = waiting(a_shape(run_hours=1), age=90)
    older = waiting(a_shape(run_hours=2), age=99)
    urgent = waiting(a_shape(run_hours=3, priority=80), age=1)
    made = plan(a_world(a_view("ams", cpus=2), classes=[old, older, urgent]))
    assert [placement.shape for placement in made.placements] == [urgent.shape, older.shape]


def test_equal_sites_share_the_load():
    given = a_world(a_view("ams", cpus=8), a_view("fra", cpus=8), classes=[waiting(a_shape(), count=8)])
    made = plan(given).placements
    by_site = {site: sum(placement.count for placement in made if placement.site == site) for site in ("ams", "fra")}
    assert by_site == {"ams": 4, "fra": 4}


def test_of_equal_sites_the_emptier_is_taken():
    given = a_world(a_view("ams", held=(running(1, until=1),)), a_view("fra"), classes=[waiting(a_shape())])
    assert where(given) == [("fra", 1)]


def test_small_jobs_never_starve_a_gang():
    # the gang needs all 8 cpus, of which 4 come back in 1 h. A job of 2 h would be in its way, one of 0.5 h would not.
    gang = waiting(a_shape(run_hours=1, tasks=8), age=100)
    held = (running(4, until=1),)
    long, short = waiting(a_shape(run_hours=2)), waiting(a_shape(run_hours=0.5), count=9)
    assert where(a_world(a_view("ams", held=held), classes=[gang, long])) == []
    assert where(a_world(a_view("ams", held=held), classes=[gang, short])) == [("ams", 4)]


def test_a_long_job_may_take_what_the_gang_leaves_over():
    # of 12 cpus 8 come back in 1 h: the gang of 8 starts then and leaves 4, which are free now
    view = a_view("ams", cpus=4, nodes=3, held=(running(4, until=1, count=2),))
    gang = waiting(a_shape(run_hours=1, cpus=4, tasks=2), age=100)
    assert where(a_world(view, classes=[gang, waiting(a_shape(run_hours=9), count=9)])) == [("ams", 4)]


def test_a_large_task_gets_a_node_that_small_ones_would_keep_broken_up():
    # 1 cpu of each node is held: 6 are free and none of 4 together. One node is kept, the other takes long jobs.
    view = a_view("ams", cpus=4, nodes=2, free=[3, 3], held=(running(1, until=1),))
    large = waiting(a_shape(cpus=3.5), age=100)
    assert where(a_world(view, classes=[large, waiting(a_shape(run_hours=9), count=9)])) == [("ams", 2)]


def test_a_gang_that_others_keep_out_holds_nothing_back():
    # 4 of 8 cpus are not ours to predict: keeping the rest free would not bring the gang closer
    gang = waiting(a_shape(tasks=8), age=100)
    made = plan(a_world(a_view("ams", cpus=8, free=[4]), classes=[gang, waiting(a_shape(run_hours=9), count=9)]))
    assert [placement.count for placement in made.placements] == [4]
    assert made.passed[gang.shape].reason == "waits for ams/cpu, about 1.0 h: 4 of 8 tasks fit"


def test_one_copy_serves_all_who_need_it():
    # both classes read corpus at fra, since ams is full for long; the second finds the first one's booking
    views = (a_view("ams", held=(running(8, until=99),)), a_view("fra"))
    classes = [waiting(a_shape(run_hours=hours, inputs=("corpus",)), count=2) for hours in (1, 2)]
    made = plan(a_world(*views, classes=classes, at={"corpus": "ams"}, links=[a_link("ams", "fra")]))
    assert len(made.bookings) == 1
    assert [placement.bookings for placement in made.placements] == [made.bookings] * 2


def test_a_transfer_under_way_costs_only_what_is_left_of_it():
    # 3600 GiB at 1 GiB/s, begun half an hour ago: 0.5 h left, and nothing to pay
    booking = a_booking("corpus", began=NOW - 1800)
    job = waiting(a_shape(inputs=("corpus",), names=("fra",)))
    links = [a_link("ams", "fra", price=0.02)]
    made = plan(a_world(a_view("ams"), a_view("fra"), classes=[job], at={"corpus": "ams"}, links=links, bookings=(booking,)))
    (placement,) = made.placements
    assert placement.decision.cost.staging_hours == pytest.approx(0.5)
    assert placement.decision.cost.money == 0
    assert made.bookings == ()
    assert placement.bookings == (booking,)


def test_a_link_that_is_taken_is_not_booked_again():
    # the first transfer holds all of ams:fra for 1 h
    job = waiting(a_shape(inputs=("other",), names=("fra",)))
    given = a_world(
        a_view("ams"),
        a_view("fra"),
        classes=[job],
        at={"corpus": "ams", "other": "ams"},
        links=[a_link("ams", "fra")],
        bookings=(a_booking("corpus", began=NOW),),
    )
    made = plan(given)
    assert made.placements == ()
    assert made.passed[job.shape].reason.startswith("no site takes it now: fra: link ams:fra is booked for about 1.0 h more")


def test_two_inputs_over_one_link_divide_it_by_size():
    # 1200 + 2400 GiB over 1 GiB/s take 1 h together, at a third and two thirds of it
    job = waiting(a_shape(inputs=("small", "large"), names=("fra",)))
    at, sizes = {"small": "ams", "large": "ams"}, {"small": 1200, "large": 2400}
    made = plan(a_world(a_view("ams"), a_view("fra"), classes=[job], at=at, sizes=sizes, links=[a_link("ams", "fra")]))
    shares = {booking.dataset.name: booking.share_gbps / GIB_PER_SECOND for booking in made.bookings}
    assert shares == {"small": pytest.approx(1 / 3), "large": pytest.approx(2 / 3)}
    assert made.placements[0].decision.cost.staging_hours == pytest.approx(1)


def test_a_class_cut_short_ends_the_plan_so_that_no_other_overtakes_it():
    shown = replace(waiting(a_shape(), count=2, age=100), count=5)
    other = waiting(a_shape(run_hours=2))
    made = plan(a_world(a_view("ams"), classes=[shown, other]))
    assert made.is_cut
    assert [(placement.shape, placement.count) for placement in made.placements] == [(shown.shape, 2)]


def test_a_plan_stops_at_its_limit_and_says_so():
    made = plan(a_world(a_view("ams"), classes=[waiting(a_shape(), count=8)], most=3))
    assert made.is_cut
    assert [placement.count for placement in made.placements] == [3]


def a_price(cpu_hour):
    return Price(cpu_hour=cpu_hour)


def a_booking(name, began):
    return Booking(a_dataset(name), "ams", "fra", ("ams:fra",), GIB_PER_SECOND, 3600, began)
