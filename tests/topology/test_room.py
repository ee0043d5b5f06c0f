"""Amounts, and the room of a pool: what fits is what a packing by hand finds."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.resources import Resources
from topology.room import Room

A100 = {"a100": 1}


def tenths(most):
    """Amounts such as jobs ask for, which binary fractions do not hold."""
    return st.integers(0, most).map(lambda number: number / 10)


amounts = st.builds(Resources.of, tenths(40), tenths(40), st.dictionaries(st.sampled_from(["a100", "h100"]), st.integers(0, 4)))
tasks_of_some_size = amounts.filter(lambda amount: amount != Resources())
nodes = st.lists(amounts, max_size=4)


def exactly(amount):
    return (Fraction(str(round(amount.cpus, 6))), Fraction(str(round(amount.memory_gib, 6))), dict(amount.gpus))


def placed_one_by_one(task, free_nodes):
    """How many tasks go onto nodes when each is put onto the first node that has all it needs, in exact arithmetic."""
    cpus, memory, gpus = exactly(task)
    count = 0
    for free_cpus, free_memory, free_gpus in map(exactly, free_nodes):
        while cpus <= free_cpus and memory <= free_memory and all(free_gpus.get(kind, 0) >= n for kind, n in gpus.items()):
            free_cpus, free_memory = free_cpus - cpus, free_memory - memory
            free_gpus = {kind: n - gpus.get(kind, 0) for kind, n in free_gpus.items()}
            count += 1
    return count


def close(amount, other):
    assert (amount.cpus, amount.memory_gib, amount.gpus) == (
        pytest.approx(other.cpus, abs=1e-6), pytest.approx(other.memory_gib, abs=1e-6), other.gpus,
    )  # fmt: skip


def test_ten_tasks_of_a_tenth_fit_one_cpu():
    room = Room.of([(Resources(1.0), 1)])
    assert room.fit(Resources(0.1)) == 10
    for _ in range(10):
        room = room.take(Resources(0.1), 1)
    assert room.fit(Resources(0.1)) == 0


def test_free_cpus_on_many_nodes_do_not_make_one_large_node():
    room = Room.of([(Resources(2.0), 100)])
    assert (room.total.cpus, room.fit(Resources(4.0)), room.take(Resources(4.0), 1)) == (200.0, 0, None)


def test_a_gang_is_packed_onto_the_fullest_nodes_so_that_large_tasks_still_find_room():
    # 2 and 4 cpus free: a task of 2 goes where 2 are left, so that one of 4 fits after it
    room = Room.of([(Resources(4.0), 1), (Resources(2.0), 1)]).take(Resources(2.0), 1)
    assert room.fit(Resources(4.0)) == 1


def test_tasks_without_gpus_leave_the_gpu_nodes_free():
    room = Room.of([(Resources.of(2, 8, A100), 1), (Resources(8.0, 8.0), 1)]).take(Resources(1.0), 4)
    assert room.fit(Resources.of(2, 8, A100)) == 1


def test_a_shortfall_names_what_lacks():
    want, have = Resources.of(4, 16, {"a100": 2, "h100": 1}), Resources.of(2, 16, {"h100": 1})
    assert str(want.shortfall(have)) == "2 cpus, 2 a100 GPUs"
    assert str(Resources()) == "nothing"


@given(tasks_of_some_size, nodes)
def test_what_fits_is_what_a_packing_by_hand_finds(task, free):
    assert Room.of((node, 1) for node in free).fit(task) == placed_one_by_one(task, free)


@given(tasks_of_some_size, nodes, st.integers(0, 12))
def test_a_gang_is_taken_when_it_fits_and_takes_just_what_it_needs(task, free, tasks):
    room = Room.of((node, 1) for node in free)
    left = room.take(task, tasks)
    assert (left is not None) == (tasks <= room.fit(task))
    if left is not None:
        close(left.total + task * tasks, room.total)
        assert sum(count for _, count in left.groups) == len(free)
        assert all(node.cpus > -1e-6 and node.memory_gib > -1e-6 for node, _ in left.groups)
        assert all(count > 0 for node, _ in left.groups for _, count in node.gpus)
        assert left.fit(task) == room.fit(task) - tasks
        close(left.give(task, tasks).total, room.total)


groups = st.lists(st.tuples(amounts, st.integers(0, 3)), max_size=5)


@given(groups.flatmap(lambda free: st.tuples(st.just(free), st.permutations(free))))
def test_a_room_does_not_depend_on_the_order_of_its_nodes(orders):
    assert Room.of(orders[0]) == Room.of(orders[1])


@given(amounts, amounts)
def test_what_fits_lacks_nothing_and_what_lacks_nothing_fits(want, room):
    assert want.fits(room) == (want.shortfall(room) == Resources())


@given(amounts, amounts)
def test_what_is_added_can_be_taken_away(amount, other):
    close(amount + other - other, amount)


@given(amounts, st.integers(0, 5))
def test_times_an_amount_is_as_often_added(amount, times):
    total = Resources()
    for _ in range(times):
        total = total + amount
    close(total, amount * times)
