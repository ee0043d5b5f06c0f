"""A federation's records in a file and back: whole, or not at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.clock import SystemClock
from broker.records import Holder, Restore, Tenant
from broker.store import codec
from broker.store import keys as kinds
from broker.store.backup import LIFT_MARGIN, MOST_REVISIONS_PER_S, Backup, BackupError, lines_of, read_backup, restore
from broker.store.base import Listing, Put, Record
from broker.store.keys import Keys
from broker.store.memory import MemoryServer, MemoryStore

KEYS = Keys("fed")
RED = codec.encode(Tenant("red"))


@pytest.fixture
def store():
    return MemoryStore(MemoryServer(SystemClock()))


def written(path, listing, made_at=1000.0):
    path.write_bytes(b"".join(lines_of(listing, KEYS, made_at)))
    return path


async def held(store):
    return {record.key: record.value for record in (await store.read(KEYS.prefix)).records}


async def test_what_is_restored_is_what_was_backed_up_but_for_leases(store, tmp_path):
    kept = {KEYS.of(kinds.TENANTS, f"t{number}"): codec.encode(Tenant(f"t{number}")) for number in range(1201)}
    leased = {KEYS.of(kinds.LEADER): codec.encode(Holder("me")), KEYS.of(kinds.OWNERS, "ams"): codec.encode(Holder("me"))}
    await store.commit([[Put(key, value, 0)] for key, value in {**kept, **leased}.items()])
    read = read_backup(written(tmp_path / "backup", await store.read(KEYS.prefix)))
    other = MemoryStore(MemoryServer(SystemClock()))
    assert await restore(other, KEYS, read, 1010.0) == 1201
    found = await held(other)
    note = codec.decode(kinds.RESTORE, found.pop(KEYS.of(kinds.RESTORE)))
    assert found == kept
    assert (note.seen, note.resumed, note.is_whole) == (read.revision, None, True)
    assert note.lift >= read.revision + 10 * MOST_REVISIONS_PER_S + LIFT_MARGIN


async def test_epochs_go_on_growing_over_restores_of_restores(store):
    earlier = codec.encode(Restore(7, 3, 0.0, "me", 5_000_000))
    await restore(store, KEYS, Backup("fed", 9, 1000.0, {"restore": earlier}), 1000.0)
    note = codec.decode(kinds.RESTORE, (await held(store))[KEYS.of(kinds.RESTORE)])
    assert note.lift >= 5_000_000 + 9


async def test_a_store_that_holds_something_is_left_as_it_is(store):
    await store.commit([[Put(KEYS.of(kinds.TENANTS, "blue"), b"{}", 0)]])
    with pytest.raises(BackupError, match=r"1 records.*empty"):
        await restore(store, KEYS, Backup("fed", 9, 0.0, {"tenants/red": RED}), 0.0)
    assert list(await held(store)) == [KEYS.of(kinds.TENANTS, "blue")]


async def test_one_that_was_cut_off_anywhere_goes_on_where_it_was():
    server = MemoryServer(SystemClock())
    store = MemoryStore(server)
    backup = Backup("fed", 9, 0.0, {f"tenants/t{number}": codec.encode(Tenant(f"t{number}")) for number in range(1001)})

    class Cut(Exception):
        pass

    class Cutting(MemoryStore):
        left = 1

        async def commit(self, changes, fence=None):
            if not self.left:
                raise Cut
            self.left -= 1
            return await super().commit(changes, fence)

    for calls in (1, 1, 1):
        cutting = Cutting(server)
        cutting.left = calls
        with pytest.raises(Cut):
            await restore(cutting, KEYS, backup, 5.0)
        assert not codec.decode(kinds.RESTORE, (await held(store))[KEYS.of(kinds.RESTORE)]).is_whole
    with pytest.raises(BackupError, match="empty"):
        await restore(store, KEYS, Backup("fed", 9, 0.0, {"tenants/t1": b"{}"}), 5.0)
    assert await restore(store, KEYS, backup, 5.0) == 1001
    assert codec.decode(kinds.RESTORE, (await held(store))[KEYS.of(kinds.RESTORE)]).is_whole
    assert len(await held(store)) == 1002
    with pytest.raises(BackupError, match="empty"):
        await restore(store, KEYS, backup, 5.0)


async def test_an_earlier_restore_that_cannot_be_read_is_told(store):
    with pytest.raises(BackupError, match="epochs"):
        await restore(store, KEYS, Backup("fed", 9, 0.0, {"restore": b"{}"}), 0.0)
    assert not await held(store)


async def test_another_federations_backup_is_refused(store):
    with pytest.raises(BackupError, match="federation red"):
        await restore(store, KEYS, Backup("red", 9, 0.0, {"tenants/red": RED}), 0.0)
    assert not await held(store)


@settings(deadline=None)
@given(values=st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_come_back_as_they_were(tmp_path_factory, values):
    records = [Record(KEYS.of(kinds.STATES, f"j{number}"), value, 5, 5) for number, value in enumerate(values)]
    read = read_backup(written(tmp_path_factory.getbasetemp() / "any", Listing(5, records)))
    assert read.records == {f"states/j{number}": value for number, value in enumerate(values)}


CUTS = ("the end", "a record", "half a line", "a changed byte", "a changed head", "all", "not ours", "another format")


@pytest.mark.parametrize("cut", CUTS)
def test_a_part_is_never_taken_for_the_whole(tmp_path, cut):
    path = written(tmp_path / "backup", Listing(5, [Record(KEYS.of(kinds.TENANTS, name), RED, 5, 5) for name in "ab"]))
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    path.write_bytes(
        {
            "the end": b"".join(lines[:-1]),
            "a record": b"".join(lines[:1] + lines[2:]),
            "half a line": content[:-30],
            "a changed byte": content.replace(b"tenants/a", b"tenants/c"),
            "a changed head": content.replace(b'"revision":5', b'"revision":4', 1),
            "all": b"",
            "not ours": b"[1]\n" + content,
            "another format": content.replace(b'"format":1', b'"format":2', 1),
        }[cut]
    )
    with pytest.raises(BackupError, match="not all of one"):
        read_backup(path)
