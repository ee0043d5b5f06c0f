"""Tokens, roles and tenants: who may do what, on every route."""

import os
import stat
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession

from broker.access import Role, TokensError, add_token, read_tokens, remove_token
from broker.api.app import MODULES
from broker.api.auth import OPEN
from broker.api.rights import LEAST
from broker.client import Client
from broker.config import SettingsError, read_settings
from broker.errors import Forbidden, NotFound, Unauthorized
from tests.broker.api.test_jobs import GONE_NOWHERE, a_job

ROUTES = sorted(
    {f"{route.method} {route.path}" for module in MODULES for route in module.routes} - {f"GET {path}" for path in OPEN}
)
OF = {
    "ada": (Role.USER, "red"),
    "ben": (Role.USER, "blue"),
    "eve": (Role.VIEWER, "red"),
    "ops": (Role.OPERATOR, None),
    "root": (Role.ADMIN, None),
}


@pytest.fixture
def tokens(tmp_path):
    """The file, and each token by name."""
    path = tmp_path / "tokens"
    return path, {name: add_token(path, name, role, tenant, None) for name, (role, tenant) in OF.items()}


@asynccontextmanager
async def guarded(federation, tokens):
    """A client for each caller, at a broker with a job of each tenant."""
    path, known = tokens
    async with federation.broker(token_file=str(path)) as broker:
        clients = {name: Client(broker.url, token, patience_s=2.0) for name, token in known.items()}
        for client in clients.values():
            await client.__aenter__()
        try:
            for tenant in ("red", "blue"):
                await clients["root"].put("tenants", tenant, {"name": tenant})
            yield broker, clients
        finally:
            for client in clients.values():
                await client.__aexit__(None, None, None)


def test_each_route_says_what_role_it_wants():
    assert sorted(LEAST) == ROUTES


@pytest.mark.parametrize("route", ROUTES)
async def test_who_is_less_than_a_route_wants_is_refused_and_who_is_enough_is_not(federation, tokens, route):
    path, known = tokens
    method, where = route.split()
    async with federation.broker(token_file=str(path)) as broker, ClientSession(broker.url) as session:
        await broker.context.world.mirror.reached(1)
        statuses = {}
        for name, role in (("eve", Role.VIEWER), ("ada", Role.USER), ("ops", Role.OPERATOR), ("root", Role.ADMIN)):
            headers = {"Authorization": f"Bearer {known[name]}"}
            async with session.request(method, where.replace("{job}", "x").replace("{name}", "x"), headers=headers) as response:
                statuses[role] = response.status
        async with session.request(method, where.replace("{job}", "x").replace("{name}", "x")) as response:
            assert response.status == 401
        is_for_all = route == "GET /metrics"
        for role, status in statuses.items():
            is_allowed = role.may(LEAST[route]) and not (is_for_all and role in (Role.VIEWER, Role.USER))
            assert (status == 403) == (not is_allowed), (role, status)
            assert status < 500


async def test_a_tenant_sees_and_touches_its_own_alone(federation, tokens):
    async with guarded(federation, tokens) as (_, by):
        red = await by["ada"].submit(a_job("red-job", **GONE_NOWHERE))
        blue = await by["ben"].submit(a_job("blue-job", **GONE_NOWHERE))
        assert (red["tenant"], blue["tenant"]) == ("red", "blue")
        assert [job["id"] for job in (await by["ada"].jobs())["items"]] == [red["id"]]
        assert [job["id"] for job in (await by["eve"].jobs())["items"]] == [red["id"]]
        assert len((await by["ops"].jobs())["items"]) == 2
        for name in (blue["id"], blue["id"][-8:], "blue-job"):
            for ask in (by["ada"].job, by["ada"].why, by["ada"].cancel, by["ada"].job_events):
                with pytest.raises(NotFound):
                    await ask(name)
        for verb in ("hold", "release", "cancel"):
            assert (await by["ada"].for_all(verb, all=True))["matched"] == 1
            with pytest.raises(Forbidden):
                await by["ada"].for_all(verb, tenant="blue")
        with pytest.raises(Forbidden):
            await by["ada"].jobs(tenant="blue")
        with pytest.raises(Forbidden):
            await by["ada"].submit(a_job(tenant="blue"))
        with pytest.raises(Forbidden):
            await by["ada"].submit([a_job(), a_job(tenant="blue")])
        with pytest.raises(Forbidden):
            await by["ada"].plan(a_job(tenant="blue"))
        with pytest.raises(Forbidden):
            await anext(by["ada"].events(tenant="blue"))
        assert [each["name"] for each in (await by["ada"].list("tenants"))["items"]] == ["red"]
        with pytest.raises(NotFound):
            await by["ada"].get("tenants", "blue")


