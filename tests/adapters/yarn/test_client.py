"""What a web address may answer, and what is made of it: never another error than the two that an adapter may raise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from adapters.base import Call, Layer, Run, Unknown, Unreachable
from adapters.threads import SiteThreads
from adapters.yarn import client
from adapters.yarn.adapter import open_yarn
from adapters.yarn.client import Web
from adapters.yarn.probe import checks
from adapters.yarn.settings import YarnSettings
from tests.adapters.yarn.replies import app, apps, node
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

CALL = Call(epoch=1, timeout_s=5.0)
INFO = {"clusterInfo": {"haState": "ACTIVE", "startedOn": 1}}
RUN = Run("fed-j1-a1", "fed", "j1", "t", 1, Resources(1, 0.5), "cpu", ("true",), native_id="application_1_0001")
SITE = Site("ams", Engine("yarn"), (Pool("cpu", 1, Resources(4, 4)),), Storage("file:///tmp"))
Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(reply: Reply) -> AsyncIterator[str]:
    """The address of a server that answers everything so."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", reply)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        place = web.TCPSite(runner, "127.0.0.1", 0)
        await place.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def adapter_to(*urls: str, **settings: object):
    adapter = open_yarn(SITE, YarnSettings.model_validate({"resource_manager": urls, **settings}), "fed")
    try:
        yield adapter
    finally:
        await adapter.close()


async def html(request: web.Request) -> web.Response:
    return web.Response(text="<html>Welcome</html>", content_type="text/html")


async def unauthorized(request: web.Request) -> web.Response:
    return web.Response(status=401, text="Authentication required")


async def busy(request: web.Request) -> web.Response:
    return web.Response(status=429, headers={"Retry-After": "17"}, text="slow down")


async def elsewhere(request: web.Request) -> web.Response:
    return web.Response(status=307, headers={"Location": "http://standby.invalid/"})


async def failing(request: web.Request) -> web.Response:
    return web.json_response({"RemoteException": {"exception": "X", "message": "out of order"}}, status=500)


async def truncated(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"clusterInfo": {')
    assert request.transport
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (html, "web address"),
        (unauthorized, "token"),
        (busy, "17 s"),
        (elsewhere, "standby"),
        (failing, "out of order"),
        (truncated, "payload"),
    ],
)
async def test_whatever_it_answers_it_is_unreachable_with_a_reason(reply, words):
    async with serving(reply) as url, adapter_to(url) as adapter:
        with pytest.raises(Unreachable, match=words):
            await adapter.observe([], CALL)
        with pytest.raises(Unreachable, match=words):
            await adapter.submit([RUN], CALL)
        with pytest.raises(Unreachable, match=words):
            await adapter.reserve([RUN.name], CALL)
        failed = (await adapter.probe(5))[-1]
        assert (failed.is_ok, failed.layer) == (False, Layer.LOGIN if reply is unauthorized else failed.layer)
        assert words in failed.message


async def test_a_reply_without_an_end_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(client, "MOST_BYTES", 1 << 20)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(64):
            await response.write(b" " * (1 << 16))
        return response

    async with serving(endless) as url, adapter_to(url) as adapter:
        with pytest.raises(Unreachable, match="more than 1 MiB"):
            await adapter.observe([], CALL)


async def test_a_manager_that_has_not_read_what_it_knows_is_not_asked():
    asked = []

    async def starting(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"clusterInfo": {"haState": "INITIALIZING"}})

    async with serving(starting) as url, adapter_to(url) as adapter:
        with pytest.raises(Unreachable, match="INITIALIZING"):
            await adapter.submit([RUN], CALL)
    assert asked == ["/ws/v1/cluster/info"]


async def test_of_several_managers_the_active_one_is_asked():
    async def standby(request: web.Request) -> web.Response:
        return web.json_response({"clusterInfo": {"haState": "STANDBY"}})

    async def active(request: web.Request) -> web.Response:
        replies = {"info": INFO, "nodes": {"nodes": {"node": node("n1:8042", 4, 0)}}, "apps": apps(app())}
        return web.json_response(replies[request.path.rpartition("/")[2]])

    async with serving(standby) as first, serving(active) as second, adapter_to("http://127.0.0.1:1", first, second) as adapter:
        assert set((await adapter.observe([], CALL)).reports) == {"fed-j1-a1"}


async def test_a_submission_that_was_not_answered_is_unknown():
    is_over = asyncio.Event()

    async def deaf(request: web.Request) -> web.Response:
        if request.method == "POST":
            await is_over.wait()
        return web.json_response(INFO if request.path.endswith("info") else apps())

    async with serving(deaf) as url, adapter_to(url) as adapter:
        outcome = (await adapter.submit([RUN], Call(epoch=1, timeout_s=0.5)))[RUN.name]
        is_over.set()
    assert isinstance(outcome, Unknown)


async def test_a_login_is_read_at_each_request_and_one_that_is_missing_is_told(monkeypatch):
    seen = []

    async def gate(request: web.Request) -> web.Response:
        seen.append((request.headers.get("Authorization"), request.query["user.name"]))
        return web.json_response(INFO)

    async with serving(gate) as url, adapter_to(url, token={"env": "GATE_TOKEN"}, user="ann") as adapter:
        failed = (await adapter.probe(5))[-1]
        assert (failed.layer, failed.is_misconfigured) == (Layer.LOGIN, True)
        assert "GATE_TOKEN" in failed.message
        for word in ("old", "new"):
            monkeypatch.setenv("GATE_TOKEN", word)
            await adapter.probe(5)
    assert next(each for each in seen if each[0]) == ("Bearer old", "ann")
    assert seen[-1] == ("Bearer new", "ann")


async def test_storage_that_hangs_fails_in_its_layer_and_in_time():
    async def sound(request: web.Request) -> web.Response:
        replies = {"info": INFO, "scheduler": {}, "nodes": {"nodes": {"node": node("n1:8042", 4, 0)}}}
        return web.json_response(replies[request.path.rpartition("/")[2]])

    threads, is_over = SiteThreads("ams", at_once=1), threading.Event()
    async with serving(sound) as url:
        settings = YarnSettings.model_validate({"resource_manager": [url]})
        manager = Web(settings)
        hanging = asyncio.create_task(threads.run(is_over.wait, 60))
        await asyncio.sleep(0)
        try:
            answered = await checks(manager, threads, SITE, settings, 3)
        finally:
            is_over.set()
            await hanging
            threads.close()
            await manager.close()
    told = [(check.layer, check.is_ok) for check in answered]
    assert told == [(Layer.REACH, True), (Layer.LOGIN, True), (Layer.SCHEDULER, True), (Layer.STORAGE, False)]
    assert "no answer within 3 s" in answered[-1].message
