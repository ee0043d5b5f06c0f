"""Ids in order, against a plain sorted set."""

from hypothesis import given
from hypothesis import strategies as st

from broker.ids import Ids

NAMES = st.sampled_from([f"j{number:02}" for number in range(30)])


@given(st.lists(st.tuples(st.booleans(), NAMES)), NAMES)
def test_ids_are_sorted_whatever_comes_and_goes(changes, before):
    ids, plain = Ids(), set()
    for is_new, job in changes:
        (ids.add if is_new else ids.discard)(job)
        (plain.add if is_new else plain.discard)(job)
        assert len(ids) == len(plain)
    assert list(ids) == sorted(plain)
    assert list(ids.newest()) == sorted(plain, reverse=True)
    assert list(ids.newest(before)) == sorted((job for job in plain if job < before), reverse=True)
