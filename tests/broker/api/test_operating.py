"""Draining, pausing, and who changed what."""

import asyncio
import json

import pytest

from adapters.twin import Behaviour
from broker.access import Role, add_token
from broker.api.rights import LEAST
from broker.client import Client
from broker.errors import InConflict, Invalid
from tests.broker.api.test_jobs import GONE_NOWHERE, a_job

LONG = Behaviour(seconds=10_000.0)


async def test_a_site_is_drained_and_its_jobs_go_elsewhere_without_cost_to_them(fed, federation, phase_of, until):
    federation.behaviour = LONG
    await fed.put("sites", "ams", federation.site("ams", cpus=2))
    jobs = [item["id"] for item in (await fed.submit([a_job(f"n{n}", retry={"attempts": 1}) for n in range(2)]))["items"]]
    for job in jobs:
        await phase_of(job, "running")
    await fed.put("sites", "fra", federation.site("fra", cpus=8))
    shown = await fed.drain("ams")
    assert (shown["admission"], shown["takes_jobs"], shown["drained"]) == ("draining", False, False)
    await until(lambda: fed.get("sites", "ams"), lambda site: site["drained"])
    for job in jobs:
        moved = await until(lambda job=job: fed.job(job), lambda job: job["phase"] == "running" and job["site"] == "fra")
        assert [attempt["ending"] for attempt in moved["attempts"]] == ["withdrawn", None]
        assert "drained" in moved["attempts"][0]["message"]
    await fed.cordon("ams", is_cordoned=False)
    assert (await fed.get("sites", "ams"))["takes_jobs"]


async def test_a_site_that_finishes_keeps_what_runs_and_sends_on_what_waits(fed, federation, phase_of, until):
    federation.behaviour = LONG
    await fed.put("sites", "ams", federation.site("ams", cpus=1))
    runs = (await fed.submit(a_job("runs")))["id"]
    await phase_of(runs, "running")
    await fed.drain("ams", finish=True)
    await fed.put("sites", "fra", federation.site("fra", cpus=8))
    other = (await fed.submit(a_job("other")))["id"]
    assert (await phase_of(other, "running"))["site"] == "fra"
    still = await fed.job(runs)
    assert (still["phase"], still["site"], len(still["attempts"])) == ("running", "ams", 1)
    assert not (await fed.get("sites", "ams"))["drained"]
    await fed.cancel(runs)
    await until(lambda: fed.get("sites", "ams"), lambda site: site["drained"])


async def test_a_drain_goes_on_under_another_leader(federation, until):
    federation.behaviour = LONG
    async with federation.broker() as broker, Client(broker.url) as fed:
        await fed.put("sites", "ams", federation.site("ams"))
        job = (await fed.submit(a_job()))["id"]
        while (await fed.job(job))["phase"] != "running":
            await asyncio.sleep(0.02)
        await fed.drain("ams")
    async with federation.broker() as broker, Client(broker.url) as fed:
        async with asyncio.timeout(20):
            while not (await fed.get("sites", "ams"))["drained"]:
                await asyncio.sleep(0.05)
        assert (await fed.job(job))["phase"] == "pending"


async def test_nothing_is_placed_while_paused_and_that_is_said(fed, federation, phase_of):
    await fed.put("sites", "ams", federation.site("ams"))
    before = (await fed.submit(a_job("before")))["id"]
    await phase_of(before, "succeeded")
    paused = (await fed.pause("the store moves"))["paused"]
    assert "the store moves" in paused["reason"]
    assert (await fed.health())["paused"] == paused
    job = (await fed.submit(a_job("waits")))["id"]
    told = await fed.job(job)
    assert (told["phase"], "the store moves" in told["reason"]) == ("pending", True)
    why = await fed.why(job)
    assert "the store moves" in why["reason"]
    assert "fed resume" in why["help"][0]
    assert (await fed.wish(job, "hold"))["reason"] == f"{(held := await fed.why(job))['reason']}; {held['help'][0]}"
    await fed.wish(job, "release")
    assert (await fed.pause("again"))["paused"] == paused
    assert (await fed.resume())["paused"] is None
    await phase_of(job, "succeeded")
    with pytest.raises(InConflict):
        await fed.resume()


async def test_every_broker_tells_why_a_job_waits(federation):
    async with federation.broker() as one, federation.broker() as other, Client(one.url) as fed, Client(other.url) as at_other:
        await fed.put("sites", "ams", federation.site("ams", cpus=4))
        job = (await fed.submit({**a_job("wide"), "resources": {"cpus": 64}}))["id"]
        async with asyncio.timeout(20):
            for each in (fed, at_other):
                while "short of 60 cpus" not in (await each.jobs())["items"][0]["reason"]:
                    await asyncio.sleep(0.05)
                assert "short of 60 cpus" in (await each.job(job))["reason"]


