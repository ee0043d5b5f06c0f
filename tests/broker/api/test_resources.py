"""What the federation is made of, over HTTP."""

import pytest
from aiohttp import ClientConnectionError

from adapters.base import Layer
from adapters.twin import Behaviour
from broker.client import Client
from broker.clock import SystemClock
from broker.errors import InConflict, Invalid, NotFound, Outdated
from broker.jobs.lifecycle import Placed, Staged, fold
from broker.jobs.model import JobSpec, JobState, Wish
from broker.records import Booking
from broker.replies import check_answer
from broker.store import keys as kinds
from broker.store.base import Delete, Put
from broker.store.codec import encode
from broker.store.keys import Keys
from broker.store.ledger import Save
from broker.store.memory import MemoryServer
from topology.dataset import DatasetId

KEYS = Keys("fed")
CORPUS = DatasetId("default", "corpus", "1")
ENDLESS = Behaviour(seconds=10_000.0)
LINK = {"from": "ams", "to": "fra", "bandwidth_gbps": 10.0}


def a_dataset(name="corpus", *sites, **more):
    return {"name": name, "replicas": [{"site": site, "path": name} for site in sites], **more}


@pytest.fixture
async def two_sites(fed, federation):
    for name in ("ams", "fra"):
        await fed.put("sites", name, federation.site(name))


@pytest.mark.usefixtures("two_sites")
async def test_what_is_declared_is_shown_and_listed(fed):
    await fed.put("links", "ams:fra", LINK)
    await fed.put("datasets", "corpus@1", a_dataset("corpus", "ams"))
    await fed.put("tenants", "vision", {"name": "vision", "max_pending": 5})
    assert [site["name"] for site in (await fed.list("sites"))["items"]] == ["ams", "fra"]
    assert (await fed.get("links", "ams:fra"))["bandwidth_gbps"] == 10.0
    assert (await fed.get("datasets", "corpus"))["replicas"] == [{"site": "ams", "path": "corpus"}]
    assert (await fed.get("datasets", "corpus@1"))["sites"] == ["ams"]
    assert [tenant["name"] for tenant in (await fed.list("tenants"))["items"]] == ["default", "vision"]


async def test_tenants_stand_in_a_tree(fed):
    await fed.put("tenants", "research", {"name": "research", "weight": 2.0})
    await fed.put("tenants", "vision", {"name": "vision", "parent": "research"})
    assert [(each["name"], each["parent"], each["weight"]) for each in (await fed.list("tenants"))["items"]] == [
        ("default", None, 1.0), ("research", None, 2.0), ("vision", "research", 1.0),
    ]  # fmt: skip
    for body in ({"name": "research", "parent": "vision"}, {"name": "research", "parent": "research"}):
        with pytest.raises(Invalid, match="a tree has no circles"):
            await fed.put("tenants", "research", body)
    with pytest.raises(Invalid, match="no tenant is named nobody: apply it first"):
        await fed.put("tenants", "vision", {"name": "vision", "parent": "nobody"})
    with pytest.raises(InConflict, match="parent of vision"):
        await fed.delete("tenants", "research")


@pytest.mark.parametrize(
    ("kind", "name", "body", "field"),
    [
        ("links", "ams:osl", {"from": "ams", "to": "osl", "bandwidth_gbps": 1.0}, "to"),
        ("links", "ams:fra", {**LINK, "bandwidth_gbps": 0}, "bandwidth_gbps"),
        ("links", "fra:ams", LINK, "name"),
        ("datasets", "corpus", a_dataset("corpus", "ams", "osl"), "replicas.1.site"),
        ("datasets", "corpus@2", a_dataset("corpus", "ams"), "name"),
        ("datasets", "corpus", a_dataset("corpus", "ams", tenant="nobody"), "tenant"),
        ("tenants", "vision", {"name": "vision", "max_pending": -1}, "max_pending"),
        ("sites", "osl", {"name": "osl"}, "engine"),
    ],
)
@pytest.mark.usefixtures("two_sites")
async def test_a_wrong_document_is_refused_whole_by_its_field(fed, kind, name, body, field):
    before = await fed.list(kind)
    with pytest.raises(Invalid) as caught:
        await fed.put(kind, name, body)
    assert field in [fault.field for fault in caught.value.faults]
    assert [item["name"] for item in (await fed.list(kind))["items"]] == [item["name"] for item in before["items"]]


