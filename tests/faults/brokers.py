"""One life of a broker process, put together as `broker/app.py` does, on the twins: no endpoint, plans made in place."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from aiohttp import ClientSession

from adapters.base import SiteAdapter
from broker.api.services import Services
from broker.clock import Clock
from broker.config import Settings
from broker.context import Context
from broker.drains import Drains
from broker.duties import Duties, ended, keep_going
from broker.feed import Feed
from broker.housekeeping import Housekeeping
from broker.members import Members
from broker.metrics import Metrics
from broker.planner import Planner
from broker.records import Member, Submission
from broker.sites.registry import Registry
from broker.store.base import Store
from broker.store.codec import FORMATS
from broker.store.keys import Keys
from broker.store.ledger import Ledger
from broker.store.mirror import Mirror
from broker.store.vitals import Vitals
from broker.submission import DIGITS, SEED_DIGITS, Request, Submissions
from broker.uploads import Uploads
from broker.whatif import WhatIfs
from broker.world import World
from tests.faults.process import Process
from tests.faults.sites import FEDERATION, SiteStorages
from topology.site import Site

SETTINGS = Settings(
    federation=FEDERATION,
    lease_ttl_s=2.0,
    plan_interval_s=1.0,
    observe_interval_s=0.5,
    call_timeout_s=3.0,
    probe_interval_s=1.5,
    probe_timeout_s=1.0,
    down_after=2,
    site_lost_after_s=6.0,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a mutant may replace."""

    mirror: type[Mirror] = Mirror
    members: type[Members] = Members
    registry: type[Registry] = Registry
    planner: type[Planner] = Planner


@dataclass
class Life:
    """A broker between its start and its end. `services` is there once it is ready for requests."""

    process: Process
    store: Store
    metrics: Metrics
    services: Services | None = None
    main: asyncio.Task[None] | None = None
    stopping: asyncio.Event | None = None


class SeededSubmissions(Submissions):
    """Ids of jobs come from the world's seed."""

    def __init__(self, context: Context, store: Store, vitals: Vitals, chance: random.Random) -> None:
        super().__init__(context, store, vitals)
        self._chance = chance

    def _submission(self, request: Request, seed: str) -> Submission:
        return super()._submission(request, "".join(self._chance.choice(DIGITS) for _ in range(SEED_DIGITS)))


async def live(
    life: Life,
    clock: Clock,
    open_site: Callable[[Site], SiteAdapter],
    storages: SiteStorages,
    chance: random.Random,
    parts: Parts,
) -> None:
    """Until `life.stopping` is set."""
    store = life.store
    mirror = parts.mirror(store, Keys(SETTINGS.federation), clock)
    world = World(mirror)
    context = Context(SETTINGS, clock, world, Ledger(store, mirror), life.metrics)
    registry = parts.registry(context, store, open_site, storages, storages, storages, chance)
    planner = parts.planner(context)
    keeping = Housekeeping(context, store)
    loops_of_leader = {"planner": planner.run, "drains": Drains(context).run, "housekeeping": keeping.run}
    duties = Duties(context, loops_of_leader, registry)
    me = Member(life.process.name, "", "simulated", FORMATS, clock.now())
    members = parts.members(me, store, world, context.ledger, clock, SETTINGS.lease_ttl_s, duties.gain, duties.lose)
    duties.rights = registry.rights = members
    vitals = Vitals(store, clock, SETTINGS.quota_bytes, SETTINGS.admission_share)
    submissions = SeededSubmissions(context, store, vitals, chance)
    life.stopping = asyncio.Event()
    loops = {"mirror": mirror.run, "vitals": vitals.run, "registry": registry.run}
    async with _running(loops, context):
        async with _running({"members": lambda: _be_member(members, mirror)}, context):
            absent = cast(ClientSession, None), cast(Uploads, None), cast(Executor, None), cast(WhatIfs, None)
            life.services = Services(context, store, vitals, members, submissions, registry, planner, Feed(world), *absent)
            await life.stopping.wait()
            life.services = None
        await members.leave()


async def _be_member(members: Members, mirror: Mirror) -> None:
    await mirror.reached(1)
    await members.run()


@asynccontextmanager
async def _running(loops: Mapping[str, Callable[[], Awaitable[object]]], context: Context) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(keep_going(name, loop, context), name=name) for name, loop in loops.items()]
    try:
        yield
    finally:
        await ended(tasks)
