"""One site and its owners under virtual time: the store's twin, the engine's twin, and the site's storage as two dictionaries."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from adapters.base import Capabilities, Run, Unreachable
from adapters.twin import Behaviour, EngineTwin, TwinAdapter
from broker.config import Settings
from broker.context import Context
from broker.jobs.lifecycle import Event, Placed, fold
from broker.jobs.model import Ask, JobSpec, JobState, Phase, Wish
from broker.members import Right
from broker.metrics import Metrics
from broker.records import Holder
from broker.sites.mover import Brought, Order
from broker.sites.work import SiteWork
from broker.storage import StorageError, Tree
from broker.store import codec
from broker.store import keys as kinds
from broker.store.base import Delete, Fence, Put, Saved, StoreUnavailable
from broker.store.keys import Keys
from broker.store.ledger import Erase, Ledger, Save
from broker.store.memory import MemoryServer, MemoryStore
from broker.store.mirror import Mirror
from broker.world import World
from tests.faults.virtual import SimClock, VirtualLoop
from topology.dataset import DatasetId
from topology.resources import Resources
from topology.site import Engine, Pool, Site
from topology.site import Storage as SiteStorage

FEDERATION = "fed"
KEYS = Keys(FEDERATION)
SETTINGS = Settings(federation=FEDERATION, site_lost_after_s=20.0, call_timeout_s=2.0)
UNIQUE = Capabilities(unique_names=True, refuses_stale_epochs=True, settling_s=1.0)
NOT_UNIQUE = Capabilities(unique_names=False, settling_s=1.0)
IDS_FIRST = Capabilities(reserves=True, settling_s=1.0)

BROKERS_CLAIM = "the broker's"
LONG = Behaviour(seconds=1e6)
both = pytest.mark.parametrize("capabilities", [UNIQUE, NOT_UNIQUE], ids=["unique", "not-unique"])


def lasting(seconds: float) -> Callable[[Run], Behaviour]:
    """Programs that take so long."""
    return lambda run: Behaviour(seconds=seconds)


def in_virtual_time(scenario: Callable[[Place], Coroutine[Any, Any, None]], capabilities: Capabilities = UNIQUE) -> Place:
    """Run a scenario on a loop whose time jumps."""
    loop = VirtualLoop(lambda coro: coro, lambda task: None)
    asyncio.set_event_loop(loop)
    try:
        place = Place(SimClock(loop), capabilities)
        loop.run_until_complete(asyncio.wait_for(_run(place, scenario), 600))
        return place
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _run(place: Place, scenario: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
    try:
        await scenario(place)
    finally:
        for owner in place.owners:
            await owner.crash()


@dataclass
class Rights:
    """Always in time; remembers what was reported lost."""

    lost: list[Right] = field(default_factory=list)

    def call_timeout_s(self, most: float) -> float:
        """All of it."""
        return most

    def report_loss(self, right: Right) -> None:
        """Remember it."""
        self.lost.append(right)


@dataclass
class Shelf:
    """Site storage: claims (shared with the engine's twin), outputs, and what transfers bring."""

    claims: dict[str, str]
    outputs: dict[str, Tree] = field(default_factory=dict)
    is_away: bool = False
    copy_problem: str = ""
    storage_problem: str = ""
    """What a check of it says; transfers and claims have their own."""
    copies: list[Order] = field(default_factory=list)

    async def create(self, site: Site, path: str) -> bool:
        """See `Claims.create`."""
        if self.is_away:
            raise StorageError("storage is away")
        return self.claims.setdefault(path, BROKERS_CLAIM) == BROKERS_CLAIM

    async def measure(self, site: Site, path: str) -> Tree | None:
        """See `Storage.measure`."""
        if self.is_away:
            raise StorageError("storage is away")
        return self.outputs.get(path)

    async def check(self, site: Site, timeout_s: float, is_fresh: bool = False) -> None:
        """See `Storage.check`."""
        if self.storage_problem:
            raise StorageError(self.storage_problem)

    async def bring(self, order: Order) -> Brought:
        """See `Mover.bring`."""
        self.copies.append(order)
        if self.copy_problem:
            raise StorageError(self.copy_problem)
        return Brought(Tree(8, "sha256:beef"), 8, 0.1)


class Owner:
    """A broker process that owns the site, as far as site work goes."""

    def __init__(self, place: Place, name: str) -> None:
        self.place = place
        self.rights = Rights()
        self.adapter = TwinAdapter(place.twin, FEDERATION, place.network)
        self._name = name
        self._store = MemoryStore(place.server, place.store_network)
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> Owner:
        """Take the ownership over and begin to work."""
        clock = self.place.clock
        mirror = Mirror(self._store, KEYS, clock)
        self.world = World(mirror)
        ledger = self.ledger = Ledger(self._store, mirror)
        context = Context(SETTINGS, clock, self.world, ledger, Metrics())
        self._tasks.append(asyncio.create_task(mirror.run()))
        key = KEYS.of(kinds.OWNERS, "ams")
        await mirror.reached(1)
        old = self.world.revision(key)
        if old:
            await ledger.commit([[Erase(key, old)]])
        saved = (await ledger.commit([[Save(key, Holder(self._name), 0)]]))[0]
        assert isinstance(saved, Saved)
        await mirror.reached(saved.revision)
        lease = await self._store.lease(1e9)
        self.right = Right("ams", Fence(key, saved.revision), lease)
        shelf = self.place.shelf
        self.work = SiteWork(
            context, self.rights, self._store, self.right, A_SITE, self.adapter, shelf, shelf, shelf, random.Random(1)
        )
        self._tasks.append(asyncio.create_task(self.work.run()))
        return self

    async def crash(self) -> None:
        """End without finishing anything."""
        self._store.die()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


A_SITE = Site("ams", Engine("twin"), (Pool("cpu", 4, Resources(8, 32)),), SiteStorage("file:///srv/ams"))
WORDS = DatasetId("default", "corpus", "1")


class Place:
    """What outlives owners: the store, the engine, the storage. Faults are switched by `network` and `store_network`."""

    def __init__(self, clock: SimClock, capabilities: Capabilities) -> None:
        self.clock = clock
        self.server = MemoryServer(clock)
        self.shelf = Shelf({})
        self.twin = EngineTwin(clock, A_SITE.pools, capabilities, claims=self.shelf.claims)
        self.owners: list[Owner] = []
        self.away: set[str] = set()
        """Site calls that are not heard."""
        self.lost_replies: set[str] = set()
        """Site calls that have their effect and are not answered."""
        self.is_store_deaf = False
        """Writes do not reach the store."""
        self.deaf_from = ""
        """The store is deaf from the moment on at which this site call has had its effect."""
        self.put(KEYS.of(kinds.SITES, "ams"), A_SITE)

    async def owner(self, name: str = "a") -> Owner:
        """A new owner at work."""
        owner = Owner(self, name)
        self.owners.append(owner)
        return await owner.start()

    async def network(self, call: str, stage: str) -> None:
        """The way to the site and back."""
        await asyncio.sleep(0.001)
        if (call, stage) == (self.deaf_from, "reply"):
            self.is_store_deaf = True
        if (stage == "send" and call in self.away) or (stage == "reply" and call in self.lost_replies):
            raise Unreachable(f"{call} got no answer")

    async def store_network(self, operation: str, stage: str) -> None:
        """The way to the store and back."""
        if operation == "commit" and self.is_store_deaf:
            await asyncio.sleep(0.5)
            raise StoreUnavailable("no way to the store")

    def put(self, *pairs: Any) -> None:
        """Write records as somebody else would."""
        change = [Put(key, codec.encode(value), None) for key, value in zip(pairs[::2], pairs[1::2], strict=True)]
        assert self.server.transact([change], None)

    def remove(self, key: str) -> None:
        """Remove a record as somebody else would."""
        assert self.server.transact([[Delete(key, None)]], None)

    def job(self, name: str = "j1", *events: Event, wish: Wish | None = None, **spec: Any) -> str:
        """A job placed at ams, with no inputs unless said; `events` follow the placement."""
        now = self.clock.now()
        state = fold(JobState(name), (Placed(now, "ams", "cpu"), *events))
        a_wish = wish or Wish(name, name, "default", now, "ana", JobSpec("default", ("true",), **spec))
        self.put(KEYS.of(kinds.WISHES, name), a_wish, KEYS.of(kinds.STATES, name), state)
        return name

    def cancel(self, name: str) -> None:
        """The user wishes it away."""
        self.put(KEYS.of(kinds.WISHES, name), replace(self.read(kinds.WISHES, name), cancel=Ask("ana", "", self.clock.now())))

    def read(self, kind: str, *names: str) -> Any:
        """A stored record; None when absent."""
        record = self.server.get([KEYS.of(kind, *names)])[0]
        return codec.decode(kind, record.value) if record else None

    def state(self, name: str = "j1") -> JobState:
        """What has become of a job."""
        state: JobState = self.read(kinds.STATES, name)
        return state

    async def until(self, holds: Callable[[], object], seconds: float = 120.0) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.01)

    async def until_phase(self, phase: Phase, name: str = "j1", seconds: float = 120.0) -> JobState:
        """Wait until a job is in this phase."""
        await self.until(lambda: self.state(name).phase is phase, seconds)
        return self.state(name)

    def starts(self, name: str = "fed-j1-a1") -> int:
        """How often a run's program was started."""
        return sum(start.name == name for start in self.twin.starts)
