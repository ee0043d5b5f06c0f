"""An admin ends what a bug left."""

import asyncio
import json

import pytest

from adapters.twin import Behaviour
from broker.errors import InConflict, Invalid, NotFound
from broker.jobs.model import run_name
from broker.store import keys as kinds
from broker.store.base import Put, Saved
from broker.store.codec import FORMATS
from broker.store.memory import MemoryStore
from tests.broker.api.test_jobs import a_job

FOREVER = Behaviour(seconds=10_000.0)
WHY = "nobody moves it"


@pytest.fixture
async def running(fed, federation, phase_of):
    """A job at a site that ends by itself after hours."""
    federation.behaviour = FOREVER
    await fed.put("sites", "ams", federation.site("ams"))
    job = (await fed.submit(a_job()))["id"]
    await phase_of(job, "running")
    return job


@pytest.fixture
def spoil(broker, federation):
    """Writes other bytes over a record of a job, and waits until the broker has seen them."""

    async def spoil(kind, job, content):
        mirror = broker.context.world.mirror
        key = mirror.keys.of(kind, job)
        (result,) = await MemoryStore(federation.server).commit([[Put(key, content, None)]])
        assert isinstance(result, Saved)
        await mirror.reached(result.revision)

    return spoil


@pytest.fixture
def stops(federation, running):
    """Waits until the site runs nothing of the job any more."""
    name = run_name("fed", running, 1)

    async def stops():
        async with asyncio.timeout(10):
            while federation.engines["ams"].is_live(name):
                await asyncio.sleep(0.02)

    assert federation.engines["ams"].is_live(name)
    return stops


async def test_a_job_that_runs_fails_at_once_and_its_run_is_stopped(fed, running, until, stops):
    told = await fed.unstick(running, WHY)
    assert told == {"id": running, "outcome": "failed"}
    shown = await fed.job(running)
    assert shown["phase"] == "failed"
    assert WHY in shown["reason"]
    assert [attempt["ending"] for attempt in shown["attempts"]] == ["withdrawn"]
    await until(lambda: fed.get("sites", "ams"), lambda site: site["unresolved"] == 0)
    await stops()
    (entry,) = (await fed.audit(what="unstick"))["items"]
    assert json.loads(entry["before"])["phase"] == "running"
    assert json.loads(entry["after"])["phase"] == "failed"


async def test_a_job_that_waits_or_is_held_fails_too_and_one_that_is_over_stays(fed):
    job = (await fed.submit(a_job()))["id"]
    await fed.wish(job, "hold")
    await fed.unstick(job, WHY)
    assert (await fed.job(job))["phase"] == "failed"
    assert (await fed.unstick(job, WHY))["outcome"] == "failed"  # asked again, as when the answer was lost
    with pytest.raises(InConflict, match="is over"):
        await fed.unstick(job, "another reason")


@pytest.mark.parametrize("why", ["", "  "])
async def test_why_has_to_be_said(fed, running, why):
    with pytest.raises(Invalid, match="why"):
        await fed.unstick(running, why)
    assert (await fed.job(running))["phase"] == "running"


@pytest.mark.parametrize("content", [b'{"v":1,"id":7}', b"\xff\x00 no record", b"[]"])
async def test_a_state_that_cannot_be_read_gives_way_and_its_run_is_stopped(fed, running, spoil, stops, content):
    await spoil(kinds.STATES, running, content)
    assert running in (await fed.health())["unreadable_jobs"]
    with pytest.raises(InConflict, match="cannot be read"):
        await fed.job(running)
    assert await fed.unstick(running, WHY) == {"id": running, "outcome": "failed"}
    assert (await fed.job(running))["phase"] == "failed"
    assert not (await fed.health())["unreadable_jobs"]
    (entry,) = (await fed.audit(what="unstick"))["items"]
    assert entry["before"] == content.decode(errors="replace")
    await stops()


async def test_a_job_whose_wish_cannot_be_read_is_removed_and_its_run_is_stopped(fed, running, spoil, stops):
    await spoil(kinds.WISHES, running, b"{}")
    assert await fed.unstick(running, WHY) == {"id": running, "outcome": "removed"}
    assert not (await fed.health())["unreadable_jobs"]
    assert {entry["record"].partition("/")[0] for entry in (await fed.audit(what="unstick"))["items"]} == {"wishes", "states"}
    await stops()
    with pytest.raises(NotFound):
        await fed.job(running)


async def test_what_a_newer_broker_wrote_is_left_to_it(fed, running, spoil):
    await spoil(kinds.STATES, running, b'{"v":%d,"phase":"dreaming"}' % (max(FORMATS) + 1))
    with pytest.raises(InConflict, match="newer"):
        await fed.unstick(running, WHY)
    assert running in (await fed.health())["unreadable_jobs"]