async def test_each_change_is_in_the_audit_with_who_made_it(federation, tmp_path):
    path = tmp_path / "tokens"
    token = add_token(path, "root", Role.ADMIN, None, None)
    async with federation.broker(token_file=str(path)) as broker, Client(broker.url, token) as fed:
        await broker.context.world.mirror.reached(1)

        async def newest(count=1):
            return [(each["who"], each["what"], each["record"]) for each in (await fed.audit(count))["items"]][::-1]

        tried = set()

        async def after(route, act, *expected):
            tried.add(route)
            before = len((await fed.audit(1000))["items"])
            await act
            assert len((await fed.audit(1000))["items"]) == before + len(expected), route
            assert await newest(len(expected)) == [("root", *each) for each in expected]

        await after("PUT /v1/sites/{name}", fed.put("sites", "ams", federation.site("ams")), ("create", "sites/ams"))
        await fed.put("sites", "fra", federation.site("fra"))
        link = {"from": "ams", "to": "fra", "bandwidth_gbps": 1}
        await after("PUT /v1/links/{name}", fed.put("links", "ams:fra", link), ("create", "links/ams:fra"))
        data = {"name": "corpus", "replicas": [{"site": "ams", "path": "corpus"}]}
        made = ("create", "datasets/default/corpus@1"), ("create", "replicas/default/corpus@1/ams")
        await after("PUT /v1/datasets/{name}", fed.put("datasets", "corpus", data), *made)
        (tmp_path / "words.txt").write_text("one two")
        sent = fed.upload("words@1", tmp_path / "words.txt", "fra")
        await after("PUT /v1/datasets/{name}/content", sent, ("upload", "datasets/default/words@1"))
        await after("PUT /v1/tenants/{name}", fed.put("tenants", "red", {"name": "red"}), ("create", "tenants/red"))
        changed = {"name": "red", "max_pending": 7}
        await after("PUT /v1/tenants/{name}", fed.put("tenants", "red", changed), ("change", "tenants/red"))
        entry = (await fed.audit(1))["items"][0]
        assert "max_pending" not in json.loads(entry["before"])
        assert json.loads(entry["after"])["max_pending"] == 7
        await after("POST /v1/sites/{name}/cordon", fed.cordon("ams"), ("cordoned", "sites/ams"))
        await after("POST /v1/sites/{name}/drain", fed.drain("ams"), ("draining", "sites/ams"))
        await after("POST /v1/sites/{name}/uncordon", fed.cordon("ams", is_cordoned=False), ("open", "sites/ams"))
        await after("POST /v1/pause", fed.pause(), ("pause", "pause"))
        await after("POST /v1/resume", fed.resume(), ("delete", "pause"))
        one = (await fed.submit(a_job("one", **GONE_NOWHERE)))["id"]
        for verb in ("hold", "release", "cancel"):
            await after(f"POST /v1/jobs/{{job}}/{verb}", fed.wish(one, verb), (verb, f"wishes/{one}"))
        two = (await fed.submit(a_job("two", **GONE_NOWHERE)))["id"]
        for verb in ("hold", "release", "cancel"):
            await after(f"POST /v1/jobs/{verb}", fed.for_all(verb, name="two"), (verb, f"wishes/{two}"))
        stuck = (await fed.submit(a_job("stuck", **GONE_NOWHERE)))["id"]
        await after("POST /v1/jobs/{job}/unstick", fed.unstick(stuck, "a bug"), ("unstick", f"states/{stuck}"))
        await after("DELETE /v1/links/{name}", fed.delete("links", "ams:fra"), ("delete", "links/ams:fra"))
        await after("DELETE /v1/datasets/{name}", fed.delete("datasets", "corpus"), ("delete", "datasets/default/corpus@1"))
        await after("DELETE /v1/tenants/{name}", fed.delete("tenants", "red"), ("delete", "tenants/red"))
        gone = (("cordoned", "sites/fra"), ("delete", "sites/fra"))
        await after("DELETE /v1/sites/{name}", fed.delete("sites", "fra"), *gone)
        asked = {"POST /v1/plan", "POST /v1/whatif", "POST /v1/sites/{name}/test"}
        harmless = asked | {"POST /v1/jobs"}  # a job's record names who made it
        elsewhere = {"POST /v1/sites/{name}/forget"}  # tried in test_forget.py
        assert {route for route in LEAST if not route.startswith("GET ")} - harmless - elsewhere == tried


async def test_the_audit_is_narrowed_and_paged(fed, federation):
    for number in range(5):
        await fed.put("tenants", f"t{number}", {"name": f"t{number}"})
    await fed.put("sites", "ams", federation.site("ams"))
    first = await fed.audit(3, record="tenants/")
    second = await fed.audit(3, first["next"], record="tenants/")
    assert [each["record"] for page in (first, second) for each in page["items"]] == [f"tenants/t{n}" for n in (4, 3, 2, 1, 0)]
    assert [each["record"] for each in (await fed.audit(who="local", what="create", record="sites/"))["items"]] == ["sites/ams"]
    with pytest.raises(Invalid, match="cursor"):
        await fed.audit(3, first["next"])
