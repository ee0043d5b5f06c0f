"""Bad input over HTTP, at a broker with tokens: each gets its own answer of the 400s, and no record is made or changed."""

import asyncio
import io
import json
import logging
import zlib
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from aiohttp import ClientSession

from broker.access import Role, add_token
from broker.client import Client
from broker.store import keys as kinds
from broker.store.keys import Keys
from tests.broker.api.test_jobs import GONE_NOWHERE, a_job
from tests.broker.documents.mistakes import JOBS, NO_JSON, without

KEYS = Keys("fed")
KEPT = (
    kinds.SITES, kinds.LINKS, kinds.DATASETS, kinds.REPLICAS, kinds.TENANTS, kinds.SPECS, kinds.WISHES, kinds.STATES,
    kinds.SUBMISSIONS, kinds.AUDIT, kinds.PAUSE,
)  # fmt: skip
"""All that callers make or change. The others are the broker's own notes."""
JSON = {"Content-Type": "application/json"}
LINK = {"from": "ams", "to": "fra", "bandwidth_gbps": 10.0}
RTL, METACHARACTERS = "ab\u202egnp.exe", "$(touch x)`id`;|&><*?'\"\\"
NODE = {"cpus": 4.0, "memory_gib": 16.0}


def a_site(**change):
    pool = {"name": "cpu", "nodes": 1, "per_node": NODE}
    site = {"name": "osl", "engine": {"kind": "process"}, "pools": [pool], "storage": {"url": "file:///srv/osl"}}
    return {**site, **change}


@asynccontextmanager
async def guarded(federation, folder):
    """A broker with two sites, a job of each of two tenants, and callers by name; nothing more is written to its records."""
    tokens = folder / "tokens"
    known = {
        "ada": add_token(tokens, "ada", Role.USER, "red", None),
        "ben": add_token(tokens, "ben", Role.USER, "blue", None),
        "old": add_token(tokens, "old", Role.ADMIN, None, "2020-01-01T00:00:00Z"),
        "root": add_token(tokens, "root", Role.ADMIN, None, None),
    }
    async with federation.broker(token_file=str(tokens)) as broker, Client(broker.url, known["root"]) as root:
        for name in ("ams", "fra"):
            await root.put("sites", name, federation.site(name))
        for tenant in ("red", "blue"):
            await root.put("tenants", tenant, {"name": tenant})
        jobs = {}
        for name, tenant in (("ada", "red"), ("ben", "blue")):
            async with Client(broker.url, known[name]) as client:
                jobs[name] = (await client.submit(a_job(tenant=tenant, **GONE_NOWHERE)))["id"]
        page = (await root.jobs(limit=1))["next"]
        async with ClientSession(broker.url) as session:
            yield SimpleNamespace(session=session, tokens=known, jobs=jobs, page=page, federation=federation)


def kept(federation):
    """All records that callers make or change."""
    return {record.key: record.value for kind in KEPT for record in federation.server.records(KEYS.of(kind) + "/")}


async def refused(there, method, path, status, caller="root", headers=JSON, **what):
    """The problem document of a request that changes nothing."""
    before = kept(there.federation)
    token = {"Authorization": f"Bearer {there.tokens[caller]}"} if caller else {}
    async with there.session.request(method, path, headers={**token, **headers}, **what) as response:
        text = await response.text()
        assert response.status == status, text
        assert response.content_type == "application/problem+json"
    assert "Traceback" not in text
    assert kept(there.federation) == before
    return json.loads(text)


def fields_of(problem):
    return [fault["field"] for fault in problem["faults"]]


