"""`fed` against a broker in a thread of the test's process."""

import asyncio
import threading
from contextlib import contextmanager

import pytest

from adapters.twin import Behaviour, EngineTwin, TwinAdapter
from broker.app import running_broker
from broker.clock import SystemClock
from broker.config import Listen, Settings
from broker.plan_process import plan_here
from broker.store.memory import MemoryServer, MemoryStore
from tests.running import run_fed

FEDERATION = """
kind: Dataset
name: corpus
replicas: [{{site: ams, path: corpus}}]
---
kind: Link
from: ams
to: fra
bandwidth_gbps: 10
---
kind: Site
name: ams
engine: {{kind: process}}
pools: [{{name: cpu, nodes: 1, per_node: {{cpus: 4, memory_gib: 8}}}}]
storage: {{url: "file://{folder}"}}
---
kind: Site
name: fra
engine: {{kind: process}}
pools: [{{name: cpu, nodes: 1, per_node: {{cpus: 4, memory_gib: 8}}}}]
storage: {{url: "file://{folder}"}}
"""


@contextmanager
def broker_in_a_thread(behave):
    """The URL of a broker with engine twins that lives as long as the block."""
    is_over, started = asyncio.Event(), threading.Event()
    found = {}

    def open_site(site):
        return TwinAdapter(EngineTwin(SystemClock(), site.pools, behave=behave), "fed")

    async def live():
        found["loop"] = asyncio.get_running_loop()
        settings = Settings(listen=Listen(port=0), observe_interval_s=0.02, probe_interval_s=0.1, plan_interval_s=0.05)
        async with running_broker(settings, MemoryStore(MemoryServer(SystemClock())), open_site, plan_here) as broker:
            found["url"] = broker.url
            started.set()
            await is_over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    try:
        assert started.wait(30)
        yield found["url"]
    finally:
        found["loop"].call_soon_threadsafe(is_over.set)
        thread.join(30)


def behave(run):
    """What a run does is in its command: `exit N`, `say TEXT`, `print TEXT` (and go on) or `sleep`."""
    match run.command:
        case ("exit", code):
            return Behaviour(exit_code=int(code))
        case ("say", text):
            return Behaviour(output=f"{text}\n".encode())
        case ("print", text):
            return Behaviour(seconds=10_000.0, output=text.encode())
        case ("sleep",):
            return Behaviour(seconds=10_000.0)
    return Behaviour()


@pytest.fixture(scope="module")
def url():
    with broker_in_a_thread(behave) as url:
        yield url


@pytest.fixture(scope="module")
def fed(url):
    return lambda *arguments, **more: run_fed(*arguments, url=url, **more)


@pytest.fixture(scope="module")
def applied(fed, folder):
    """Two sites, a link and a dataset, in an order in which each names what comes later."""
    said = fed("apply", "-f", "-", "-o", "json", stdin=FEDERATION.format(folder=folder))
    assert (said.code, said.err) == (0, "")
    return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("storage")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "part").write_text("text")
    return folder