@pytest.mark.parametrize("kind", ["sites", "links", "datasets", "tenants"])
async def test_what_is_not_there_is_not_found(fed, kind):
    with pytest.raises(NotFound):
        await fed.get(kind, "nothing")
    with pytest.raises(NotFound):
        await fed.delete(kind, "nothing")


async def test_a_cordoned_site_takes_no_jobs_until_uncordoned_and_applying_it_anew_changes_nothing(fed, federation):
    await fed.put("sites", "ams", federation.site("ams"))
    await fed.cordon("ams")
    await fed.put("sites", "ams", federation.site("ams", region="eu-west"))
    job = await fed.submit({"name": "hello", "command": ["true"]})
    assert (await fed.get("sites", "ams"))["admission"] == "cordoned"
    assert "cordoned" in (await fed.why(job["id"]))["reason"]
    await fed.cordon("ams", is_cordoned=False)
    assert (await fed.wait(job["id"], 10))["phase"] == "succeeded"
    with pytest.raises(NotFound):
        await fed.cordon("osl")


async def test_a_site_is_asked_by_its_owner_whoever_was_asked(federation, fed):
    async with federation.broker() as another, Client(another.url, patience_s=5.0) as other:
        await fed.put("sites", "ams", federation.site("ams"))
        assert all(check["is_ok"] for check in (await fed.test("ams"))["checks"])
        federation.engines["ams"].failing = frozenset({Layer.STORAGE})
        for client in (fed, other):
            checks = (await client.test("ams"))["checks"]
            assert [check["layer"] for check in checks if not check["is_ok"]] == ["storage"]
        with pytest.raises(NotFound):
            await other.test("osl")


async def test_a_site_with_jobs_is_neither_removed_nor_exchanged(fed, federation, phase_of):
    federation.behaviour = ENDLESS
    await fed.put("sites", "ams", federation.site("ams"))
    job = await fed.submit({"name": "hello", "command": ["true"]})
    await phase_of(job["id"], "running")
    with pytest.raises(InConflict, match=job["id"]):
        await fed.delete("sites", "ams")
    with pytest.raises(InConflict, match=job["id"]):
        await fed.put("sites", "ams", {**federation.site("ams"), "storage": {"url": "file:///elsewhere"}})
    await fed.cancel(job["id"])
    await fed.wait(job["id"], 10)
    await fed.delete("sites", "ams")
    assert (await fed.list("sites"))["items"] == []


class Crossing(MemoryServer):
    """A store in which a job turns out to have been placed at ams just before ams is cordoned."""

    def transact(self, changes, fence):
        puts = [operation for change in changes for operation in change if isinstance(operation, Put)]
        if any(put.key == KEYS.of(kinds.SITES, "ams") and b"cordoned" in put.value for put in puts):
            wish = Wish("j1", "hello", "default", 0.0, "ana", JobSpec("default", ("true",)))
            state = fold(JobState("j1"), [Placed(0.0, "ams", "cpu"), Staged(0.0)])
            records = {KEYS.of(kinds.WISHES, "j1"): wish, KEYS.of(kinds.STATES, "j1"): state}
            super().transact([[Put(key, encode(value), None) for key, value in records.items()]], None)
        return super().transact(changes, fence)


async def test_a_job_that_is_placed_while_its_site_is_being_removed_keeps_it(federation):
    federation.behaviour, federation.server = ENDLESS, Crossing(SystemClock())
    async with federation.broker() as broker, Client(broker.url, patience_s=2.0) as fed:
        await fed.put("sites", "ams", federation.site("ams"))
        with pytest.raises(InConflict, match="j1"):
            await fed.delete("sites", "ams")
        assert (await fed.get("sites", "ams"))["admission"] == "open"


