from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.store.base import Change, Delete, Expect, Put, Record
from broker.store.transactions import MAX_TRANSACTION_BYTES, MAX_TRANSACTION_OPERATIONS, in_order, pack, stored_at

operations = st.one_of(
    st.builds(Put, st.sampled_from("abcdef"), st.just(b""), st.sampled_from([None, 0, 5])),
    st.builds(Delete, st.sampled_from("abcdef"), st.sampled_from([None, 5])),
    st.builds(Expect, st.sampled_from("abcdef"), st.just(5)),
)
changes_of_few_keys = st.lists(st.lists(operations, min_size=1, max_size=2, unique_by=lambda each: each.key), max_size=30)


def keys_of(change: Change, only_written: bool) -> set[str]:
    return {operation.key for operation in change if not (only_written and isinstance(operation, Expect))}


@given(changes_of_few_keys)
def test_no_change_overtakes_one_that_it_depends_on(changes: list[Change]) -> None:
    waves = in_order(changes)
    assert sorted(number for wave in waves for number in wave) == list(range(len(changes)))
    wave_of = {number: wave for wave, numbers in enumerate(waves) for number in numbers}
    for later in range(len(changes)):
        for earlier in range(later):
            depends = (keys_of(changes[earlier], True) & keys_of(changes[later], False)) | (
                keys_of(changes[earlier], False) & keys_of(changes[later], True)
            )
            assert not depends or wave_of[earlier] < wave_of[later]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, MAX_TRANSACTION_BYTES))))
def test_a_transaction_stays_within_what_etcd_takes(counts_and_sizes: list[tuple[int, int]]) -> None:
    changes: list[Change] = [[Expect("a", 0)] * count for count, _ in counts_and_sizes]
    sizes = [size for _, size in counts_and_sizes]
    packs = pack(range(len(changes)), changes, sizes)
    assert [number for each in packs for number in each] == list(range(len(changes)))
    for each in packs:
        assert sum(len(changes[number]) for number in each) <= MAX_TRANSACTION_OPERATIONS
        assert sum(sizes[number] for number in each) <= MAX_TRANSACTION_BYTES


def test_many_who_only_look_at_a_key_go_together() -> None:
    assert in_order([[Put(key, b"", 0), Expect("site", 5)] for key in "abc"]) == [[0, 1, 2]]


def test_a_doubtful_change_is_stored_only_if_all_of_it_is_there_at_one_revision() -> None:
    change = [Put("a", b"new", 5), Put("b", b"new", 0), Delete("c", 4)]
    a, b = Record("a", b"new", 9, 1), Record("b", b"new", 9, 9)
    assert stored_at(change, {"a": a, "b": b, "c": None}) == 9
    assert stored_at(change, {"a": a, "b": Record("b", b"new", 8, 8), "c": None}) is None, "another wrote the same"
    assert stored_at(change, {"a": Record("a", b"new", 5, 1), "b": None, "c": None}) is None, "as it was before"
    assert stored_at(change, {"a": a, "b": b, "c": Record("c", b"", 4, 4)}) is None
