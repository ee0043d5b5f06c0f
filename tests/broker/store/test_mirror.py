"""The mirror under a lagging watch: own writes are seen at once, and nothing old ever covers something newer."""

import asyncio

import pytest

from broker.clock import SystemClock
from broker.records import Tenant
from broker.store import keys as kinds
from broker.store.base import Conflict, Delete, Put, Record, Rejected, Saved, StoreUnavailable
from broker.store.codec import encode
from broker.store.keys import Keys
from broker.store.ledger import Erase, Ledger, Save
from broker.store.memory import MemoryServer, MemoryStore
from broker.store.mirror import Mirror, Rewind

KEYS = Keys("test")
VISION = KEYS.of(kinds.TENANTS, "vision")
CLOCK = SystemClock()


class Scene:
    """A mirror and its ledger on a store, and another client that writes beside them."""

    def __init__(self) -> None:
        self.server = MemoryServer(CLOCK)
        self.other = MemoryStore(self.server)
        self.gate = asyncio.Event()
        self.gate.set()
        store = MemoryStore(self.server, self.network)
        self.mirror = Mirror(store, KEYS, CLOCK)
        self.ledger = Ledger(store, self.mirror)

    async def network(self, operation: str, stage: str) -> None:
        """Watch news wait at the gate."""
        if (operation, stage) == ("watch", "reply"):
            await self.gate.wait()

    async def write(self, tenant: Tenant, expect: int | None = None) -> int:
        """What another process writes; its revision."""
        (result,) = await self.other.commit([[Put(KEYS.of(kinds.TENANTS, tenant.name), encode(tenant), expect)]])
        assert isinstance(result, Saved)
        return result.revision


@pytest.fixture
async def scene():
    scene = Scene()
    following = asyncio.ensure_future(scene.mirror.run())
    yield scene
    following.cancel()
    await asyncio.wait([following])


async def test_what_others_wrote_before_and_after_the_listing_is_there(scene):
    await scene.write(Tenant("early"))
    revision = await scene.write(Tenant("vision", 5))
    await scene.mirror.reached(revision)
    assert scene.mirror.entries[VISION].value == Tenant("vision", 5)
    await scene.mirror.reached(await scene.write(Tenant("vision", 6)))
    assert scene.mirror.entries[VISION].value == Tenant("vision", 6)


async def test_an_own_write_is_seen_before_the_watch_tells_it(scene):
    await scene.mirror.reached(1)
    scene.gate.clear()
    (saved,) = await scene.ledger.commit([[Save(VISION, Tenant("vision", 5), 0)]])
    assert isinstance(saved, Saved)
    assert scene.mirror.entries[VISION].revision == saved.revision > scene.mirror.revision


async def test_old_news_never_covers_an_own_write_or_brings_back_what_was_erased(scene):
    await scene.mirror.reached(1)
    scene.gate.clear()
    first = await scene.write(Tenant("vision", 5))
    (second,) = await scene.ledger.commit([[Save(VISION, Tenant("vision", 6), first)]])
    (third,) = await scene.ledger.commit([[Erase(VISION, second.revision)]])
    assert VISION not in scene.mirror.entries
    seen = []
    scene.mirror.listen(Recorder(seen))
    scene.gate.set()
    await scene.mirror.reached(third.revision)
    assert (VISION in scene.mirror.entries, seen) == (False, [])


async def test_an_acknowledgement_that_comes_after_the_watch_changes_nothing(scene):
    first = await scene.write(Tenant("vision", 5))
    second = await scene.write(Tenant("vision", 6))
    await scene.mirror.reached(second)
    scene.mirror.enter(Record(VISION, encode(Tenant("vision", 5)), first, first), Tenant("vision", 5))
    assert scene.mirror.entries[VISION].value == Tenant("vision", 6)


async def test_a_lost_race_is_a_conflict_and_leaves_the_winner_in_the_mirror(scene):
    revision = await scene.write(Tenant("vision", 5))
    (result,) = await scene.ledger.commit([[Save(VISION, Tenant("vision", 6), 0)]])
    assert result == Conflict(VISION)
    await scene.mirror.reached(revision)
    assert scene.mirror.entries[VISION].value == Tenant("vision", 5)


async def test_a_draft_that_no_store_takes_is_told_of_until_it_fits(scene):
    huge, other = Tenant("x" * 2_000_000), KEYS.of(kinds.TENANTS, "other")
    results = await scene.ledger.commit([[Save(VISION, huge, 0)], [Save(other, Tenant("other"), 0)]])
    assert [type(result) for result in results] == [Rejected, Saved]
    assert set(scene.mirror.entries) == {other}
    assert list(scene.ledger.rejected) == [VISION]
    await scene.ledger.commit([[Save(VISION, Tenant("vision"), 0)]])
    assert scene.ledger.rejected == {}


async def test_after_compaction_it_lists_again_and_forgets_what_went_meanwhile(scene):
    await scene.mirror.reached(await scene.write(Tenant("vision")))
    scene.gate.clear()
    await scene.write(Tenant("late"))  # the watch now waits at the gate
    (removed,) = await scene.other.commit([[Delete(VISION, None)]])
    await scene.other.compact(removed.revision)
    scene.gate.set()
    await scene.mirror.reached(removed.revision)
    assert set(scene.mirror.entries) == {KEYS.of(kinds.TENANTS, "late")}


async def test_a_record_that_cannot_be_read_is_kept_with_its_error(scene):
    (saved,) = await scene.other.commit([[Put(VISION, b'{"v":1,"name":["no name"]}', None)]])
    await scene.mirror.reached(saved.revision)
    entry = scene.mirror.entries[VISION]
    assert (entry.value, "name" in entry.error) == (None, True)


async def test_a_store_that_went_back_is_noticed_and_known_as_it_is_now(scene):
    # back to revision 2, where only `early` was; what came later, and what an own write made of `early`, is gone
    first = await scene.write(Tenant("early", 1))
    backup = scene.server.records()
    await scene.write(Tenant("early", 2))
    await scene.mirror.reached(await scene.write(Tenant("vision")))
    seen = scene.mirror.revision
    waiting = asyncio.ensure_future(scene.mirror.reached(seen + 5))
    await asyncio.sleep(0)
    scene.server.restore(backup, first)
    with pytest.raises(StoreUnavailable, match="restored"):
        await waiting
    assert scene.mirror.rewind == Rewind(seen, first)
    assert [entry.value for entry in scene.mirror.entries.values()] == [Tenant("early", 1)]
    again = await scene.write(Tenant("vision", 7))
    await scene.mirror.reached(again)
    assert scene.mirror.entries[VISION].value == Tenant("vision", 7)


class Recorder:
    """Writes down what it is told."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def on_change(self, kind, names, entry):
        self.seen.append(f"{kind} {names} {entry and entry.value}")

    def on_batch(self):
        pass
