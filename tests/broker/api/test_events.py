"""What happened to a job, and following what happens."""

import asyncio

import pytest

from broker.client import Client
from broker.errors import Invalid
from broker.feed import KEPT, Feed
from tests.broker.api.test_jobs import GONE_NOWHERE, a_job


async def first(events, count):
    found = []
    async with asyncio.timeout(20):
        async for event in events:
            found.append(event)
            if len(found) == count:
                await events.aclose()
                return found
    return found


async def test_a_jobs_events_are_told_in_their_order(fed, federation):
    await fed.put("sites", "ams", federation.site("ams"))
    done = await fed.wait((await fed.submit(a_job()))["id"], 10)
    events = (await fed.job_events(done["id"]))["items"]
    names = [event["event"] for event in events]
    assert names[0] == "submitted"
    assert names[-1] == "succeeded"
    assert {"placed", "accepted", "ended"} <= set(names)
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    assert {event["site"] for event in events if event["attempt"]} == {"ams"}


async def test_changes_come_as_they_happen_and_go_on_where_one_left(fed, federation):
    await fed.put("sites", "ams", federation.site("ams"))
    earlier = await fed.wait((await fed.submit(a_job("earlier")))["id"], 10)
    until_now = (await fed.health())["store"]["mirror"]["revision"]
    following = asyncio.create_task(first(fed.events(last=until_now, name="followed"), 2))
    job = (await fed.submit(a_job("followed")))["id"]
    seen = await following
    assert [event["job"] for event in seen] == [job, job]
    assert seen[0]["phase"] == "pending"
    done = await fed.wait(job, 10)
    again = await first(fed.events(last=seen[0]["revision"], name="followed"), 1)
    assert again == seen[1:2]
    assert done["phase"] == earlier["phase"] == "succeeded"


async def test_who_was_away_too_long_is_told_to_begin_anew(fed):
    await fed.submit(a_job("one", **GONE_NOWHERE))
    assert (await first(fed.events(last=0), 1)) == [{"reset": True}]


async def test_a_reader_that_is_too_slow_is_told_so(broker, fed):
    watchers = (watch.__self__ for watch in broker.context.world.job_watchers)
    feed = next(each for each in watchers if isinstance(each, Feed))
    await fed.submit(a_job("one", **GONE_NOWHERE))
    job = next(iter(broker.context.world.jobs.values()))
    known = feed.number
    for _ in range(KEPT + 1):
        feed._on_job(None, job)
    assert feed.after(known) is None
    assert len(list(feed.after(feed.number - 3))) == 3
    assert list(feed.after(feed.number)) == []


async def test_a_revision_that_is_none_is_refused(broker):
    async with Client(broker.url) as client:
        with pytest.raises(Invalid, match="no revision"):
            async for _ in client._stream("/v1/events", {}, {"Last-Event-ID": "x"}):
                pass


async def test_the_last_lines_of_an_output_are_given(fed, federation, until):
    federation.behaviour = type(federation.behaviour)(seconds=10_000.0, output=b"one\ntwo\nthree\n")
    await fed.put("sites", "ams", federation.site("ams"))
    job = (await fed.submit(a_job()))["id"]
    await until(lambda: fed.job(job), lambda shown: shown["phase"] == "running")
    assert [chunk async for chunk in fed.logs(job, tail=2)] == [b"two\nthree\n"]
    assert b"".join([chunk async for chunk in fed.logs(job, tail=10)]) == b"one\ntwo\nthree\n"
    with pytest.raises(Invalid, match="tail"):
        _ = [chunk async for chunk in fed.logs(job, tail=2, follow=True)]
