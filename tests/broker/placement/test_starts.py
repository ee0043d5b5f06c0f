"""When a job that waits should start: a range, by how wrong run times were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.placement.starts import UNKNOWN, Accuracy, accuracy_of, release_hours, start
from broker.placement.view import Binding, Wait
from tests.broker.placement.worlds import a_shape, a_view, a_world, running

SHORT = Binding("cpus", "short of 1 cpus")


def a_wait(hours=2.0, behind=0.0, each=0.0):
    return Wait(hours, behind, each, SHORT)


def test_of_the_runs_that_ended_eight_in_ten_are_within():
    # of 20 runs 2 took half, 16 as long and 2 three times as long as was expected: the third and the 19th of them
    accuracy = accuracy_of([0.5] * 2 + [1.0] * 16 + [3.0] * 2)
    assert (accuracy.runs, accuracy.low, accuracy.high) == (20, 1.0, 3.0)
    assert accuracy.text == "of 20 runs that ended, 8 in 10 took 1 to 3 times what was expected"


def test_of_too_few_runs_nothing_is_concluded():
    assert accuracy_of([9.0] * 19) == UNKNOWN
    assert UNKNOWN.text == "runs are taken to last half to twice as long as expected: too few have ended"


def test_a_start_is_as_early_as_short_runs_and_as_late_as_long_ones_let_it_be():
    # the pool gives enough back in 0.5 to 4 h, expected 2 h; 1 h of work is before the class, and 2 jobs of it of 0.25 h each:
    # earliest 0.5 + 0.5 * 1.5 = 1.25, expected 3 + 0.5 = 3.5, latest 4 + 2 * 1.5 = 7
    found = start(a_wait(hours=3.0, behind=1.0, each=0.25), 2, (0.5, 4.0), Accuracy(40, 0.5, 2.0), is_last=False)
    assert (found.earliest_hours, found.expected_hours, found.latest_hours) == (1.25, 3.5, 7.0)
    assert found.text.startswith("expected to start in 1.2 to 7.0 h (of 40 runs that ended, 8 in 10 took 0.5 to 2 times")


def test_where_nothing_tells_when_room_comes_the_guess_is_scaled():
    found = start(a_wait(hours=2.0), 0, (None, None), Accuracy(40, 0.5, 3.0), is_last=False)
    assert (found.earliest_hours, found.latest_hours) == (1.0, 6.0)


def test_one_that_is_not_queued_may_come_before_all_that_waits():
    found = start(a_wait(hours=3.0, behind=1.0), 0, (2.0, 2.0), Accuracy(40, 1.0, 1.0), is_last=True)
    assert (found.earliest_hours, found.latest_hours) == (2.0, 3.0)


@given(
    st.floats(0, 1e3), st.floats(0, 1e3), st.integers(0, 99), st.lists(st.floats(0.001, 1e3), max_size=60), st.booleans(),
    st.tuples(st.none() | st.floats(0, 1e3), st.none() | st.floats(0, 1e3)),
)  # fmt: skip
def test_the_range_holds_what_is_reckoned_with(release, behind, before, parts, is_last, releases):
    found = start(a_wait(release + behind, behind, 0.5), before, releases, accuracy_of(parts), is_last=is_last)
    assert found.earliest_hours <= found.expected_hours * (1 + 1e-9) + 1e-9
    assert found.expected_hours <= found.latest_hours * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize(("cpus", "hours"), [(1, 1.0), (4, 1.0), (6, 3.0), (9, None)])
def test_a_pool_gives_back_enough_once_so_many_runs_have_ended(cpus, hours):
    # of 8 cpus 4 are given back in 1 h, the other 4 in 3 h
    view = a_view("ams", held=(running(4, until=1), running(4, until=3)))
    assert release_hours(a_shape(cpus=cpus), "cpu", a_world(view), view) == hours
