"""The garbage collector of a broker, in a process of its own: what is set there is set for good."""

import subprocess
import sys

OUTLIVES = """
import gc
from broker.app import spare_the_collector
spare_the_collector()
before = gc.get_freeze_count()
records = [[] for _ in range(300_000)]
print(gc.get_freeze_count() - before)
"""
CYCLES = """
import gc, weakref
from broker.app import spare_the_collector
class Node: pass
def a_cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)
spare_the_collector()
cycles = [a_cycle() for _ in range(300_000)]
print(sum(cycle() is not None for cycle in cycles))
"""


def said(program):
    return int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def test_records_that_stay_are_not_looked_through_for_ever():
    assert said(OUTLIVES) > 150_000


def test_young_cycles_are_collected():
    assert said(CYCLES) < 60_000
