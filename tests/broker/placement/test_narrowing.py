"""Sites in the order that jobs prefer, and deadlines as limits: by example."""

from dataclasses import replace

from broker.jobs.model import Weights
from broker.placement.assign import plan
from broker.placement.explain import why
from broker.placement.view import QueuedClass
from broker.records import Health
from tests.broker.placement.test_limits import best_effort
from tests.broker.placement.worlds import NOW, a_shape, a_view, a_world, running, waiting
from topology.site import Admission, Price

MINUTE = 60.0
WHOLE = 8.0
"""Cpus of a site."""


def where(given):
    """(site, how many) of each placement."""
    return [(placement.site, placement.count) for placement in plan(given).placements]


def full(name, hours=1.0, **site):
    """A site that has no room for so long."""
    return a_view(name, held=(running(WHOLE, until=hours),), **site)


def aged(shape, *minutes):
    """A class of jobs that have waited so long, the oldest first."""
    return QueuedClass(shape, tuple(NOW - each * MINUTE for each in minutes), len(minutes))


def test_the_own_centre_comes_first_though_others_are_faster():
    # fra would take half the time; ams has room for two of three, and without a delay the third goes to fra
    job = a_shape(cpus=4, prefer=("ams",))
    assert where(a_world(a_view("ams"), a_view("fra", speed=2.0), classes=[waiting(job, 3)])) == [("ams", 2), ("fra", 1)]


def test_sites_that_are_not_named_come_last_and_among_them_cost_decides():
    job = a_shape(prefer=("ams", "fra"))
    views = [full("ams"), a_view("fra"), a_view("osl", speed=2.0), a_view("zrh", speed=3.0)]
    assert where(a_world(*views, classes=[waiting(job)])) == [("fra", 1)]
    assert where(a_world(full("ams"), full("fra"), *views[2:], classes=[waiting(job)])) == [("zrh", 1)]


def test_each_next_site_is_looked_at_so_much_later():
    # ams is full; fra may be taken after 10 min, any other after 20
    job = a_shape(prefer=("ams", "fra"), spill_after_s=10 * MINUTE)
    to_fra, to_osl = [full("ams"), a_view("fra"), a_view("osl")], [full("ams"), full("fra"), a_view("osl")]
    for views, minutes, placed in (
        (to_fra, 9, []), (to_fra, 10, [("fra", 1)]), (to_osl, 19, []), (to_osl, 20, [("osl", 1)]),
    ):  # fmt: skip
        assert where(a_world(*views, classes=[aged(job, minutes)])) == placed


def test_a_young_job_does_not_spill_since_an_old_one_may():
    # of three one has waited for 10 min
    job = a_shape(prefer=("ams",), spill_after_s=10 * MINUTE)
    made = plan(a_world(full("ams"), a_view("fra"), classes=[aged(job, 12, 9, 0)]))
    assert [(each.site, each.count) for each in made.placements] == [("fra", 1)]
    assert made.passed[job].reason == "waits for ams, which it prefers, 1 min more; then any other site"


def test_it_waits_for_what_it_prefers_and_says_for_how_long():
    job = a_shape(prefer=("ams", "fra"), spill_after_s=10 * MINUTE)
    given = a_world(full("ams"), a_view("fra"), classes=[aged(job, 0)])
    passed = plan(given).passed[job]
    assert passed.reason == "waits for ams, which it prefers, 10 min more; then fra"
    assert (passed.site, passed.pool, passed.help) == ("ams", "cpu", ("1 cpus more at ams",))
    assert why(job, given).reason == passed.reason
    told = why(job, given, waited_hours=0.25)
    assert (told.site, told.reason) == ("fra", "")


def test_a_site_that_can_never_take_it_is_no_rank_and_one_that_may_is():
    # nobody has registered lab; ams is too small; so osl is the first, and fra the next after 10 min
    job = a_shape(cpus=6, prefer=("lab", "ams", "osl"), spill_after_s=10 * MINUTE)
    small, fra = a_view("ams", cpus=4), a_view("fra")
    assert where(a_world(small, fra, a_view("osl"), classes=[aged(job, 0)])) == [("osl", 1)]
    for away in (a_view("osl", admission=Admission.CORDONED), a_view("osl", health=Health.DOWN)):
        made = plan(a_world(small, fra, away, classes=[aged(job, 0)]))
        assert made.passed[job].reason == "waits for osl, which it prefers, 10 min more; then any other site"
        assert where(a_world(small, fra, away, classes=[aged(job, 10)])) == [("fra", 1)]