@pytest.fixture
async def there(federation, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with guarded(federation, tmp_path) as there:
        yield there
        async with there.session.get("/v1/jobs", headers={"Authorization": f"Bearer {there.tokens['root']}"}) as response:
            assert len((await response.json())["items"]) == 2
    assert "Traceback" not in caplog.text


async def test_each_mistake_in_a_job_is_told_by_its_field(there):
    for change, field, cure in JOBS:
        problem = await refused(there, "POST", "/v1/jobs", 422, data=json.dumps(without(change)))
        assert fields_of(problem) == [field], change
        assert cure in problem["faults"][0]["message"]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/plan", "/v1/jobs/cancel"])
async def test_what_is_no_decent_json_is_refused(there, path):
    for raw, _ in NO_JSON:
        assert len((await refused(there, "POST", path, 422, data=raw))["faults"][0]["message"]) > 10, raw


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("links/ams:osl", {**LINK, "to": "osl"}, "to"),
        ("links/ams:ams", {**LINK, "to": "ams"}, "to"),
        ("links/ams:fra", {**LINK, "bandwidth_gbps": 0}, "bandwidth_gbps"),
        ("links/ams:fra", {**LINK, "bandwidth_gbps": -0.0}, "bandwidth_gbps"),
        ("links/ams:fra", {**LINK, "bandwidth_gbps": True}, "bandwidth_gbps"),
        ("links/ams:fra", {**LINK, "latency_ms": -1}, "latency_ms"),
        ("links/fra:ams", LINK, "name"),
        ("sites/osl", a_site(name=RTL), "name"),
        ("sites/osl", a_site(name="../../etc/passwd"), "name"),
        ("sites/osl", a_site(name=METACHARACTERS), "name"),
        ("sites/osl", a_site(region=RTL), "region"),
        ("sites/osl", a_site(region="eu\r\nSet-Cookie: a=b"), "region"),
        ("sites/osl", a_site(storage={"url": "file:///srv/../../etc"}), "storage.url"),
        ("sites/osl", a_site(pools=[]), "pools"),
        ("sites/osl", a_site(pools=[{"name": "cpu", "nodes": 10**30, "per_node": NODE}]), "pools.0.nodes"),
        ("sites/osl", a_site(engine={"kind": "process", "url": "http://u:p@127.0.0.1:1"}), "engine.url"),
        ("sites/osl", {"name": "osl"}, "engine"),
        ("datasets/corpus", {"name": "corpus", "replicas": [{"site": "osl", "path": "x"}]}, "replicas.0.site"),
        ("datasets/corpus", {"name": "corpus", "replicas": [{"site": "ams", "path": "../x"}]}, "replicas.0.path"),
        ("datasets/corpus", {"name": "corpus", "replicas": [{"site": "ams", "path": "a/../../x"}]}, "replicas.0.path"),
        ("datasets/corpus", {"name": "corpus", "tenant": "nobody"}, "tenant"),
        ("datasets/corpus", {"name": "corpus", "size_bytes": 2**70}, "size_bytes"),
        ("tenants/vision", {"name": "vision", "max_pending": -1}, "max_pending"),
        ("tenants/vision", {"name": "vision", "share": 0}, "share"),
        ("tenants/vision", {"name": "v\u0000n"}, "name"),
    ],
)
async def test_each_mistake_in_what_the_federation_is_made_of_is_told_by_its_field(there, path, body, field):
    assert field in fields_of(await refused(there, "PUT", f"/v1/{path}", 422, data=json.dumps(body)))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tenant": "nobody"}, "tenant"),
        ({"inputs": [{"dataset": "absent"}]}, "inputs.0.dataset"),
        ({"labels": {"a b": "c"}}, "labels.a b"),
        ({"labels": {"a": RTL}}, "labels.a"),
        ({"labels": {"a": "b\nc"}}, "labels.a"),
        ({"name": "../x"}, "name"),
        ({"name": METACHARACTERS}, "name"),
        ({"env": {METACHARACTERS: "x"}}, f"env.{METACHARACTERS}"),
        ({"env": {"A": "x\u0000"}}, "env.A"),
    ],
)
async def test_references_to_nothing_and_names_that_are_none_are_told(there, body, field):
    problem = await refused(there, "POST", "/v1/jobs", 422, data=json.dumps(a_job(**{"tenant": "red", **body})))
    assert fields_of(problem) == [field]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("jobs?limit=0", "limit"),
        ("jobs?limit=-1", "limit"),
        ("jobs?limit=1001", "limit"),
        ("jobs?limit=1e400", "limit"),
        ("jobs?limit=true", "limit"),
        (f"jobs?limit={'9' * 5000}", "limit"),
        ("jobs?limit=1&limit=2", "limit"),
        ("jobs?colour=blue", "colour"),
        ("jobs?phase=flying", "phase"),
        ("jobs?since=tomorrow", "since"),
        ("jobs?since=NaN", "since"),
        ("jobs?since=-1e400", "since"),
        ("jobs?label=a%3Db%3Dc", "label"),
        ("jobs?label=%00", "label"),
        ("jobs?cursor=forged", "cursor"),
        ("jobs?cursor=", "cursor"),
        ("jobs?cursor=PAGE&phase=pending", "cursor"),
        ("jobs?cursor=PAGEx", "cursor"),
        ("jobs/JOB/logs?task=-1", "task"),
        ("jobs/JOB/logs?task=1.5", "task"),
        ("jobs/JOB/logs?attempt=0", "attempt"),
        ("jobs/JOB/logs?offset=-1", "offset"),
        ("jobs/JOB/logs?tail=-1", "tail"),
        ("jobs/JOB/logs?follow=maybe", "follow"),
        ("topology/path?from=ams", "to"),
        ("audit?limit=x", "limit"),
        ("audit?cursor=PAGE", "cursor"),
        ("events?phase=flying", "phase"),
    ],
)
async def test_each_mistake_in_a_query_is_told_by_its_name(there, path, field):
    asked = path.replace("PAGE", there.page).replace("JOB", there.jobs["ada"])
    assert fields_of(await refused(there, "GET", f"/v1/{asked}", 422)) == [field]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({**JSON, "Idempotency-Key": "a" * 300}, 422),
        ({**JSON, "Idempotency-Key": "\u202e"}, 422),
        ({**JSON, "Idempotency-Key": ""}, 422),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/xml"}, 415),
        ({**JSON, "Content-Encoding": "gzip"}, 400),
        ({**JSON, "Content-Encoding": "br"}, 400),
    ],
)
async def test_each_mistake_in_a_header_is_told(there, headers, status):
    await refused(there, "POST", "/v1/jobs", status, headers=headers, data=json.dumps(a_job(tenant="red")))


