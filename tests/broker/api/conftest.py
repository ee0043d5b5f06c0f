"""A whole broker in this process: the store's twin below, engine twins at the sites, real HTTP in front."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from adapters.base import Unreachable
from adapters.twin import Behaviour, EngineTwin, TwinAdapter
from broker.app import Broker, running_broker
from broker.client import Client
from broker.clock import SystemClock
from broker.config import Listen, Settings
from broker.plan_process import plan_here
from broker.store.codec import TYPES
from broker.store.memory import MemoryServer, MemoryStore

FAST = {"listen": Listen(port=0), "observe_interval_s": 0.02, "probe_interval_s": 0.1, "plan_interval_s": 0.05}


@dataclass
class Federation:
    """What brokers share: the store, the engines, and directories for the sites' storage."""

    folder: object
    behaviour: Behaviour = Behaviour()
    server: MemoryServer = field(default_factory=lambda: MemoryServer(SystemClock()))
    engines: dict = field(default_factory=dict)
    away: set = field(default_factory=set)
    """Sites that nobody reaches."""

    @asynccontextmanager
    async def broker(self, **settings):
        async with running_broker(Settings(**{**FAST, **settings}), MemoryStore(self.server), self.open, plan_here) as broker:
            yield broker

    def open(self, site):
        engine = self.engines.setdefault(site.name, EngineTwin(SystemClock(), site.pools, behave=lambda run: self.behaviour))

        async def network(call, way):
            if site.name in self.away:
                raise Unreachable(f"{call}: {site.name} is away")

        return TwinAdapter(engine, "fed", network)

    def site(self, name, cpus=4.0, **more):
        storage = self.folder / name
        storage.mkdir(exist_ok=True)
        pool = {"name": "cpu", "nodes": 1, "per_node": {"cpus": cpus, "memory_gib": 16.0}}
        return {"name": name, "engine": {"kind": "process"}, "pools": [pool], "storage": {"url": f"file://{storage}"}, **more}


@pytest.fixture
def federation(tmp_path):
    return Federation(tmp_path)


@pytest.fixture
async def broker(federation) -> Broker:
    async with federation.broker() as broker:
        await broker.context.world.mirror.reached(1)
        yield broker


@pytest.fixture
async def fed(broker) -> Client:
    async with Client(broker.url, patience_s=2.0) as client:
        yield client


@pytest.fixture
def until(broker):
    """Waits until a question to the endpoint has the right answer; asks again whenever a record changed."""
    signals = broker.context.world.signals

    async def wait(ask, is_right):
        news = signals.subscribe(*TYPES)
        async with asyncio.timeout(10):
            while not is_right(answer := await ask()):
                await news.wait()
                news.clear()
        return answer

    return wait


@pytest.fixture
def phase_of(fed, until):
    """The job once it is in a phase."""

    async def wait(job, phase):
        return await until(lambda: fed.job(job), lambda found: found["phase"] == phase)

    return wait
