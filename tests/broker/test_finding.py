"""Which jobs a selector means, by the world's sorts, against a look at every job."""

from dataclasses import replace
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from broker.api.selecting import Selector, newest
from broker.clock import SystemClock
from broker.jobs.model import Ask, Attempt, JobSpec, JobState, Phase, Wish
from broker.store import keys as kinds
from broker.store.base import Record
from broker.store.keys import Keys
from broker.store.memory import MemoryStore
from broker.store.memory_server import MemoryServer
from broker.store.mirror import Mirror
from broker.world import World

TENANTS = ("default", "vision")
SITES = ("ams", "fra")
LABELS = ({}, {"team": "a"}, {"team": "b"}, {"team": "a", "stage": "train"})
NUMBERS = st.integers(0, 11)


def a_wish(number: int) -> Wish:
    """Everything of it follows from its number; it was made at that second."""
    tenant, labels = TENANTS[number % 2], LABELS[number % 4]
    return Wish(f"j{number:02}", f"n{number % 3}", tenant, float(number), "ada", JobSpec(tenant), labels=labels)


def a_state(number: int, phase: Phase, site: str) -> JobState:
    return JobState(f"j{number:02}", phase, (Attempt(1, site, "cpu", 1.0),))


SELECTORS = st.builds(
    Selector,
    phases=st.frozensets(st.sampled_from([Phase.PENDING, Phase.RUNNING, Phase.FAILED]), max_size=2),
    site=st.sampled_from(["", "", *SITES, "osl"]),
    tenant=st.sampled_from(["", "", *TENANTS, "nobody"]),
    name=st.sampled_from(["", "", "n1", "nothing"]),
    labels=st.sampled_from([(), (("team", "=", "a"),), (("team", "!=", "a"),), (("stage", "has", ""), ("team", "=", "b"))]),
    since=st.sampled_from([0.0, 4.0, 7.5, 99.0]),
)
PHASES = st.sampled_from([Phase.PENDING, Phase.RUNNING, Phase.FAILED])
CHANGES = st.one_of(
    st.tuples(st.just("made"), NUMBERS),
    st.tuples(st.just("asked"), NUMBERS),
    st.tuples(st.just("gone"), NUMBERS),
    st.tuples(st.just("moved"), NUMBERS, PHASES, st.sampled_from(SITES)),
)


@given(st.lists(CHANGES, max_size=60), SELECTORS, st.one_of(st.none(), NUMBERS.map(lambda number: f"j{number:02}")))
def test_the_sorts_hold_every_job_that_is_meant(changes, selector, before):
    clock = SystemClock()
    mirror = Mirror(MemoryStore(MemoryServer(clock)), Keys("fed"), clock)
    world, revisions = World(mirror), count(1)
    world.tenants.update(dict.fromkeys(TENANTS))
    for what, number, *more in changes:
        wish, state = mirror.keys.of(kinds.WISHES, f"j{number:02}"), mirror.keys.of(kinds.STATES, f"j{number:02}")
        at = next(revisions)
        if what == "gone":
            mirror.erase(wish, at)
            mirror.erase(state, at)
        elif what == "moved":
            mirror.enter(Record(state, b"", at, at), a_state(number, *more))
        else:
            cancel = Ask("ada", "", 1.0) if what == "asked" else None
            mirror.enter(Record(wish, b"", at, at), replace(a_wish(number), cancel=cancel))
    meant = [job.id for job in world.jobs.values() if selector.takes(job) and (before is None or job.id < before)]
    assert [job.id for job in newest(world, selector, before)] == sorted(meant, reverse=True)
    assert all(len(ids) for ids in world.sorts.values())
