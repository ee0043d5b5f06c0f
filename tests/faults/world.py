"""One seed: a world is drawn, lived through and held to the promises."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from broker.api.changes import update
from broker.api.services import Services
from broker.errors import FedError, NotFound
from broker.jobs.model import Ask, JobState, Stop, Wish
from broker.metrics import Metrics
from broker.store import codec
from broker.store import keys as kinds
from broker.store.base import Put, StoreError
from broker.store.keys import Keys
from broker.submission import NewJob, Request
from tests.faults.brokers import SETTINGS, Life, Parts, live
from tests.faults.draw import TROUBLE_S, Bulk, Plan, drawn
from tests.faults.faults import Fault, Schedule, Wrong, drawn_strikes
from tests.faults.process import PROCESS, Blow, Process, Strike, enrol, wrap
from tests.faults.promises import Promises
from tests.faults.sites import Engine, FaultyAdapter, SiteStorages, tree_of
from tests.faults.store import FaultyStore, WatchedServer
from tests.faults.trace import LogWatch, Trace
from tests.faults.virtual import SimClock, VirtualLoop
from topology.dataset import Dataset, Replica
from topology.site import Admission, Site
from topology.site import Engine as EngineSettings

T = TypeVar("T")

ANSWER_S = 3.0
"""How long a user waits for an answer before asking again, perhaps another broker."""
SETTLES_S = 240.0
"""Once nothing goes wrong any more, everything must be over within this time."""


@dataclass
class Setup:
    """How a world is built, but for its seed. Mutants replace parts."""

    parts: Parts = field(default_factory=Parts)
    store: type[FaultyStore] = FaultyStore
    engine: type[Engine] = Engine
    storages: type[SiteStorages] = SiteStorages


@dataclass
class Outcome:
    """What came of a seed. `hits` are the awaits that a blow fell on, with those around them; `waited` where
    processes were seen to wait."""

    seed: int
    broken: list[str]
    schedule: list[str]
    hits: Counter[str]
    waited: set[str]
    blows: Counter[str]
    phases: Counter[str]
    endings: Counter[str]
    faults: Counter[str]
    seconds: float
    awaits: int
    trace: list[str]


class World:
    """Everything that is shared by the brokers, the user and the faults."""

    def __init__(self, seed: int, loop: VirtualLoop, trace: Trace, setup: Setup) -> None:
        self.chance = random.Random(seed)
        self.plan: Plan = drawn(self.chance)
        self.loop = loop
        self.clock = SimClock(loop)
        self.trace = trace
        self.setup = setup
        self.keys = Keys(SETTINGS.federation)
        self.schedule = Schedule(self.plan.faults, random.Random(self.chance.random()))
        self.hits: Counter[str] = Counter()
        self.waited: set[str] = set()
        self.blows: Counter[str] = Counter()
        self.strikes: list[str] = []
        self.awaits = 0
        self.lives: dict[int, Life] = {}
        self.is_calm = False
        self.trees: dict[tuple[str, str], Any] = {}
        self.sites = {site.name: site for site in self.plan.sites}
        self.engines = {
            site.name: setup.engine(self.clock, site, make, self.schedule, self.trees, self._on_start, self._on_forget)
            for site, make in zip(self.plan.sites, self.plan.makes, strict=True)
        }
        links = {link.name: link for link in self.plan.links}
        self.promises = Promises(self.keys, trace, self.sites, links, self.engines, self.trees, lambda key: self.server.held(key))
        self.server = WatchedServer(self.clock, self.promises)
        self.calm_at = max(TROUBLE_S, self.schedule.ends)

    def _on_start(self, site: str, name: str) -> None:
        self.promises.started(site, name)

    def _on_forget(self, site: str, name: str) -> None:
        self.promises.forgotten(site, name)

    async def run(self) -> None:
        """From the first record to the end of everything."""
        self._register()
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(self._break(fault)) for fault in self.plan.faults]
            users = [tasks.create_task(self._hand_in(number, bulk)) for number, bulk in enumerate(self.plan.bulks)]
            brokers = [tasks.create_task(self._keep_alive(number)) for number in range(self.plan.brokers)]
            await asyncio.sleep(self.calm_at)
            self.is_calm = True
            self.trace.add("all is calm from here on")
            for life in self.lives.values():
                life.process.disarm()
            deadline = self.loop.time() + SETTLES_S
            while self.loop.time() < deadline and not (all(user.done() for user in users) and self._is_quiet()):
                await asyncio.sleep(0.5)
            for task in (*others, *users, *brokers):
                task.cancel()
        self.promises.at_end()
        for life in self.lives.values():
            self._count_bugs(life)

    def _register(self) -> None:
        """What admins wrote before it all began."""
        puts = [Put(self.keys.of(kinds.SITES, site.name), codec.encode(site), None) for site in self.plan.sites]
        puts += [Put(self.keys.of(kinds.LINKS, link.name), codec.encode(link), None) for link in self.plan.links]
        for dataset, site in self.plan.datasets:
            tree = tree_of(dataset.name)
            self.trees[site, dataset.name] = tree
            is_measured = self.chance.random() < 0.7
            record = Dataset(dataset, tree.size_bytes, tree.checksum) if is_measured else Dataset(dataset)
            puts.append(Put(self.keys.dataset(dataset), codec.encode(record), None))
            puts.append(Put(self.keys.replica(dataset, site), codec.encode(Replica(dataset, site, dataset.name)), None))
        self.server.transact([[put] for put in puts], None)

    def _is_quiet(self) -> bool:
        promises = self.promises
        states = (promises.states.get(job, JobState(job)) for job in promises.wishes)
        is_over = all(state.phase.is_terminal for state in states)
        is_idle = not any(engine.running() for engine in self.engines.values())
        return is_over and is_idle and not promises.bookings and not promises.unresolved

    async def _break(self, fault: Fault) -> None:
        """What a fault does at its begin and at its end; the rest is looked up by those who meet it."""
        await asyncio.sleep(fault.begin)
        self.trace.add(f"from now on: {fault.wrong} {fault.target}")
        engine = self.engines.get(fault.target)
        match fault.wrong:
            case Wrong.COMPACTED:
                while self.loop.time() < fault.end:
                    self.server.compact(self.server.revision)
                    await asyncio.sleep(0.5)
            case Wrong.STORE_FULL:
                self.server.is_full = True
            case Wrong.CLOSED:
                closed = self.schedule.dice.choice((Admission.CORDONED, Admission.DRAINING, Admission.FINISHING))
                self._declare(replace(self.sites[fault.target], admission=closed))
            case Wrong.SITE_CHANGED:
                self._declare(replace(self.sites[fault.target], engine=EngineSettings("twin", {"changed": str(fault.begin)})))
            case Wrong.SITE_RESTARTS if engine:
                forgets = self.schedule.dice.random() < fault.chance
                since = self.clock.now() - self.schedule.dice.choice((1.0, 100.0)) if forgets else float("inf")
                engine.restart(since, reuses_ids=self.schedule.dice.random() < 0.5)
            case Wrong.SITE_FORGETS if engine:
                engine.forgets_after = self.schedule.dice.choice((0.0, 0.5, 1.0))
            case Wrong.SITE_CROWDED if engine:
                engine.crowd(fault.end - fault.begin)
            case Wrong.NODES_LOST if engine:
                engine.lose_nodes(fault.chance)
        await asyncio.sleep(fault.end - self.loop.time())
        self.trace.add(f"over: {fault.wrong} {fault.target}")
        match fault.wrong:
            case Wrong.STORE_FULL:
                self.server.is_full = False
            case Wrong.CLOSED:
                self._declare(replace(self.sites[fault.target], admission=Admission.OPEN))
            case Wrong.SITE_FORGETS if engine:
                engine.advance()
                engine.forgets_after = float("inf")

    def _declare(self, site: Site) -> None:
        """An admin writes a site's record."""
        self.sites[site.name] = site
        put = Put(self.keys.of(kinds.SITES, site.name), codec.encode(site), None)
        was_full, self.server.is_full = self.server.is_full, False
        self.server.transact([[put]], None)
        self.server.is_full = was_full

    async def _keep_alive(self, number: int) -> None:
        """One machine: a broker process that is started again whenever it ended."""
        joins_later = number > 0 and self.chance.random() < 0.5
        await asyncio.sleep(self.chance.uniform(1.0, 10.0) if joins_later else self.chance.random() * 0.3)
        for generation in range(1000):
            life = self._begin(number, generation)
            self.lives[number] = life
            assert life.main
            while not life.main.done() and not life.process.is_dead:
                await asyncio.sleep(0.25)
            life.process.is_dead = True
            life.store.die()
            self.awaits += life.process.awaits
            self.waited |= life.process.places
            self.trace.add(f"{life.process.name} is gone")
            self._count_bugs(life)
            if not life.main.cancelled() and life.main.done() and life.main.exception():
                self.promises.breaks(f"{life.process.name} ended with {life.main.exception()!r}")
            await asyncio.sleep(self.chance.choice((0.1, 1.0, 3.0)))

    def _begin(self, number: int, generation: int) -> Life:
        strikes = () if self.is_calm else drawn_strikes(self.chance)
        process = Process(f"b{number}.{generation}", strikes, self._strike)
        self.trace.add(f"{process.name} begins; in store for it: {', '.join(map(str, strikes)) or 'nothing'}")
        store = self.setup.store(self.server, f"b{number}", self.schedule)
        life = Life(process, store, Metrics())
        storages = self.setup.storages(self.engines, self.trees, self.schedule, self.trace)

        def open_site(site: Site) -> FaultyAdapter:
            return FaultyAdapter(self.engines[site.name], f"b{number}", self.schedule, self.trace)

        chance = random.Random(self.chance.random())
        life.main = self.within(process, lambda: live(life, self.clock, open_site, storages, chance, self.setup.parts))
        return life

    def within(self, process: Process, begin: Callable[[], Any]) -> asyncio.Task[Any]:
        """A task of a process."""
        context = copy_context()
        context.run(PROCESS.set, process)
        return context.run(lambda: self.loop.create_task(begin()))

    def _strike(self, process: Process, strike: Strike, places: list[str]) -> None:
        """A blow falls."""
        self.blows[strike.blow] += 1
        self.hits.update(places)
        place = " < ".join(reversed(places[-3:]))
        line = f"{self.loop.time():.4f}: {strike.blow} {process.name} at its await {process.awaits}, {place}"
        self.strikes.append(line)
        self.trace.add(f"{strike.blow} {process.name} at {place} (await {process.awaits})")
        life = next(life for life in self.lives.values() if life.process is process)
        match strike.blow:
            case Blow.KILL:
                process.is_dead = True
            case Blow.CANCEL:
                self.loop.call_soon(process.cancel)
                self.loop.call_later(5.0, self._kill, process)
            case Blow.STOP:
                if life.stopping:
                    life.stopping.set()
                self.loop.call_later(15.0, self._kill, process)
            case Blow.PAUSE:
                process.is_paused = True
                self.loop.call_later(strike.seconds, self._resume, process)

    def _kill(self, process: Process) -> None:
        process.is_dead = True

    def _resume(self, process: Process) -> None:
        self.trace.add(f"{process.name} goes on")
        process.resume()

    async def _hand_in(self, number: int, bulk: Bulk) -> None:
        """A user who asks until there is an answer, with one key."""
        await asyncio.sleep(bulk.at)
        jobs = [NewJob(f"job-{number}-{position}", spec) for position, spec in enumerate(bulk.specs)]
        request = Request("default", "ada", jobs, f"hash-{number}", f"key-{number}")
        wishes: Sequence[Wish] = await self._ask(lambda services: services.submissions.create(request))
        self.promises.acknowledged.update(wish.id for wish in wishes)
        self.trace.add(f"acknowledged: {[wish.id for wish in wishes]}", "ada")
        async with asyncio.TaskGroup() as tasks:
            for wish, cancel_after, stop_after in zip(wishes, bulk.cancel_after, bulk.stop_after, strict=True):
                if cancel_after is not None:
                    tasks.create_task(self._wish(wish.id, cancel_after, self._cancelled))
                if stop_after is not None:
                    tasks.create_task(self._wish(wish.id, stop_after, self._stopped))

    async def _wish(self, job: str, after: float, change: Callable[[Wish], Wish]) -> None:
        """Change a job's wish, as the endpoint does."""
        await asyncio.sleep(after)

        def changed(wish: Wish | None) -> Wish:
            if wish is None:
                raise NotFound(f"job {job} is not known here yet")
            return change(wish)

        await self._ask(lambda services: update(services, self.keys.of(kinds.WISHES, job), changed, "ada"))

    def _cancelled(self, wish: Wish) -> Wish:
        return wish if wish.cancel else replace(wish, cancel=Ask("ada", "no longer wanted", self.clock.now()))

    def _stopped(self, wish: Wish) -> Wish:
        """The job is to go on elsewhere."""
        number = self.promises.states.get(wish.id, JobState(wish.id)).number
        return replace(wish, stop=Stop(number, Ask("ada", "elsewhere, please", self.clock.now()))) if number else wish

    async def _ask(self, what: Callable[[Services], Awaitable[T]]) -> T:
        """Ask any broker that listens, as often as it takes."""
        while True:
            ready = [life for life in self.lives.values() if life.services and not life.process.is_dead]
            if ready:
                life = self.chance.choice(ready)
                services = life.services
                assert services
                request = self.within(life.process, lambda asked=services: _answered(what(asked)))
                await asyncio.wait([request], timeout=ANSWER_S)
                if request.done() and not request.cancelled():
                    answer = request.result()
                    if answer is not None:
                        return answer[0]
                elif not request.done():
                    request.cancel()
            await asyncio.sleep(0.3)

    def _count_bugs(self, life: Life) -> None:
        for metric in life.metrics.bugs.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total") and sample.value:
                    self.promises.breaks(f"{life.process.name} counted a bug: {sample.labels}")


