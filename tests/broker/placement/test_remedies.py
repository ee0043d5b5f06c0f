"""What change would let a job start sooner."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings

from broker.placement.assign import plan
from broker.placement.behind import before
from broker.placement.remedies import remedies, tried
from broker.placement.view import Awaited, QueuedClass
from broker.records import Health
from tests.broker.placement.drawn import worlds
from tests.broker.placement.worlds import NOW, a_link, a_shape, a_view, a_world, running, waiting
from topology.resources import Resources
from topology.site import Admission


def changes(shape, world, *more):
    return [remedy.change for remedy in remedies(shape, world, *more)]


def test_changes_are_tried_on_a_copy_and_told_best_first():
    # ams is full for 5 h, fra is empty and in another region: any region starts now; half the cpus and one node more, too
    full = a_view("ams", region="eu", held=(running(6, until=5),))
    found = remedies(a_shape(cpus=4, regions=("eu",)), a_world(full, a_view("fra", region="us")))
    assert [each.change for each in found] == ["any region", "2 cpus a task", "1 more node in ams/cpu"]
    assert found[0].text == "any region: it would start now at fra, 5.0 h sooner"


def test_what_starts_now_needs_no_help():
    assert remedies(a_shape(), a_world(a_view("ams"))) == ()


def test_what_could_not_run_at_all_is_told_what_would_let_it():
    closed = a_view("ams", admission=Admission.CORDONED)
    (remedy,) = remedies(a_shape(), a_world(closed))
    assert (remedy.change, remedy.gain_hours) == ("uncordon ams", math.inf)
    assert remedy.text == "uncordon ams: it would start now at ams"
    assert changes(a_shape(tasks=8), a_world(a_view("ams", health=Health.DOWN))) == ["ams up again"]


def test_of_several_sites_that_could_be_opened_the_best_is_told():
    # ams is cordoned and full for 2 h, fra cordoned and empty
    views = [
        a_view("ams", admission=Admission.CORDONED, held=(running(8, until=2),)),
        a_view("fra", admission=Admission.CORDONED),
    ]
    assert changes(a_shape(), a_world(*views)) == ["uncordon fra"]


@pytest.mark.parametrize("tasks", [8, 10])
def test_half_a_gang_may_fit(tasks):
    held = (running(1, until=9, count=3),)
    assert f"{tasks // 2} tasks" in changes(a_shape(tasks=tasks), a_world(a_view("ams", held=held)))


def test_as_many_nodes_are_told_as_a_gang_lacks():
    # 12 tasks of 4 cpus on 3 nodes of 8: 6 fit when it is empty, so 3 nodes lack
    found = changes(a_shape(tasks=12, cpus=4), a_world(a_view("ams", nodes=3)))
    assert found == ["6 tasks", "2 cpus a task", "3 more nodes in ams/cpu"]


def test_a_shorter_run_may_take_room_that_is_kept_for_an_earlier_job():
    # 2 of 8 cpus are free; the gang before it starts in 2 h and takes all: 0.95 * 2 h = 1.9 h may run until then
    world = a_world(
        a_view("ams", held=(running(6, until=2),)),
        classes=[waiting(a_shape(tasks=8, cpus=1), age=60), waiting(a_shape(run_hours=5, cpus=1))],
    )
    shape, made = world.classes[1].shape, plan(world)
    assert made.passed[shape].reason.endswith("its room is kept for an earlier job")
    first = remedies(shape, world, 0.0, before(shape, made))[0]
    assert (first.change, first.starts_in_hours) == ("a run time of at most 1.9 h", 0.0)


def test_what_waits_before_it_is_worked_off_first_by_more_nodes():
    # 10 h of work wait for 10 full nodes, free in 1 h; a tenth more makes that 10 / 1.1 = 9.1 h, 11 - 9.1 = 1.9 h sooner
    full = a_view("ams", nodes=10, held=(running(8, until=1, count=10),))
    awaited = (Awaited("ams", "cpu", 10.0, 1.0, Resources()),)
    (remedy,) = remedies(a_shape(), a_world(full), 0.0, awaited)
    assert remedy.text == "1 more node in ams/cpu: it would start in 9.1 h at ams, 1.9 h sooner"


def test_copies_and_links_that_lack_are_told():
    # ams has the data and no room for 9 h; nothing leads to fra, which is empty: a copy there starts now, a link in
    # 3600 GiB / (1.25 GB/s) = 3600 * 1.0737 / 1.25 s = 0.86 h
    views = (a_view("ams", held=(running(8, until=9),)), a_view("fra"))
    found = {each.change: each for each in remedies(a_shape(inputs=("corpus",)), a_world(*views, at={"corpus": "ams"}))}
    assert found["a replica of default/corpus@1 at fra"].starts_in_hours == 0
    assert found["a link of 10 Gbps from ams to fra"].starts_in_hours == pytest.approx(0.859, abs=0.001)


def test_a_copy_is_told_where_bringing_it_takes_long():
    # ams is out of bounds; 3600 GiB come to fra at 1 GiB/s: 1 h
    world = a_world(a_view("ams"), a_view("fra"), at={"corpus": "ams"}, links=[a_link("ams", "fra")])
    found = remedies(a_shape(inputs=("corpus",), names=("fra",)), world)
    assert [each.text for each in found] == [
        "any site: it would start now at ams, 1.0 h sooner",
        "a replica of default/corpus@1 at fra: it would start now at fra, 1.0 h sooner",
    ]


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_what_is_told_to_start_now_does_start_when_it_is_changed(world):
    shape = world.classes[0].shape
    found = tried(shape, world)
    assume(found)
    for change, remedy in found:
        if remedy.starts_in_hours or change.growth:
            continue
        views = tuple(change.view if change.view and change.view.site.name == view.site.name else view for view in world.sites)
        classes = (QueuedClass(change.shape, (NOW,), 1),)
        changed = replace(world, sites=views, classes=classes, topology=change.topology or world.topology)
        assert [placement.decision.cost.wait_hours for placement in plan(changed).placements] == [0.0]


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_nothing_is_told_that_does_not_help(world):
    for queued in world.classes:
        found = remedies(queued.shape, world)
        assert all(remedy.gain_hours > 0 for remedy in found)
        assert [remedy.starts_in_hours for remedy in found] == sorted(remedy.starts_in_hours for remedy in found)
