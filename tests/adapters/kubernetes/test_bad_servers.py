"""Answers that no API server should give, and some that it does."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from adapters.base import Accepted, Call, Layer, Refused, RunRef, Unknown, Unreachable
from adapters.kinds import open_adapter
from adapters.kubernetes.codec import FEDERATION, RUN, SPEC, spec_hash
from tests.adapters.kubernetes.test_codec import POOLS, a_run
from topology.site import Engine, Site, Storage

CALL = Call(epoch=1, timeout_s=5.0)


class Server:
    """An API server that answers a listing of nothing, and to each path what a test puts there."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.watches = {}

    async def handle(self, request):
        self.asked.append((request.method, request.path, dict(request.query)))
        answer = self.answers.get((request.method, request.path))
        if answer is not None:
            return await answer(request) if callable(answer) else web.json_response(answer)
        if request.query.get("watch"):
            return await self.watch(request)
        return web.json_response({"kind": "List", "metadata": {"resourceVersion": "10"}, "items": []})

    async def watch(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        for event in self.watches.pop(request.path, ()):
            await response.write(json.dumps(event).encode() + b"\n")
        await asyncio.sleep(0.05 if request.path not in self.watches else 0)
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def adapter(server, tmp_path):
    (tmp_path / "token").write_text("word")
    settings = {"server": {"url": server.url, "token": {"file": str(tmp_path / "token")}}, "image": "site:1"}
    adapter = open_adapter(Site("ams", Engine("kubernetes", settings), POOLS, Storage("file:///srv/ams")), "fed")
    yield adapter
    await adapter.close()


JOBS = "/apis/batch/v1/namespaces/default/jobs"
NAMESPACE = "/api/v1/namespaces/default"
GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}


def status(code, reason, message, **headers):
    async def answer(request):
        body = {"kind": "Status", "code": code, "reason": reason, "message": message}
        return web.json_response(body, status=code, headers=headers)

    return answer


async def html(request):
    return web.Response(text="<html>The gateway is having a rest</html>", content_type="text/html")


async def html_502(request):
    return web.Response(text="<html>Bad gateway</html>", content_type="text/html", status=502)


async def truncated(request):
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"items": [')
    request.transport.close()
    return response


async def silence(request):
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (html, "no JSON"),
        (html_502, "502"),
        (truncated, "cut"),
        (status(401, "Unauthorized", "Unauthorized"), "renew"),
        (status(403, "Forbidden", 'User "x" cannot create resource "jobs"'), "403"),
        (status(429, "TooManyRequests", "later", **{"Retry-After": "7"}), "in 7 s"),
    ],
)
async def test_a_submit_that_was_answered_badly_may_be_sent_again(server, adapter, answer, words):
    server.answers["POST", JOBS] = answer
    with pytest.raises(Unreachable, match=words):
        await adapter.submit([a_run()], CALL)


@pytest.mark.parametrize("answer", [html, html_502, truncated, status(500, "InternalError", "etcd"), silence])
async def test_an_observation_that_was_answered_badly_is_none(server, adapter, answer):
    server.answers["GET", NAMESPACE] = answer
    with pytest.raises(Unreachable):
        await adapter.observe([], Call(1, 0.5))


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        (status(403, "Forbidden", 'jobs.batch "x" is forbidden: exceeded quota: small'), Refused, "exceeded quota"),
        (status(404, "NotFound", 'namespaces "default" not found'), Refused, "not found"),
        (status(422, "Invalid", "spec.completions: too many"), Refused, "too many"),
        (status(500, "InternalError", "etcdserver: request timed out"), Unknown, "timed out"),
        (status(504, "Timeout", "the request did not complete"), Unknown, "did not complete"),
    ],
)
async def test_a_no_is_told_from_a_perhaps(server, adapter, answer, outcome, words):
    server.answers["POST", JOBS] = answer
    told = (await adapter.submit([a_run()], CALL))["fed-j1-a1"]
    assert isinstance(told, outcome)
    assert words in told.reason


async def test_a_name_that_is_taken_is_read_back_and_compared(server, adapter):
    run = a_run()
    server.answers["POST", JOBS] = status(409, "AlreadyExists", "exists")
    metadata = {"name": run.name, "namespace": "default", "uid": "u1", "labels": {FEDERATION: "fed"}}
    found = {"metadata": {**metadata, "annotations": {RUN: run.name, SPEC: spec_hash(run)}}}
    server.answers["GET", f"{JOBS}/{run.name}"] = found
    assert await adapter.submit([run], CALL) == {run.name: Accepted("u1")}
    found["metadata"]["annotations"][SPEC] = "of another"
    assert isinstance((await adapter.submit([run], CALL))[run.name], Refused)
    found["metadata"]["labels"] = {}
    assert isinstance((await adapter.submit([run], CALL))[run.name], Refused)
    server.answers["GET", f"{JOBS}/{run.name}"] = status(404, "NotFound", "gone again")
    assert isinstance((await adapter.submit([run], CALL))[run.name], Unknown)