async def test_a_body_that_is_too_large_is_refused_as_it_is_and_unpacked(there):
    body = json.dumps(a_job(script="#" * 10 * 2**20)).encode()
    await refused(there, "POST", "/v1/jobs", 413, data=io.BytesIO(body))
    await refused(there, "POST", "/v1/jobs", 413, headers={**JSON, "Content-Encoding": "deflate"}, data=zlib.compress(body))
    await refused(there, "POST", "/v1/jobs", 422, data=json.dumps({"jobs": [a_job()] * 1001}))


@pytest.mark.parametrize("caller", [None, "old", "forged", "odd"])
async def test_who_has_no_good_token_learns_and_changes_nothing(there, caller):
    there.tokens |= {"forged": there.tokens["root"][:-1] + "A!"[there.tokens["root"].endswith("A")], "odd": "\u00ff; x=1"}
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("POST", "/v1/pause"), ("DELETE", "/v1/sites/ams")):
        problem = await refused(there, method, path, 401, caller, data="{}")
        assert there.jobs["ada"] not in json.dumps(problem)


async def test_what_belongs_to_another_tenant_is_not_there(there):
    mine, other = there.jobs["ada"], there.jobs["ben"]
    absent = await refused(there, "GET", "/v1/jobs/0123456789abcdefghjkmnpqrs", 404, "ada")
    for method, verb in (
        ("GET", ""), ("GET", "/why"), ("GET", "/logs"), ("GET", "/events"), ("GET", "/outputs"), ("POST", "/cancel"),
        ("POST", "/hold"), ("POST", "/release"),
    ):  # fmt: skip
        problem = await refused(there, method, f"/v1/jobs/{other}{verb}", 404, "ada")
        assert problem["detail"].replace(other, "") == absent["detail"].replace("0123456789abcdefghjkmnpqrs", "")
        await refused(there, method, f"/v1/jobs/{mine}{verb}?tenant=blue", 403, "ada")
    await refused(there, "POST", "/v1/jobs", 403, "ada", data=json.dumps(a_job(tenant="blue")))
    await refused(there, "POST", "/v1/jobs/cancel", 403, "ada", data=json.dumps({"tenant": "blue"}))
    await refused(there, "GET", "/v1/jobs?tenant=blue", 403, "ada")
    await refused(there, "GET", "/v1/audit", 403, "ada")
    await refused(there, "PUT", "/v1/tenants/blue", 403, "ada", data=json.dumps({"name": "blue"}))


async def test_bodies_that_come_slowly_or_are_cut_make_nothing_and_hold_up_nobody(there):
    body = json.dumps(a_job(tenant="red")).encode()
    before = kept(there.federation)
    port = there.session._base_url.port
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {there.tokens['ada']}\r\n".encode()
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    writers = []
    for number in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + body[: number % len(body)])
        await writer.drain()
        writers.append(writer)
    async with asyncio.timeout(10):
        await refused(there, "GET", "/v1/jobs?limit=0", 422)
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    await refused(there, "GET", "/v1/jobs?limit=0", 422)
    assert kept(there.federation) == before