def test_where_nothing_has_room_it_waits_for_the_first_it_prefers():
    # fra will have room in an hour, ams in two
    made = plan(a_world(full("ams", hours=2), full("fra"), classes=[waiting(job := a_shape(prefer=("ams",)))]))
    assert made.passed[job].reason == "waits for ams/cpu, about 2.0 h: short of 1 cpus"


CHEAPEST = Weights(0.001, 1.0)


def priced(name, euros, **site):
    return a_view(name, price=Price("EUR", euros), **site)


def test_a_job_pays_more_where_it_would_be_late_otherwise():
    # ams costs 1.00 EUR and takes 2 h, fra 1 h * 3.00 EUR
    ams, fra = priced("ams", 0.5), priced("fra", 3.0, speed=2.0)
    for deadline_hours, site in ((2.5, "ams"), (1.5, "fra")):
        job = a_shape(run_hours=2, objective=CHEAPEST, deadline_s=deadline_hours * 3600)
        assert where(a_world(ams, fra, classes=[waiting(job)])) == [(site, 1)]


def test_another_deal_of_what_is_placed_makes_nobody_late():
    # both classes would be cheaper at ams, at half the speed, where there is room for all: 2 h are too long for one of them
    ams, fra = priced("ams", 0.1, speed=0.5, nodes=9), priced("fra", 1.0)
    hurried, calm = a_shape(objective=CHEAPEST, deadline_s=1.5 * 3600), a_shape(cpus=2, objective=CHEAPEST)
    made = plan(a_world(ams, fra, classes=[waiting(hurried, 4), waiting(calm, 4)]))
    assert sorted((each.site, each.count, each.shape) for each in made.placements) == [("ams", 4, calm), ("fra", 4, hurried)]


def test_nor_does_it_wait_there():
    # ams is free of charge and full for an hour: 1 + 2 = 3 h
    ams, fra = full("ams"), priced("fra", 3.0)
    for deadline_hours, placed in ((3.5, []), (2.5, [("fra", 1)])):
        job = a_shape(run_hours=2, objective=CHEAPEST, deadline_s=deadline_hours * 3600)
        assert where(a_world(ams, fra, classes=[waiting(job)])) == placed


def test_no_more_wait_for_what_is_cheap_than_end_in_time_there():
    # one job of 8 cpus after the other: they end at ams in 2, 3 and 4 h, of which two are in time; the other three go to fra
    ams, fra = full("ams"), priced("fra", 3.0, nodes=9)
    job = a_shape(run_hours=1, cpus=WHOLE, objective=CHEAPEST, deadline_s=3.5 * 3600)
    assert where(a_world(ams, fra, classes=[waiting(job, 5)])) == [("fra", 3)]


def test_a_deadline_counts_from_when_the_job_was_made():
    # an hour ago: of 2.5 h 1.5 are left, which only fra can meet
    ams, fra = priced("ams", 0.5), priced("fra", 3.0, speed=2.0)
    job = a_shape(run_hours=2, objective=CHEAPEST, deadline_s=2.5 * 3600)
    assert where(a_world(ams, fra, classes=[aged(job, 60)])) == [("fra", 1)]


def test_where_none_can_meet_it_any_more_hours_alone_decide():
    # 1 h at fra, 2 h at ams, for half an hour
    ams, fra = priced("ams", 0.5), priced("fra", 3.0, speed=2.0)
    job = a_shape(run_hours=2, objective=CHEAPEST, deadline_s=1800)
    assert where(a_world(ams, fra, classes=[waiting(job)])) == [("fra", 1)]
    told = why(job, a_world(ams, fra))
    assert (told.site, told.reason) == ("fra", "its deadline, in 30 min, cannot be met any more")
    waits = plan(a_world(full("ams"), full("fra", speed=2.0), classes=[aged(job, 40)])).passed[job]
    assert waits.reason == "waits for fra/cpu, about 1.0 h: short of 1 cpus; its deadline, 10 min ago, was not met"


def test_where_nothing_but_waiting_helps_best_effort_gives_way():
    # in an hour ams would be free, too late: so what may be preempted there is
    job = a_shape(cpus=WHOLE, deadline_s=1.5 * 3600)
    view = replace(full("ams", hours=9), held=(running(2.0, until=9, count=4),))
    group = replace(best_effort("ams"), task=running(2.0, until=9).task)
    made = plan(a_world(replace(view, preemptible=(group,)), classes=[waiting(job)]))
    assert len(made.evictions) == 4
