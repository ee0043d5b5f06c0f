"""A class that breaks the plan."""

import pytest

from broker.placement.assign import plan
from broker.placement.isolate import plan_around
from tests.broker.placement.worlds import a_shape, a_view, a_world, waiting

GOOD = waiting(a_shape(), 3)
NEVER_TAKEN = waiting(a_shape(tasks=0))  # as no endpoint takes it: a stand-in for a fault of ours


def test_a_class_that_breaks_the_plan_waits_with_a_reason_and_holds_up_nobody():
    world = a_world(a_view("ams"), classes=[NEVER_TAKEN, GOOD])
    with pytest.raises(ValueError, match="0 tasks"):
        plan(world)
    made = plan_around(world)
    assert [(each.shape, each.count) for each in made.placements] == [(GOOD.shape, 3)]
    assert made.passed[NEVER_TAKEN.shape].reason.startswith("our fault: planning this job fails (ValueError(")
    (fault,) = made.faults
    assert "Traceback" in fault


def test_a_plan_that_nothing_breaks_is_the_plan():
    world = a_world(a_view("ams"), classes=[GOOD])
    assert plan_around(world) == plan(world)


def test_one_that_breaks_it_among_many_is_found_by_halves(monkeypatch):
    tried = []

    def counted(given):
        tried.append(len(given.classes))
        return plan(given)

    monkeypatch.setattr("broker.placement.isolate.plan", counted)
    good = [waiting(a_shape(run_hours=hours), 1) for hours in range(1, 64)]
    made = plan_around(a_world(a_view("ams"), classes=[*good[:40], NEVER_TAKEN, *good[40:]]))
    assert len(made.faults) == 1
    assert len(tried) <= 2 + 1 + 2 * 6
