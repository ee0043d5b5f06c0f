"""Where a class stands in the queue, and who is ahead of it."""

from dataclasses import replace

from hypothesis import given, settings

from broker.placement.assign import plan
from broker.placement.standing import left_over, standing
from broker.placement.view import TenantView
from tests.broker.placement.drawn import worlds
from tests.broker.placement.worlds import a_shape, a_view, a_world, running, waiting
from topology.resources import Resources


def ahead_of(told):
    return {each.tenant: each.jobs for each in told.by_tenant}


def test_who_is_ahead_is_told_by_tenant():
    # of 8 cpus a holds 4: 50 %, by its weight 2: 25 %; b's 2 jobs of an eighth bring it there too, then names decide: a's 2 older
    # jobs are next, and bring a to 37.5 %, so that b's third job comes before a's own
    mine, older = a_shape(tenant="a"), a_shape(tenant="a", run_hours=2)
    queue = [waiting(mine), waiting(older, 2, age=99), waiting(a_shape(tenant="b"), 3)]
    tenants = (TenantView("a", weight=2, holds=Resources(cpus=4)), TenantView("b"))
    told = standing(mine, a_world(a_view("ams", held=(running(4, until=1),)), classes=queue, tenants=tenants))
    assert (told.place, told.siblings, told.ahead, ahead_of(told)) == (2, 2, 5, {"b": 3, "a": 2})
    lead = "tenant a holds or held of late 50.0% of the federation (weight 2): 2nd of 2 whose turn is next"
    assert told.text == f"{lead}; 5 jobs are ahead of its class: 3 of b (0.0%), 2 of a (50.0%)"


def test_older_jobs_of_its_own_class_are_before_a_job():
    shape = a_shape(tenant="a")
    queue = a_world(a_view("ams"), classes=[waiting(shape, 3)])
    assert standing(shape, queue, 2).before == 2
    assert standing(shape, queue, 2).text.endswith("2 of its own class are older")


def test_one_that_no_plan_has_seen_stands_behind_its_like():
    shape = a_shape(tenant="a")
    told = standing(shape, a_world(a_view("ams"), classes=[waiting(a_shape(tenant="a", priority=90), 4, age=5)]))
    assert (told.ahead, told.siblings, told.is_planned) == (4, 1, False)
    assert told.text.startswith("no plan has looked at it yet; tenant a")
    assert standing(shape, a_world(a_view("ams"))).text.endswith("no job is ahead")


def test_tenants_are_ranked_among_those_below_the_same_parent():
    # below physics: a holds 1 of 8 cpus, b nothing; c, at the top, does not count
    tenants = (TenantView("physics"), TenantView("a", "physics", holds=Resources(cpus=1)), TenantView("b", "physics"))
    queue = [waiting(a_shape(tenant=name)) for name in "abc"]
    told = standing(a_shape(tenant="a"), a_world(a_view("ams"), classes=queue, tenants=(*tenants, TenantView("c"))))
    assert (told.place, told.siblings) == (2, 2)
    assert "2nd of 2 below physics whose turn is next" in told.text


def test_what_was_placed_is_no_longer_ahead_and_counts_as_held():
    # 2 of 3 jobs are placed on 2 cpus: b holds all of them
    first, second = a_shape(priority=90, tenant="b"), a_shape(tenant="b")
    world = a_world(a_view("ams", cpus=2), classes=[waiting(first, 3), waiting(second)], tenants=(TenantView("b"),))
    told = standing(second, left_over(world, plan(world)))
    assert (told.ahead, told.share) == (1, 1.0)


def test_jobs_that_a_plan_is_not_shown_are_told_as_more():
    shape = a_shape()
    shown = replace(waiting(a_shape(priority=90), 3), count=5)
    told = standing(shape, a_world(a_view("ams"), classes=[shown, waiting(shape)]))
    assert (told.ahead, told.has_more) == (3, True)
    assert "more than 3 jobs are ahead of its class: 3 of default" in told.text


def test_the_rest_of_a_class_of_which_all_that_was_shown_is_placed_is_still_ahead():
    # 3 of 50 were shown and are placed on 3 cpus: 47 wait, of which one is known to come before
    large, shape = a_shape(priority=90), a_shape()
    world = a_world(a_view("ams", cpus=3), classes=[replace(waiting(large, 3), count=50), waiting(shape)])
    left = left_over(world, plan(world))
    assert [queued.count for queued in left.classes] == [47, 1]
    told = standing(shape, left)
    assert (told.ahead, told.has_more) == (1, True)
    assert "more than 1 job is ahead of its class: 1 of default" in told.text
    assert standing(large, left).is_planned


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_who_is_ahead_sums_up_and_is_in_the_queue(world):
    for queued in world.classes:
        told = standing(queued.shape, world)
        assert told.ahead == sum(each.jobs for each in told.by_tenant) <= sum(other.count for other in world.classes)
        assert 1 <= told.place <= told.siblings
