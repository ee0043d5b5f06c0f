"""Work that waits in a site's own queue: by example."""

import pytest

from broker.placement.assign import plan
from tests.broker.placement.worlds import a_shape, a_view, a_world, running, waiting


def where(given):
    """(site, how many, hours of waiting that were reckoned with) of each placement."""
    return [(each.site, each.count, each.decision.cost.wait_hours) for each in plan(given).placements]


def test_nothing_is_handed_ahead_unless_the_admin_says_so():
    full = a_view("ams", cpus=8, held=(running(1, until=1, count=8),))
    assert where(a_world(full, classes=[waiting(a_shape(), 20)])) == []


def test_a_share_of_the_pool_waits_in_the_sites_own_queue():
    # 8 cpus run for an hour more; half of 8 may wait there: 4
    full = a_view("ams", cpus=8, held=(running(1, until=1, count=8),), queue_ahead=0.5)
    made = plan(a_world(full, classes=[waiting(a_shape(), 20)]))
    assert [(each.site, each.count) for each in made.placements] == [("ams", 4)]
    assert made.placements[0].decision.cost.wait_hours == pytest.approx(1.0)
    assert [passed.reason[:18] for passed in made.passed.values()] == ["waits for ams/cpu,"]


def test_what_waits_there_already_counts():
    full = a_view("ams", cpus=8, held=(running(1, until=1, count=11),), queue_ahead=0.5)
    assert where(a_world(full, classes=[waiting(a_shape(), 20)])) == [("ams", 1, pytest.approx(1.0))]


def test_room_elsewhere_comes_first():
    # at ams a job would wait an hour; fra has room for 3
    full = a_view("ams", cpus=8, held=(running(1, until=1, count=8),), queue_ahead=0.5)
    made = where(a_world(full, a_view("fra", cpus=3), classes=[waiting(a_shape(), 20)]))
    assert [each[:2] for each in made] == [("fra", 3), ("ams", 4)]


def test_no_room_is_used_twice():
    # 8 run now, 4 more wait there
    made = where(a_world(a_view("ams", cpus=8, queue_ahead=0.5), classes=[waiting(a_shape(), 20)]))
    assert made == [("ams", 8, 0.0), ("ams", 4, pytest.approx(1.0))]


def test_a_gang_for_which_room_is_kept_is_not_overtaken_in_the_sites_queue():
    # the gang needs all 8 and half of 8 may wait there: room is kept for it, and the small jobs behind it are not handed ahead
    gang = waiting(a_shape(tasks=8, priority=90))
    full = a_view("ams", cpus=8, held=(running(1, until=1, count=8),), queue_ahead=0.5)
    assert where(a_world(full, classes=[gang, waiting(a_shape(run_hours=5), 20)])) == []


def test_a_gang_may_wait_there_as_a_whole():
    gang = waiting(a_shape(tasks=4, priority=90))
    full = a_view("ams", cpus=8, held=(running(1, until=1, count=8),), queue_ahead=0.5)
    assert where(a_world(full, classes=[gang])) == [("ams", 1, pytest.approx(1.0))]
