"""What any store must do. One suite over the twin in memory, a real etcd, and three of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from broker.store.base import (
    Batch,
    Behind,
    Change,
    Compacted,
    Conflict,
    Delete,
    Expect,
    Fence,
    Fenced,
    NoSpace,
    Put,
    Record,
    Rejected,
    Removed,
    Saved,
    Store,
    StoreUnavailable,
    Written,
)
from broker.store.etcd import EtcdStore
from tests.contract.stores import CLOCK, Kind
from tests.engines.etcd.cluster import Cluster


async def put(store: Store, key: str, value: bytes = b"v", expect: int | None = 0, lease: int = 0) -> int:
    [result] = await store.commit([[Put(key, value, expect, lease)]])
    assert isinstance(result, Saved), result
    return result.revision


async def values(store: Store, prefix: str) -> dict[str, bytes]:
    return {record.key.removeprefix(prefix): record.value for record in (await store.read(prefix)).records}


async def follow(store: Store, prefix: str, revision: int, until: str) -> list[Written | Removed]:
    """All events from `revision` on, up to the one of the key `until`."""
    events: list[Written | Removed] = []
    async for batch in store.watch(prefix, revision):
        events += batch.events
        if any(key_of(event) == until for event in batch.events):
            return events
    raise AssertionError("the watch ended")


def key_of(event: Written | Removed) -> str:
    return event.record.key if isinstance(event, Written) else event.key


async def test_a_write_replaces_only_the_revision_that_was_read(store: Store, prefix: str) -> None:
    key = prefix + "a"
    first = await put(store, key, b"1")
    assert await store.commit([[Put(key, b"2", 0)]]) == [Conflict(key)]
    second = await put(store, key, b"2", expect=first)
    assert await store.commit([[Put(key, b"3", first)]]) == [Conflict(key)]
    assert await store.get([key, prefix + "none"]) == [Record(key, b"2", second, first), None]
    assert (await put(store, key, b"4", expect=None)) > second


async def test_a_delete_is_guarded_too_and_removing_nothing_is_no_error(store: Store, prefix: str) -> None:
    key = prefix + "a"
    first = await put(store, key)
    assert await store.commit([[Delete(key, first + 1)]]) == [Conflict(key)]
    [gone] = await store.commit([[Delete(key, first)]])
    assert isinstance(gone, Saved)
    assert gone.revision > first
    [again] = await store.commit([[Delete(key, None)]])
    assert isinstance(again, Saved)
    assert await values(store, prefix) == {}


async def test_an_expectation_alone_writes_nothing(store: Store, prefix: str) -> None:
    key = prefix + "a"
    first = await put(store, key)
    assert isinstance((await store.commit([[Expect(key, first), Put(prefix + "b", b"", 0)]]))[0], Saved)
    assert await store.commit([[Expect(key, 0), Put(prefix + "c", b"", 0)]]) == [Conflict(key)]
    assert list(await values(store, prefix)) == ["a", "b"]


async def test_a_change_happens_whole_or_not_at_all(store: Store, prefix: str) -> None:
    taken = await put(store, prefix + "taken")
    change = [Put(prefix + "x", b"", 0), Delete(prefix + "taken", taken), Put(prefix + "y", b"", 7)]
    assert await store.commit([change]) == [Conflict(prefix + "y")]
    assert await values(store, prefix) == {"taken": b"v"}
    [saved] = await store.commit([[*change[:2], Put(prefix + "y", b"", 0)]])
    assert isinstance(saved, Saved)
    assert {record.revision for record in (await store.read(prefix)).records} == {saved.revision}


async def test_losers_of_a_batch_are_told_apart_from_innocents(store: Store, prefix: str) -> None:
    # every 50th of 500 keys is there already: 10 conflicts, 490 saved
    await store.commit([[Put(f"{prefix}{number:03}", b"old", 0)] for number in range(0, 500, 50)])
    results = await store.commit([[Put(f"{prefix}{number:03}", b"new", 0)] for number in range(500)])
    assert [number for number, result in enumerate(results) if isinstance(result, Conflict)] == list(range(0, 500, 50))
    stored = await values(store, prefix)
    assert len(stored) == 500
    assert {number for number in stored if stored[number] == b"old"} == {f"{number:03}" for number in range(0, 500, 50)}
    written = {record.key: record.revision for record in (await store.read(prefix)).records}
    saved = {f"{prefix}{number:03}": result.revision for number, result in enumerate(results) if isinstance(result, Saved)}
    assert saved.items() <= written.items()


async def test_changes_of_the_same_key_happen_in_their_order(store: Store, prefix: str) -> None:
    key = prefix + "a"
    changes: list[Change] = [[Put(key, b"%d" % number, None)] for number in range(20)]
    changes += [[Delete(key, None)], [Put(key, b"last", 0)], [Put(key, b"too late", 0)]]
    results = await store.commit(changes)
    revisions = [result.revision for result in results if isinstance(result, Saved)]
    assert revisions == sorted(set(revisions))
    assert results[-1] == Conflict(key)
    assert await values(store, prefix) == {"a": b"last"}


async def test_a_change_that_writes_a_key_twice_is_a_bug_of_the_caller(store: Store, prefix: str) -> None:
    change = [Put(prefix + "a", b"", 0), Delete(prefix + "a", None)]
    with pytest.raises(ValueError):
        await store.commit([[Put(prefix + "innocent", b"", None)], change])
    assert await values(store, prefix) == {}


async def test_a_change_too_large_for_any_store_is_rejected_and_the_others_go_on(store: Store, prefix: str) -> None:
    many = [Put(f"{prefix}{number}", b"", 0) for number in range(41)]
    large = [Put(prefix + "large", bytes(2_000_000), 0)]
    first, second = [Put(prefix + "first", b"1", 0)], [Put(prefix + "second", b"2", 0)]
    results = await store.commit([first, many, large, second])
    assert [type(result) for result in results] == [Saved, Rejected, Rejected, Saved]
    assert "41 operations" in results[1].reason
    assert await values(store, prefix) == {"first": b"1", "second": b"2"}
    assert [type(result) for result in await store.commit([large])] == [Rejected]


async def test_a_fence_asks_who_created_the_key_not_who_wrote_it_last(store: Store, prefix: str) -> None:
    owner = prefix + "owner"
    created = await put(store, owner, b"me")
    await put(store, owner, b"still me", expect=created)
    [saved] = await store.commit([[Put(prefix + "a", b"", 0)]], Fence(owner, created))
    assert isinstance(saved, Saved)
    await store.commit([[Delete(owner, None)]])
    await put(store, owner, b"me")
    with pytest.raises(Fenced):
        await store.commit([[Put(prefix + "b", b"", 0)]], Fence(owner, created))
    assert list(await values(store, prefix)) == ["a", "owner"]


async def test_a_fence_lost_in_the_middle_of_a_batch_stops_its_rest(store: Store, prefix: str) -> None:
    owner = prefix + "owner"
    fence = Fence(owner, await put(store, owner))
    # all of them write "a", so they go one by one; the third takes the ownership away
    changes: list[Change] = [[Put(prefix + "a", b"%d" % number, None), Put(f"{prefix}b{number}", b"", 0)] for number in range(6)]
    changes[2] = [*changes[2], Delete(owner, None)]
    with pytest.raises(Fenced):
        await store.commit(changes, fence)
    assert await values(store, prefix) == {"a": b"2", "b0": b"", "b1": b"", "b2": b""}


async def test_a_watch_tells_all_that_happened_once_and_in_order(kind: Kind, store: Store, prefix: str) -> None:
    begun = await put(store, prefix + "begin")
    watching = asyncio.create_task(follow(store, prefix, begun, until=prefix + "end"))
    writer = kind.client()
    for number in range(20):
        await writer.commit([[Put(f"{prefix}{key:02}", b"%d" % number, None)] for key in range(100)])
        await writer.commit([[Delete(f"{prefix}{number:02}", None)], [Put("/elsewhere/" + prefix, b"", None)]])
    await put(writer, prefix + "end")
    await writer.close()
    events = await watching

    revisions = [event.record.revision if isinstance(event, Written) else event.revision for event in events]
    assert revisions == sorted(revisions)
    # begin, 20 rounds of 100 writes and a removal, end
    assert len(events) == 1 + 20 * (100 + 1) + 1
    replayed: dict[str, Record] = {}
    for event in events:
        if isinstance(event, Written):
            replayed[event.record.key] = event.record
        else:
            del replayed[event.key]
    assert sorted(replayed.values(), key=lambda record: record.key) == list((await store.read(prefix)).records)
    assert await follow(store, prefix, revisions[-1], until=prefix + "end") == events[-1:]


async def test_a_watch_says_first_that_it_stands(store: Store, prefix: str) -> None:
    revision = (await store.read(prefix)).revision
    async for batch in store.watch(prefix, revision + 1):
        assert batch == Batch(revision, ())
        break


async def test_a_watch_of_what_is_yet_to_come_says_so_and_one_of_what_comes_next_does_not(store: Store, prefix: str) -> None:
    now = await put(store, prefix + "a", b"1")
    with pytest.raises(Behind):
        await anext(store.watch(prefix, now + 1000))
    assert (await anext(store.watch(prefix, now + 1))).revision == now


async def test_a_watch_from_before_a_compaction_is_told_so(store: Store, prefix: str) -> None:
    first = await put(store, prefix + "a")
    last = await put(store, prefix + "a", expect=first)
    await store.compact(last)
    await store.compact(first)
    with pytest.raises(Compacted):
        await follow(store, prefix, first, until=prefix + "a")
    assert len(await follow(store, prefix, last, until=prefix + "a")) == 1


async def test_a_lease_lasts_while_the_loop_is_alive_and_then_takes_its_keys_along(
    kind: Kind, store: Store, prefix: str
) -> None:
    witness = kind.client()
    granted = CLOCK.boottime()
    lease = await store.lease(kind.ttl_s)
    created = await put(store, prefix + "a", lease=lease.id)
    assert lease.valid_until() <= CLOCK.boottime() + kind.ttl_s
    while CLOCK.boottime() < granted + 1.5 * kind.ttl_s:
        lease.heartbeat()
        await asyncio.wait_for(put(store, prefix + "beat", expect=None), kind.ttl_s)
        await asyncio.sleep(0.01)
    assert lease.valid_until() > CLOCK.boottime(), "it was renewed, past the time it was granted for"

    # no heartbeat from here on
    [gone] = await follow(witness, prefix + "a", created + 1, until=prefix + "a")
    assert isinstance(gone, Removed)
    assert lease.valid_until() <= CLOCK.boottime(), "we knew no later than others"
    with pytest.raises(Fenced):
        await put(store, prefix + "b", lease=lease.id)
    await witness.close()


async def test_a_lease_that_is_closed_takes_its_keys_along_at_once(kind: Kind, store: Store, prefix: str) -> None:
    lease = await store.lease(kind.ttl_s)
    await put(store, prefix + "mine", lease=lease.id)
    kept = await put(store, prefix + "kept", lease=lease.id)
    await put(store, prefix + "kept", expect=kept)
    await lease.close()
    assert lease.valid_until() <= CLOCK.boottime()
    assert await values(store, prefix) == {"kept": b"v"}, "a key written again without the lease hangs on it no more"


async def test_a_listing_of_many_pages_is_of_one_revision(kind: Kind, store: Store, prefix: str) -> None:
    count = 5000
    await store.commit([[Put(f"{prefix}{number:05}", b"0", 0)] for number in range(count)])
    writer, is_over = kind.client(), asyncio.Event()

    async def write_on() -> None:
        # first and last key are on different pages and always change together
        number = 0
        while not is_over.is_set():
            number += 1
            await writer.commit([[Put(f"{prefix}{key:05}", b"%d" % number, None) for key in (0, count - 1)]])

    writing = asyncio.create_task(write_on())
    for _ in range(5):
        listing = await store.read(prefix)
        assert len(listing.records) == count
        assert listing.records[0].value == listing.records[-1].value
        assert max(record.revision for record in listing.records) <= listing.revision
    is_over.set()
    await writing
    await writer.close()


async def test_a_write_whose_reply_was_lost_counts_as_saved(kind: Kind, store: Store, prefix: str) -> None:
    first = await put(store, prefix + "a", b"1")

    async def act(client: Store) -> Sequence[object]:
        return await client.commit(
            [[Put(prefix + "a", b"2", first)], [Put(prefix + "b", b"", 0), Expect(prefix + "c", 0)]]
        )

    results = await kind.with_lost_reply(act, written=prefix + "b")
    [a, b] = (await store.read(prefix)).records
    assert results == [Saved(a.revision), Saved(b.revision)]
    assert a.value == b"2"


async def test_what_is_acknowledged_under_failures_happened_once(kind: Kind, store: Store, prefix: str) -> None:
    # every counter has one writer, who adds one to what it knows: an acknowledged addition that is lost, or one that is
    # made twice, makes it meet a value that it did not write
    counters = [f"{prefix}{number:03}" for number in range(200)]
    known = {key: (0, await put(store, key, b"0")) for key in counters}
    rounds = 0
    async with kind.disturbed() as client:
        breaking = [task for task in asyncio.all_tasks() if task.get_name() == "breaking"]
        while rounds < 30 or not all(task.done() for task in breaking):
            rounds += 1
            results = await client.commit([[Put(key, b"%d" % (n + 1), revision)] for key, (n, revision) in known.items()])
            for key, result in zip(counters, results, strict=True):
                assert isinstance(result, Saved), (key, result)
                known[key] = (known[key][0] + 1, result.revision)
    stored = {record.key: (int(record.value), record.revision) for record in (await store.read(prefix)).records}
    assert stored == known
    assert {n for n, _ in known.values()} == {rounds}


async def test_a_watch_goes_on_after_a_failure_without_a_gap(kind: Kind, store: Store, prefix: str) -> None:
    begun = await put(store, prefix + "begin")
    writes = 0
    async with kind.disturbed() as client:
        watching = asyncio.create_task(follow_on(client, prefix, begun, until=prefix + "end"))
        breaking = [task for task in asyncio.all_tasks() if task.get_name() == "breaking"]
        while writes < 100 or not all(task.done() for task in breaking):
            await client.commit([[Put(f"{prefix}{writes}", b"", 0)]])
            writes += 1
        await client.commit([[Put(prefix + "end", b"", 0)]])
        events = await watching
    assert [key_of(event).removeprefix(prefix) for event in events] == ["begin", *map(str, range(writes)), "end"]


async def test_a_member_that_hangs_delays_but_loses_nothing(three_etcds: Cluster, prefix: str) -> None:
    leader, followers = three_etcds.leader(), three_etcds.followers()
    endpoints = [leader.endpoint, *(member.endpoint for member in followers)]
    store = EtcdStore(endpoints, clock=CLOCK, timeout_s=9.0, silence_s=0.5)
    begun = await put(store, prefix + "begin")
    watching = asyncio.create_task(follow_on(store, prefix, begun, until=prefix + "end"))
    leader.pause()
    try:
        results = await store.commit([[Put(f"{prefix}{number:03}", b"", 0)] for number in range(300)])
        await put(store, prefix + "end")
        events = await watching
    finally:
        leader.resume()
        await store.close()
    assert {type(result) for result in results} == {Saved}
    assert len(events) == 1 + 300 + 1


async def follow_on(store: Store, prefix: str, revision: int, until: str) -> list[Written | Removed]:
    """As `follow`, resuming behind what was seen whenever the watch ends."""
    events: list[Written | Removed] = []
    while True:
        try:
            async for batch in store.watch(prefix, revision):
                events += batch.events
                revision = batch.revision + 1
                if any(key_of(event) == until for event in batch.events):
                    return events
        except StoreUnavailable:
            await CLOCK.sleep(0.01)


async def test_a_full_store_says_so_and_still_lets_go_of_what_it_has(full_store: Store) -> None:
    with pytest.raises(NoSpace):
        await fill(full_store, "/full/")
    assert (await full_store.status()).has_nospace_alarm
    [result] = await full_store.commit([[Delete("/full/0", None)]])
    assert isinstance(result, Saved)


async def fill(store: Store, prefix: str) -> None:
    for number in range(100):
        await put(store, f"{prefix}{number}", bytes(900_000))


async def test_the_status_tells_version_and_size(store: Store) -> None:
    status = await store.status()
    assert status.version
    assert not status.has_nospace_alarm
    assert status.members in (1, 3)
