"""Whose turn it is, and where."""

from hypothesis import given
from hypothesis import strategies as st

from adapters.process.schedule import PATIENCE_S, Need, Nodes, Place, Queue
from topology.resources import Resources
from topology.site import Pool

CPU = Pool("cpu", 2, Resources(4, 8))
GPU = Pool("gpu", 1, Resources(8, 8, (("a100", 2), ("h100", 2))))


def cpus(count, tasks=1, pool="cpu"):
    return Need(pool, Resources(count, 1), tasks)


def started(queue, nodes, now=0.0, most=100):
    return [name for name, _ in queue.take(nodes, now, most)]


def queued(*needs, since=0.0):
    """A queue of runs a, b, c ... in this order."""
    queue = Queue()
    for number, need in enumerate(needs):
        queue.add("abcdefgh"[number], need, since)
    return queue


def test_runs_start_in_the_order_they_came():
    # 2 nodes of 4 cpus: two runs of 3 fit, then a third waits while one of 1 goes past it
    assert started(queued(cpus(3), cpus(3), cpus(3), cpus(1)), Nodes([CPU])) == ["a", "b", "d"]


def test_runs_of_equal_need_keep_their_order_among_others():
    assert started(queued(cpus(1), cpus(2), cpus(1), cpus(2)), Nodes([CPU])) == ["a", "b", "c", "d"]


def test_who_has_waited_too_long_is_not_passed_any_more():
    nodes = Nodes([CPU])
    nodes.place(cpus(1))
    queue = queued(cpus(4, tasks=2), cpus(1))
    queue.add("elsewhere", cpus(1, pool="gpu"), 0.0)
    assert started(queue, nodes, now=PATIENCE_S) == []
    queue = queued(cpus(4, tasks=2), cpus(1))
    assert started(queue, nodes, now=PATIENCE_S - 1) == ["b"]


def test_a_pool_that_is_closed_closes_no_other():
    nodes = Nodes([CPU, GPU])
    nodes.place(cpus(1))
    queue = queued(cpus(4, tasks=2), cpus(1, pool="gpu"))
    assert started(queue, nodes, now=PATIENCE_S) == ["b"]


def test_no_more_start_at_once_than_asked():
    queue = queued(cpus(1), cpus(1), cpus(1))
    assert started(queue, Nodes([CPU]), most=2) == ["a", "b"]
    assert len(queue) == 1


def test_the_fullest_node_is_filled_first_so_that_large_tasks_find_an_empty_one():
    nodes = Nodes([CPU])
    assert nodes.place(cpus(1)) == (Place(0),)
    assert nodes.place(cpus(1)) == (Place(0),)
    assert nodes.place(cpus(4)) == (Place(1),)


def test_gpus_have_numbers_by_type_on_their_node():
    # a100 are 0 and 1, h100 are 2 and 3
    nodes = Nodes([GPU])
    need = Need("gpu", Resources(1, 1, (("h100", 1),)), 2)
    assert nodes.place(need) == (Place(0, (2,)), Place(0, (3,)))
    assert nodes.place(need) is None
    nodes.give(need, [Place(0, (2,)), Place(0, (3,))])
    assert nodes.place(need) == (Place(0, (2,)), Place(0, (3,)))


def test_runs_on_nodes_that_are_no_longer_declared_take_nothing():
    nodes = Nodes([CPU])
    need = cpus(1, tasks=2)
    nodes.take(need, [Place(1), Place(7)])
    assert nodes.rooms([])["cpu"].total == Resources(7, 15)
    nodes.give(need, [Place(1), Place(7)])
    assert nodes.rooms([])["cpu"] == CPU.empty


def test_what_can_never_run_is_told_with_what_is_short():
    nodes = Nodes([CPU, GPU])
    assert nodes.objection(cpus(4, tasks=2)) == ""
    assert "2 cpus more" in nodes.objection(cpus(6))
    assert "holds 2" in nodes.objection(cpus(3, tasks=3))
    assert "cpu, gpu" in nodes.objection(cpus(1, pool="tape"))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 1)), max_size=30), st.randoms())
def test_what_is_taken_fits_and_comes_back_whole(wishes, chance):
    nodes, queue = Nodes([CPU, GPU]), Queue()
    needs = {}
    for number, (count, tasks, gpus) in enumerate(wishes):
        gpu = Need("gpu", Resources(count, 1, (("a100", 1),)), tasks)
        needs[str(number)] = gpu if gpus else cpus(count, tasks)
        queue.add(str(number), needs[str(number)], 0.0)
    running = dict(queue.take(nodes, 0.0, 100))
    while running:
        for room in nodes.rooms([]).values():
            assert all(free.cpus >= 0 and free.memory_gib >= 0 for free, _ in room.groups)
        used = [(place.node, index) for places in running.values() for place in places for index in place.gpus]
        assert len(used) == len(set(used))
        name = chance.choice(list(running))
        nodes.give(needs[name], running.pop(name))
        running.update(queue.take(nodes, 0.0, 100))
    assert nodes.rooms([]) == {"cpu": CPU.empty, "gpu": GPU.empty}
