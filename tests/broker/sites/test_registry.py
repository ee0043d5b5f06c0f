"""Which sites a process works: gained, lost, renewed when their record changes, and told when their settings are wrong."""

import asyncio
import random
from dataclasses import replace

from adapters.twin import Behaviour, TwinAdapter
from broker.config import Settings
from broker.context import Context
from broker.jobs.model import Phase
from broker.members import Right
from broker.metrics import Metrics
from broker.records import Health, Holder
from broker.sites.registry import Registry
from broker.storage import Tree
from broker.store import keys as kinds
from broker.store.base import Delete, Fence, Put
from broker.store.codec import encode
from broker.store.ledger import Ledger
from broker.store.memory import MemoryStore
from broker.store.mirror import Mirror
from broker.world import World
from tests.broker.sites.owner import FEDERATION, KEYS, Place, Rights, in_virtual_time
from topology.dataset import Dataset, DatasetId, Replica


class Closing(TwinAdapter):
    """Tells whether it was closed."""

    is_closed = False

    async def close(self) -> None:
        self.is_closed = True


class Process:
    """A broker's registry over a place, with the right to ams."""

    def __init__(self, place: Place) -> None:
        self.opened: list[Closing] = []
        self.problem = ""
        self._place = place
        self._store = MemoryStore(place.server)
        self.mirror = Mirror(self._store, KEYS, place.clock)
        world = World(self.mirror)
        context = Context(Settings(federation=FEDERATION), place.clock, world, Ledger(self._store, self.mirror), Metrics())
        shelf = place.shelf
        self.registry = Registry(context, self._store, self._open, shelf, shelf, shelf, random.Random(1))
        self.registry.rights = Rights()
        self._tasks = [asyncio.create_task(self.mirror.run()), asyncio.create_task(self.registry.run())]

    async def right(self) -> Right:
        """Taken as `Members` takes it."""
        key = KEYS.of(kinds.OWNERS, "ams")
        revision = self._place.server.transact([[Put(key, encode(Holder("a")), 0)]], None)
        await self.mirror.reached(revision)
        return Right("ams", Fence(key, revision), await self._store.lease(1e9))

    async def close(self) -> None:
        await self.registry.close()
        self._store.die()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _open(self, site) -> Closing:
        if self.problem:
            raise ValueError(self.problem)
        self.opened.append(Closing(self._place.twin, FEDERATION))
        return self.opened[-1]


def on_a_process(story):
    """Run a story on one process and close it."""

    async def whole(place: Place):
        process = Process(place)
        try:
            await story(place, process)
        finally:
            await process.close()

    in_virtual_time(whole)


def test_what_is_gained_is_worked_and_what_is_lost_is_closed():
    async def story(place, process):
        right = await process.right()
        await process.registry.gain(right)
        assert process.registry.adapter("ams") is process.opened[0]
        place.job()
        await place.until_phase(Phase.SUCCEEDED)
        await process.registry.lose(right)
        assert process.opened[0].is_closed
        assert not process.registry.owned

    on_a_process(story)


def test_a_site_that_was_gone_when_it_was_gained_is_worked_once_it_is_back():
    async def story(place, process):
        site = place.read(kinds.SITES, "ams")
        place.remove(KEYS.of(kinds.SITES, "ams"))
        right = await process.right()
        await process.registry.gain(right)
        assert not process.registry.owned
        place.put(KEYS.of(kinds.SITES, "ams"), site)
        place.job()
        await place.until_phase(Phase.SUCCEEDED)
        assert process.registry.owned == {"ams": right}

    on_a_process(story)


def test_a_site_that_was_gone_and_let_go_of_is_not_worked():
    async def story(place, process):
        site = place.read(kinds.SITES, "ams")
        place.remove(KEYS.of(kinds.SITES, "ams"))
        right = await process.right()
        await process.registry.gain(right)
        await process.registry.lose(right)
        place.put(KEYS.of(kinds.SITES, "ams"), site)
        await asyncio.sleep(5.0)
        assert process.opened == []

    on_a_process(story)


def test_a_changed_record_makes_the_adapter_anew_and_no_run_twice():
    async def story(place, process):
        place.twin.behave = lambda run: Behaviour(seconds=20.0)
        await process.registry.gain(await process.right())
        place.job()
        await place.until_phase(Phase.RUNNING)
        site = place.read(kinds.SITES, "ams")
        place.put(KEYS.of(kinds.SITES, "ams"), replace(site, region="eu"))
        await asyncio.sleep(5.0)
        assert len(process.opened) == 1  # the adapter is not made from the region
        place.put(KEYS.of(kinds.SITES, "ams"), replace(site, pools=(replace(site.pools[0], nodes=5),)))
        await place.until(lambda: len(process.opened) == 2)
        await place.until_phase(Phase.SUCCEEDED)
        assert place.starts() == 1
        assert process.opened[0].is_closed

    on_a_process(story)


def test_settings_that_make_no_sense_are_told_and_mended_by_a_new_record():
    async def story(place, process):
        process.problem = "engine.queue: no such field"
        await process.registry.gain(await process.right())
        status = place.read(kinds.SITE_STATUS, "ams")
        assert (status.health, status.reason) == (Health.MISCONFIGURED, "engine.queue: no such field")
        process.problem = ""
        site = place.read(kinds.SITES, "ams")
        place.put(KEYS.of(kinds.SITES, "ams"), replace(site, engine=replace(site.engine, settings={"queue": "all"})))
        await place.until(lambda: place.read(kinds.SITE_STATUS, "ams").health is Health.UP)

    on_a_process(story)


def test_a_registered_dataset_is_measured_once_at_a_site_we_own():
    async def story(place, process):
        place.shelf.outputs["corpus/"] = Tree(9, "sha256:c0")
        await process.registry.gain(await process.right())
        corpus = DatasetId("default", "corpus", "1")
        place.put(KEYS.dataset(corpus), Dataset(corpus), KEYS.replica(corpus, "ams"), Replica(corpus, "ams", "corpus/"))
        await place.until(lambda: place.read(kinds.DATASETS, "default", "corpus@1") == Dataset(corpus, 9, "sha256:c0"))

    on_a_process(story)


def test_who_owns_the_site_no_more_stores_no_measurement():
    async def story(place, process):
        place.shelf.outputs["corpus/"] = Tree(9, "sha256:c0")
        await process.registry.gain(await process.right())
        place.server.transact([[Delete(KEYS.of(kinds.OWNERS, "ams"), None)]], None)
        corpus = DatasetId("default", "corpus", "1")
        place.put(KEYS.dataset(corpus), Dataset(corpus), KEYS.replica(corpus, "ams"), Replica(corpus, "ams", "corpus/"))
        await asyncio.sleep(5.0)
        assert place.read(kinds.DATASETS, "default", "corpus@1") == Dataset(corpus)

    on_a_process(story)