async def test_datasets_are_the_tenants_own_and_those_of_all(federation, tokens):
    async with guarded(federation, tokens) as (_, by):
        await by["root"].put("sites", "ams", federation.site("ams"))
        common = {"name": "common", "replicas": [{"site": "ams", "path": "common"}]}
        await by["root"].put("datasets", "common", common)
        await by["ada"].put("datasets", "mine", {**common, "name": "mine"})
        await by["ben"].put("datasets", "theirs", {**common, "name": "theirs"})
        assert [(each["tenant"], each["name"]) for each in (await by["ada"].list("datasets"))["items"]] == [
            ("default", "common"),
            ("red", "mine"),
        ]
        with pytest.raises(Forbidden):
            await by["ada"].put("datasets", "other", {**common, "name": "other", "tenant": "blue"})
        with pytest.raises(NotFound):
            await by["ada"].get("datasets", "theirs", tenant="blue")
        with pytest.raises(Forbidden):
            await by["ada"].delete("datasets", "common", tenant="default")
        with pytest.raises(NotFound):
            await by["ada"].delete("datasets", "theirs", tenant="blue")
        await by["ada"].delete("datasets", "mine")


async def test_a_token_is_good_until_it_is_taken_back_or_expires(federation, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr("broker.access.LOOK_S", 0.0)
    path, known = tokens
    old = add_token(path, "old", Role.VIEWER, None, "2020-01-01")
    async with federation.broker(token_file=str(path)) as broker:
        await broker.context.world.mirror.reached(1)

        async def asks(token):
            async with Client(broker.url, token) as client:
                return (await client.jobs())["items"]

        assert await asks(known["ada"]) == []
        for wrong in (old, None, "", known["ada"][:-1], known["ada"].lower(), "x" * 5_000):
            with pytest.raises(Unauthorized):
                await asks(wrong)
        remove_token(path, "ada")
        with pytest.raises(Unauthorized):
            await asks(known["ada"])
        new = add_token(path, "zoe", Role.USER, "red", None)
        assert await asks(new) == []
        path.write_text("tokens: [")
        assert await asks(new) == []  # those from before stay good
        async with Client(broker.url, known["root"]) as client:
            assert "stay good" in (await client.health())["tokens"]
        async with Client(broker.url, new) as client:
            assert (await client.health())["tokens"] == ""  # not for those of one tenant


def test_the_file_holds_hashes_for_its_owner_alone(tokens):
    path, known = tokens
    text = path.read_text()
    assert not any(token in text for token in known.values())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert [each.name for each in read_tokens(path)] == list(OF)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("ada", Role.USER, "red", None), "twice"),
        (("new", Role.USER, None, None), "tenant"),
        (("new", Role.ADMIN, "red", None), "tenant"),
        (("new", Role.USER, "red", "soon"), "expires"),
        (("New!", Role.USER, "red", None), "name"),
    ],
)
def test_an_entry_that_makes_no_sense_is_not_written(tokens, given, words):
    path, _ = tokens
    before = path.read_text()
    with pytest.raises(TokensError, match=words):
        add_token(path, *given)
    assert path.read_text() == before
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".tokens")] == []


@pytest.mark.parametrize("text", ["s3cret", "tokens: [{name: a}]", "tokens: [{name: a, role: king, sha256: x}]", "- a", "\0"])
async def test_a_file_that_is_none_of_tokens_is_said_to_be_so(federation, tmp_path, text):
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(SettingsError, match="token_file"):
        async with federation.broker(token_file=str(tmp_path / "tokens")):
            pass


async def test_production_wants_tokens_that_nobody_else_reads(federation, tokens):
    path, _ = tokens
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="others can read"):
        async with federation.broker(token_file=str(path), mode="production"):
            pass


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mode": "production"}, "token_file"),
        ({"mode": "production", "token_file": "t", "listen": {"host": "0.0.0.0"}}, "tls"),
        ({"production": True}, "mode: production"),
        ({"mode": "yes"}, "mode"),
    ],
)
def test_production_refuses_what_is_unsafe_by_its_name(given, words):
    with pytest.raises(SettingsError, match=words):
        read_settings(None, given)
