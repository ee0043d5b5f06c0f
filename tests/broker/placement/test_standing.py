"""Where a class stands in the queue, when it should start, and what would help."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.placement.assign import plan
from broker.placement.explain import why
from broker.placement.remedies import remedies
from broker.placement.standing import left_over, standing
from broker.placement.starts import UNKNOWN, Accuracy, accuracy_of, start
from broker.placement.view import TenantView
from broker.records import Health
from tests.broker.placement.drawn import worlds
from tests.broker.placement.worlds import a_shape, a_view, a_world, running, waiting
from topology.resources import Resources
from topology.site import Admission


def test_who_is_ahead_is_told_by_tenant():
    # a holds half of the federation; b's 3 jobs of an eighth go first, then a's 2 older ones, then a's own
    mine, older = a_shape(tenant="a"), a_shape(tenant="a", run_hours=2)
    queue = [waiting(mine), waiting(older, 2, age=99), waiting(a_shape(tenant="b"), 3)]
    tenants = (TenantView("a", holds=Resources(cpus=4)), TenantView("b"))
    told = standing(mine, a_world(a_view("ams", held=(running(4, until=1),)), classes=queue, tenants=tenants))
    assert (told.place, told.tenants, told.ahead, dict(told.by_tenant)) == (2, 2, 5, {"b": 3, "a": 2})
    lead = "tenant a has 50.0% of the federation by its weight: 2nd of 2 whose turn is next"
    assert told.text == f"{lead}; 5 jobs are ahead: 3 of b, 2 of a"


def test_one_that_is_not_in_the_queue_stands_behind_its_like():
    shape = a_shape(tenant="a")
    told = standing(shape, a_world(a_view("ams"), classes=[waiting(a_shape(tenant="a", priority=90), 4, age=5)]))
    assert (told.ahead, told.tenants) == (4, 1)
    assert standing(shape, a_world(a_view("ams"))).text.endswith("nobody's jobs are ahead")


def test_what_was_placed_is_no_longer_ahead():
    first, second = a_shape(priority=90), a_shape()
    world = a_world(a_view("ams", cpus=2), classes=[waiting(first, 3), waiting(second)])
    assert standing(second, left_over(world, plan(world))).ahead == 1


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_who_is_ahead_sums_up_and_is_in_the_queue(world):
    for queued in world.classes:
        told = standing(queued.shape, world)
        assert told.ahead == sum(count for _, count in told.by_tenant) <= sum(other.count for other in world.classes)
        assert 1 <= told.place <= told.tenants


def test_a_start_is_a_range_by_how_wrong_run_times_were():
    # of 20 runs 2 took half, 16 as long and 2 three times as long as was expected
    accuracy = accuracy_of([0.5] * 2 + [1.0] * 16 + [3.0] * 2)
    assert (accuracy.runs, accuracy.low, accuracy.high) == (20, 1.0, 3.0)
    assert start(2.0, accuracy).text == (
        "expected to start in 2.0 h to 6.0 h (of 20 runs that ended, 8 in 10 took 1 to 3 times what was expected)"
    )
    assert accuracy_of([9.0] * 19) == UNKNOWN


@given(st.floats(0, 1e4), st.lists(st.floats(0.001, 1e3), max_size=60))
def test_the_range_holds_what_is_reckoned_with(hours, parts):
    found = start(hours, accuracy_of(parts))
    assert found.earliest_hours <= hours <= found.latest_hours


def test_a_job_that_waits_is_told_a_start_and_what_is_short():
    told = why(a_shape(tasks=8), a_world(a_view("ams", held=(running(2, until=2),))), accuracy=Accuracy(50, 0.5, 1.5))
    assert (told.start.earliest_hours, told.start.latest_hours) == (1.0, 3.0)
    assert told.binding == "6 of 8 tasks fit"


def test_the_rule_that_leaves_out_most_sites_is_named():
    views = [a_view("ams", region="eu"), a_view("fra", region="eu"), a_view("osl", region="no", health=Health.DOWN)]
    told = why(a_shape(regions=("no",)), a_world(*views))
    assert told.binding == "region: rules out 2 of 3 sites"


def changes(shape, world):
    return [remedy.change for remedy in remedies(shape, world, 0.0)]


def test_what_would_help_is_tried_on_a_copy_best_first():
    # ams is full for 5 h, fra is empty and in another region: any region starts now; half the cpus fit now, too
    full = a_view("ams", region="eu", held=(running(6, until=5),))
    world = a_world(full, a_view("fra", region="us"))
    shape = a_shape(cpus=4, regions=("eu",))
    found = remedies(shape, world, 0.0)
    assert [each.change for each in found] == ["2 cpus a task", "any region", "one more node in ams/cpu"]
    assert found[1].text == "any region: it would start now at fra, 5.0 h sooner"


def test_what_could_not_run_at_all_is_told_what_would_let_it():
    closed = a_view("ams", admission=Admission.CORDONED)
    (remedy,) = remedies(a_shape(), a_world(closed), 0.0)
    assert (remedy.change, remedy.gain_hours) == ("uncordon ams", math.inf)
    assert changes(a_shape(tasks=8), a_world(a_view("ams", health=Health.DOWN))) == ["ams up again"]


def test_what_starts_now_needs_no_help():
    assert remedies(a_shape(), a_world(a_view("ams")), 0.0) == ()


@pytest.mark.parametrize("tasks", [8, 10])
def test_half_a_gang_may_fit(tasks):
    held = (running(1, until=9, count=3),)
    assert f"{tasks // 2} tasks" in changes(a_shape(tasks=tasks), a_world(a_view("ams", held=held)))
