"""The endpoint as HTTP: problems, limits, tokens, and what watches it."""

import io
import json
import re
from pathlib import Path

import pytest
from aiohttp import ClientSession

from broker.api import explain
from broker.api.app import BODY_BYTES, MODULES
from broker.config import Listen, Settings, SettingsError, read_settings

JOB = {"name": "hello", "command": ["true"]}


@pytest.fixture
async def http(broker):
    async with ClientSession(broker.url) as session:
        yield session


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/nothing", None, 404),
        ("GET", "/v1/jobs/nothing", None, 404),
        ("GET", "/v1/jobs?limit=0", None, 422),
        ("GET", "/v1/jobs?limit=9999999999999999999999", None, 422),
        ("GET", f"/v1/jobs?limit={'1' * 5000}", None, 422),
        ("PATCH", "/v1/jobs", None, 405),
        ("POST", "/v1/jobs", b"{", 422),
        ("POST", "/v1/jobs", b"[]", 422),
        ("POST", "/v1/jobs", b"\xff\xfe", 422),
        ("POST", "/v1/jobs", b'{"name": NaN}', 422),
        ("POST", "/v1/jobs", b'{"name": "a", "name": "b"}', 422),
        ("POST", "/v1/jobs", b"[" * 100_000, 422),
        ("POST", "/v1/jobs", b" " * (BODY_BYTES + 1), 413),
        ("PUT", "/v1/sites/ams", b"null", 422),
        ("POST", "/v1/plan", b"{}", 422),
    ],
)
async def test_a_wrong_request_is_answered_with_a_problem(http, method, path, body, status):
    content = None if body is None else io.BytesIO(body)
    async with http.request(method, path, data=content, headers={"Content-Type": "application/json"}) as response:
        answer = json.loads(await response.read())
        assert (response.status, answer["status"]) == (status, status)
        assert response.content_type == "application/problem+json"
        assert answer["detail"]
        assert "Traceback" not in str(answer)
        assert "failed" not in answer["title"], "who asked wrongly is not told that the broker failed"


async def test_a_body_that_is_not_packed_as_it_says_is_no_bug_of_ours(http):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with http.post("/v1/jobs", data=io.BytesIO(b"not packed"), headers=headers) as response:
        assert response.status == 400
        assert response.content_type == "application/problem+json"


async def test_a_created_job_says_where_it_is(http):
    async with http.post("/v1/jobs", json=JOB) as response:
        assert response.status == 201
        location = response.headers["Location"]
    async with http.get(location) as response:
        assert response.status == 200


async def test_a_key_that_is_no_key_is_refused(http):
    async with http.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": "a/b"}) as response:
        assert response.status == 422


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Origin": "http://elsewhere.example"}, 401),
        ({"Host": "elsewhere.example:7777"}, 401),
    ],
)
async def test_a_page_from_elsewhere_cannot_use_the_browser_of_this_machine(http, headers, status):
    async with http.post("/v1/jobs", data=json.dumps(JOB), headers={"Content-Type": "application/json", **headers}) as response:
        assert response.status == status


def test_an_endpoint_that_others_can_reach_wants_a_token(tmp_path):
    with pytest.raises(SettingsError, match="token_file"):
        read_settings(None, {"listen": {"host": "0.0.0.0"}})
    assert not Settings(listen=Listen(host="0.0.0.0"), token_file=str(tmp_path)).listen.is_loopback


@pytest.mark.parametrize(
    ("text", "what"),
    [("observe_interval_s: 0", "observe_interval_s"), ("colour: red", "colour"), ("- 1", "mapping"), ("a: [", "not YAML")],
)
def test_settings_that_make_no_sense_name_file_and_field(tmp_path, text, what):
    path = tmp_path / "broker.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_settings(path, {})
    assert str(path) in str(caught.value)
    assert what in str(caught.value)


async def test_it_lives_is_ready_and_counts(http, until):
    async def ready():
        async with http.get("/readyz") as response:
            return response.status

    await until(ready, lambda status: status == 200)
    async with http.get("/healthz") as response:
        assert response.status == 200
    await http.post("/v1/jobs", json=JOB)
    async with http.get("/metrics") as response:
        text = await response.text()
    assert "fed_jobs_accepted_total 1.0" in text
    assert 'fed_jobs{phase="pending"} 1.0' in text


async def test_health_names_the_leader_and_the_room_in_the_store(fed, until):
    health = await until(fed.health, lambda health: health["leader"] and health["store"]["version"])
    assert health["leader"] == health["me"] == health["members"][0]["id"]
    assert health["store"]["has_nospace_alarm"] is False
    assert health["store"]["mirror"]["is_live"]


async def test_a_full_store_is_said_to_be_so(fed, federation):
    federation.server.is_full = True
    with pytest.raises(Exception, match="NOSPACE"):
        await fed.submit(JOB)


def test_every_route_is_described():
    routes = {f"{route.method} {route.path}" for module in MODULES for route in module.routes}
    page = Path(explain.__file__).with_name("README.md").read_text()
    described = set(re.findall(r"`((?:GET|PUT|POST|DELETE) /[^`]*)`", page))
    assert routes == described