async def test_a_job_that_is_placed_while_its_site_is_moved_keeps_it(federation):
    federation.behaviour, federation.server = ENDLESS, Crossing(SystemClock())
    async with federation.broker() as broker, Client(broker.url, patience_s=2.0) as fed:
        site = await fed.put("sites", "ams", federation.site("ams"))
        with pytest.raises(InConflict, match="j1"):
            await fed.put("sites", "ams", {**federation.site("ams"), "storage": {"url": "file:///elsewhere"}})
        now = await fed.get("sites", "ams")
        assert (now["admission"], now["storage"]) == ("open", site["storage"])


@pytest.mark.parametrize("is_cordoned", [False, True])
async def test_a_site_that_is_moved_takes_jobs_as_before(fed, federation, is_cordoned, tmp_path):
    await fed.put("sites", "ams", federation.site("ams"))
    await fed.cordon("ams", is_cordoned)
    before = await fed.etag("sites", "ams")
    moved = {**federation.site("ams"), "storage": {"url": f"file://{tmp_path}"}}
    site = await fed.put("sites", "ams", moved, etag=before)
    assert (site["admission"], site["storage"]["url"]) == ("cordoned" if is_cordoned else "open", f"file://{tmp_path}")
    with pytest.raises(Outdated):
        await fed.put("sites", "ams", federation.site("ams"), etag=before)
    assert (await fed.get("sites", "ams"))["admission"] == site["admission"]


async def test_a_delete_whose_answer_was_lost_is_no_error(fed, federation, monkeypatch):
    await fed.put("sites", "ams", federation.site("ams"))
    real = check_answer

    async def lost(response):
        monkeypatch.setattr("broker.client.check_answer", real)
        await real(response)
        raise ClientConnectionError("it broke off")

    monkeypatch.setattr("broker.client.check_answer", lost)
    await fed.delete("sites", "ams")
    with pytest.raises(NotFound):
        await fed.delete("sites", "ams")


class Taking(MemoryServer):
    """A store in which a job that reads corpus turns out to have been placed just before corpus is removed."""

    def transact(self, changes, fence):
        keys = [operation.key for change in changes for operation in change if isinstance(operation, Delete)]
        if KEYS.dataset(CORPUS) in keys:
            wish = Wish("j1", "reads", "default", 0.0, "ana", JobSpec("default", ("true",), inputs=(CORPUS,)))
            state = fold(JobState("j1"), [Placed(0.0, "ams", "cpu"), Staged(0.0)])
            records = {KEYS.of(kinds.WISHES, "j1"): wish, KEYS.of(kinds.STATES, "j1"): state}
            super().transact([[Put(key, encode(value), None) for key, value in records.items()]], None)
        return super().transact(changes, fence)


async def test_a_job_that_is_placed_while_its_dataset_is_being_removed_keeps_it(federation):
    federation.behaviour, federation.server = ENDLESS, Taking(SystemClock())
    async with federation.broker() as broker, Client(broker.url, patience_s=2.0) as fed:
        await fed.put("sites", "ams", federation.site("ams"))
        await fed.put("datasets", "corpus", a_dataset("corpus", "ams", size_bytes=1, checksum="sha256:" + "a" * 64))
        with pytest.raises(InConflict, match="j1"):
            await fed.delete("datasets", "corpus")
        assert (await fed.get("datasets", "corpus"))["sites"] == ["ams"]


async def test_a_site_from_which_something_is_brought_is_not_removed(federation):
    async with federation.broker() as broker, Client(broker.url, patience_s=2.0) as fed:
        await fed.put("sites", "ams", federation.site("ams"))
        booking = Booking(CORPUS, "ams", "far", (), 1.0, 1.0, 0.0)
        await broker.context.ledger.commit([[Save(KEYS.booking(CORPUS, "far"), booking, 0)]])
        with pytest.raises(InConflict, match="default/corpus@1 to far"):
            await fed.delete("sites", "ams")