async def test_a_watch_that_was_away_too_long_lists_anew(server, adapter):
    server.watches[JOBS] = [GONE]
    server.answers["GET", NAMESPACE] = {"metadata": {"uid": "life"}}
    await adapter.observe([], CALL)

    def listings():
        return [query for method, path, query in server.asked if path == JOBS and "watch" not in query]

    async with asyncio.timeout(5):
        while len(listings()) < 2:
            await asyncio.sleep(0.01)
    assert (await adapter.observe([], CALL)).life == "life"


@pytest.mark.parametrize("events", [[], [GONE]], ids=["ends-at-once", "always-gone"])
async def test_a_watch_that_never_lasts_is_begun_again_more_and_more_seldom(server, adapter, events):
    async def watch_or_list(request):
        if not request.query.get("watch"):
            return web.json_response({"metadata": {"resourceVersion": "10"}, "items": []})
        return web.Response(text="".join(json.dumps(event) + "\n" for event in events))

    def watches():
        return sum(path == JOBS and "watch" in query for _, path, query in server.asked)

    server.answers["GET", NAMESPACE] = {"metadata": {"uid": "life"}}
    server.answers["GET", JOBS] = watch_or_list
    began = asyncio.get_running_loop().time()
    assert (await adapter.observe([], CALL)).life == "life"
    while watches() < 5:
        await asyncio.sleep(0.01)
    # pauses of 0.1, 0.2, 0.4 and 0.8 s lie between five watches, and 0.1 s after each: 1.9 s, less what timers are early by
    assert asyncio.get_running_loop().time() - began > 1.85
    assert (await adapter.observe([], CALL)).life == "life"


async def test_a_known_run_that_no_watch_has_seen_is_looked_for(server, adapter):
    server.answers["GET", NAMESPACE] = {"metadata": {"uid": "life"}}
    await adapter.observe([], CALL)
    metadata = {"name": "fed-j1-a1", "namespace": "default", "uid": "u1", "labels": {FEDERATION: "fed"}}
    job = {"metadata": {**metadata, "annotations": {RUN: "fed-j1-a1"}}, "spec": {"completions": 1}}
    server.answers["GET", JOBS] = {"metadata": {"resourceVersion": "11"}, "items": [job]}
    seen = await adapter.observe([RunRef("fed-j1-a1"), RunRef("fed-j2-a1")], CALL)
    assert set(seen.reports) == {"fed-j1-a1"}


@pytest.mark.parametrize(
    ("answer", "layer", "is_misconfigured"),
    [
        (html, Layer.REACH, False),
        (status(503, "ServiceUnavailable", "starting"), Layer.REACH, False),
        ({"some": "other server"}, Layer.REACH, True),
        ({"major": "1", "minor": "27+"}, Layer.REACH, True),
        (status(401, "Unauthorized", "Unauthorized"), Layer.SCHEDULER, True),
    ],
)
async def test_the_probe_says_what_answers_at_the_address(server, adapter, answer, layer, is_misconfigured):
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    server.answers["POST", reviews] = {"status": {"allowed": True}}
    server.answers["GET", "/version"] = answer
    if layer is Layer.SCHEDULER:
        server.answers["GET", "/version"] = {"major": "1", "minor": "36"}
        server.answers["GET", NAMESPACE] = status(404, "NotFound", 'namespaces "default" not found')
    failed = (await adapter.probe(3))[-1]
    assert (failed.layer, failed.is_ok, failed.is_misconfigured) == (layer, False, is_misconfigured)
    assert failed.message


async def test_a_scheduler_that_is_not_heard_of_is_told(server, adapter):
    server.answers["POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = {"status": {"allowed": True}}
    server.answers["GET", "/version"] = {"major": "1", "minor": "36"}
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler"
    server.answers["GET", lease] = {"spec": {"renewTime": "2020-01-01T00:00:00.000000Z"}}
    failed = (await adapter.probe(3))[-1]
    assert (failed.layer, failed.is_misconfigured) == (Layer.SCHEDULER, False)
    assert "kube-scheduler" in failed.message


async def test_a_login_that_is_not_there_is_told_with_its_place(tmp_path):
    for settings, words in (
        ({"server": {"url": "http://127.0.0.1:9", "token": {"file": str(tmp_path / "none")}}}, "none"),
        ({"kubeconfig": str(tmp_path / "config")}, "config"),
        ({"in_cluster": True}, "service account"),
    ):
        adapter = open_adapter(Site("ams", Engine("kubernetes", settings), POOLS, Storage("file:///srv/ams")), "fed")
        (failed,) = await adapter.probe(3)
        assert failed.is_misconfigured
        assert words in failed.message
        await adapter.close()