async def _answered(answer: Awaitable[T]) -> tuple[T] | None:
    """The answer; None where the endpoint would say that it cannot."""
    try:
        return (await answer,)
    except (StoreError, FedError):
        return None


def live_through(seed: int, is_traced: bool = False, setup: Setup | None = None) -> Outcome:
    """One seed, from beginning to end. The same seed gives the same outcome under the same PYTHONHASHSEED."""
    gc.disable()
    gc.freeze()  # modules and what earlier seeds left are not looked through again
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        return _live_through(seed, is_traced, setup or Setup())
    finally:
        logging.disable()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
        logging.disable(logging.NOTSET)
        gc.enable()
        sys.unraisablehook = hook


def _live_through(seed: int, is_traced: bool, setup: Setup) -> Outcome:
    """As above. What killed processes leave is collected by the caller, when it can do no harm any more."""
    trace = Trace(is_traced)
    loop = VirtualLoop(wrap, enrol)
    loop.set_exception_handler(lambda loop, context: None)
    world = World(seed, loop, trace, setup)
    promises = world.promises
    with LogWatch(trace, lambda text: promises.breaks(f"an error is logged: {text}")):
        try:
            loop.run_until_complete(loop.create_task(world.run()))
        finally:
            seconds = loop.time()
            for life in world.lives.values():
                life.process.is_dead = True
            loop.close()
    return Outcome(
        seed=seed,
        broken=promises.broken,
        schedule=[plan_of(world), *(str(fault) for fault in world.plan.faults), *world.strikes],
        hits=world.hits,
        waited=world.waited.union(*(life.process.places for life in world.lives.values())),
        blows=world.blows,
        phases=Counter(str(promises.states.get(job, JobState(job)).phase) for job in promises.wishes),
        endings=promises.endings,
        faults=Counter(str(fault.wrong) for fault in world.plan.faults),
        seconds=seconds,
        awaits=world.awaits + sum(life.process.awaits for life in world.lives.values()),
        trace=trace.lines,
    )


def plan_of(world: World) -> str:
    """The world in a line."""
    sites = ", ".join(
        f"{site.name} ({site.pools[0].nodes} x {site.pools[0].per_node.cpus:g} cpus"
        f"{'' if make.can.unique_names else ', names not unique'}{'' if make.has_claims else ', no claims'}"
        f", settles in {make.can.settling_s:g} s)"
        for site, make in zip(world.plan.sites, world.plan.makes, strict=True)
    )
    jobs = sum(len(bulk.specs) for bulk in world.plan.bulks)
    return f"{world.plan.brokers} brokers, {jobs} jobs, sites {sites}"
