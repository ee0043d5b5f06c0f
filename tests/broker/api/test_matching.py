"""ETag and If-Match: whoever changes what has changed since he read it is told."""

import json

import pytest
from aiohttp import ClientSession

from broker.errors import Invalid, Outdated
from broker.store import keys as kinds
from tests.broker.api.test_jobs import GONE_NOWHERE, a_job

BODIES = {
    "sites": ("ams", lambda federation: federation.site("ams"), lambda body: {**body, "region": "eu-west"}),
    "tenants": ("red", lambda _: {"name": "red"}, lambda body: {**body, "max_pending": 7}),
    "datasets": ("corpus@1", lambda _: {"name": "corpus", "version": "1"}, lambda body: {**body, "size_bytes": 7}),
}


@pytest.mark.parametrize("kind", BODIES)
async def test_what_changed_meanwhile_is_neither_replaced_nor_removed(fed, federation, kind):
    name, make, change = BODIES[kind]
    body = make(federation)
    await fed.put(kind, name, body)
    old = await fed.etag(kind, name)
    await fed.put(kind, name, change(body), etag=old)
    now = await fed.etag(kind, name)
    assert now != old
    with pytest.raises(Outdated, match="changed since you read it"):
        await fed.put(kind, name, body, etag=old)
    with pytest.raises(Outdated):
        await fed.delete(kind, name, etag=old)
    assert await fed.etag(kind, name) == now
    await fed.delete(kind, name, etag=now)
    with pytest.raises(Outdated, match="not there any more"):
        await fed.put(kind, name, body, etag=now)
    with pytest.raises(Outdated):
        await fed.put(kind, name, body, etag="*")


async def test_a_put_tells_the_tag_of_what_it_stored(broker, fed):
    async with ClientSession(broker.url) as session:
        async with session.put("/v1/tenants/red", json={"name": "red"}) as response:
            tag = response.headers["ETag"]
        assert tag == await fed.etag("tenants", "red")
        headers = {"If-Match": f'"1", {tag}'}
        async with session.put("/v1/tenants/red", json={"name": "red", "max_pending": 2}, headers=headers) as response:
            assert response.status == 200


async def test_a_job_is_held_only_as_it_was_seen(broker, fed, federation):
    await fed.put("sites", "ams", federation.site("ams"))
    job = (await fed.submit(a_job(**GONE_NOWHERE)))["id"]
    seen = await fed.etag("jobs", job)
    async with ClientSession(broker.url) as session:
        async with session.post(f"/v1/jobs/{job}/hold", headers={"If-Match": seen}) as response:
            assert response.status == 200
        async with session.post(f"/v1/jobs/{job}/release", headers={"If-Match": seen}) as response:
            assert (response.status, (await response.json())["title"]) == (412, "changed since it was read")


@pytest.fixture
async def behind(broker, fed):
    """A broker that has not yet heard of a tenant's last change, and the tag from before."""
    mirror = broker.context.world.mirror
    key = mirror.keys.of(kinds.TENANTS, "red")
    await fed.put("tenants", "red", {"name": "red", "max_pending": 1})
    before, tag = mirror.entries[key], await fed.etag("tenants", "red")
    await fed.put("tenants", "red", {"name": "red", "max_pending": 2})
    mirror.entries[key] = before
    return tag


async def test_what_a_member_holds_for_done_already_is_done_all_the_same(fed, behind):
    await fed.put("tenants", "red", {"name": "red", "max_pending": 1})
    assert (await fed.get("tenants", "red"))["max_pending"] == 1
    changes = (await fed.audit(record="tenants/red"))["items"]
    assert [json.loads(change["after"])["max_pending"] for change in changes] == [1, 2, 1]


async def test_nothing_is_deleted_that_was_changed_since_whoever_has_heard(fed, behind):
    with pytest.raises(Outdated):
        await fed.delete("tenants", "red", etag=behind)
    await fed.put("tenants", "red", {"name": "red", "max_pending": 3})
    await fed.delete("tenants", "red", etag=await fed.etag("tenants", "red"))
    assert "red" not in [tenant["name"] for tenant in (await fed.list("tenants"))["items"]]


@pytest.mark.parametrize("tag", ["17", 'W/"17"', '"x"', "", '"1" "2"'])
async def test_what_is_no_tag_of_ours_is_refused(fed, tag):
    session, body = ClientSession(fed.url, headers={"If-Match": tag}), {"name": "red"}
    async with session, session.put("/v1/tenants/red", json=body) as response:
        assert (response.status, (await response.json())["faults"][0]["field"]) == (Invalid.status, "If-Match")