@pytest.mark.usefixtures("two_sites")
async def test_a_site_that_links_lead_to_is_not_removed(fed):
    await fed.put("links", "ams:fra", LINK)
    with pytest.raises(InConflict, match="links ams:fra"):
        await fed.delete("sites", "fra")
    await fed.delete("links", "ams:fra")
    await fed.delete("sites", "fra")


@pytest.mark.usefixtures("two_sites")
async def test_a_dataset_that_a_job_waits_for_is_not_removed_nor_its_last_site(fed):
    await fed.put("datasets", "corpus", a_dataset("corpus", "ams"))
    reads = {"name": "reads", "command": ["true"], "inputs": [{"dataset": "corpus"}], "resources": {"cpus": 1000.0}}
    job = await fed.submit(reads)
    for kind, name in (("datasets", "corpus"), ("sites", "ams")):
        with pytest.raises(InConflict, match=job["id"]):
            await fed.delete(kind, name)
    await fed.cancel(job["id"])
    await fed.wait(job["id"], 10)
    await fed.delete("datasets", "corpus")
    assert (await fed.list("datasets"))["items"] == []


@pytest.mark.usefixtures("two_sites")
async def test_a_version_never_changes_but_gains_replicas(fed):
    await fed.put("datasets", "corpus", a_dataset("corpus", "ams", size_bytes=10))
    await fed.put("datasets", "corpus", a_dataset("corpus", "fra"))
    assert (await fed.get("datasets", "corpus"))["sites"] == ["ams", "fra"]
    with pytest.raises(InConflict, match="size_bytes"):
        await fed.put("datasets", "corpus", a_dataset("corpus", "ams", size_bytes=11))


async def test_a_dataset_stays_in_its_regions_which_may_be_changed(fed, federation):
    for name, region in (("ams", "eu-west"), ("fra", "eu-central"), ("ash", "us-east")):
        await fed.put("sites", name, federation.site(name, region=region))
    await fed.put("datasets", "corpus", a_dataset("corpus", "ams", regions=["eu-west", "eu-central"]))
    for _ in range(2):
        with pytest.raises(Invalid, match="ash is in us-east: default/corpus@1 may only be brought to eu-west or eu-central"):
            await fed.put("datasets", "corpus", a_dataset("corpus", "ash"))
        await fed.put("datasets", "corpus", a_dataset("corpus", "fra"))
    assert (await fed.get("datasets", "corpus"))["sites"] == ["ams", "fra"]
    await fed.put("datasets", "corpus", a_dataset("corpus", "ash", regions=[]))
    assert (await fed.get("datasets", "corpus"))["sites"] == ["ams", "ash", "fra"]
    narrow = await fed.put("datasets", "corpus", a_dataset("corpus", "ash", regions=["eu-west"]))
    assert (narrow["regions"], narrow["sites"]) == (["eu-west"], ["ams", "ash", "fra"])


@pytest.mark.usefixtures("two_sites")
async def test_inputs_are_pinned_to_the_newest_version_of_the_tenant_or_of_all(fed):
    await fed.put("tenants", "vision", {"name": "vision"})
    for version in ("1", "2"):
        await fed.put("datasets", f"corpus@{version}", a_dataset("corpus", "ams", version=version))

    async def pinned(tenant, **wanted):
        body = {"name": "reads", "tenant": tenant, "command": ["true"], "inputs": [{"dataset": "corpus", **wanted}]}
        return (await fed.job((await fed.submit(body))["id"]))["spec"]["inputs"][0]["dataset"]

    assert await pinned("vision") == "default/corpus@2"
    assert await pinned("vision", version="1") == "default/corpus@1"
    await fed.put("datasets", "corpus", a_dataset("corpus", "fra", tenant="vision"))
    assert await pinned("vision") == "vision/corpus@1"


async def test_a_tenant_with_jobs_is_not_removed(fed):
    await fed.put("tenants", "vision", {"name": "vision"})
    await fed.submit({"name": "hello", "tenant": "vision", "command": ["true"]})
    with pytest.raises(InConflict, match="belong to it"):
        await fed.delete("tenants", "vision")
