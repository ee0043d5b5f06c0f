"""The broker of before issue 5 (commit 337b767, whose code is beside this file) gives way to today's, and works beside it."""

import asyncio
import contextlib
import os
import signal
import tarfile
import time
from collections import Counter
from pathlib import Path

import pytest

from adapters.process.adapter import shut_down
from adapters.process.settings import state_dir_of
from broker.client import Client
from broker.members import preferred
from broker.store.base import StoreError
from broker.store.embedded import find_binary
from tests.engines.etcd.cluster import built_binary, etcd_cluster
from tests.faults.parts import BrokerProcess, a_process_site

OLD = Path(__file__).with_name("337b767.tar.xz")
SITES = ("ams", "fra", "bru", "osl")
SLOW = "{observe_interval_s: 2.0, probe_interval_s: 0.5}"
"""What a site took is known as queued for a while."""
LARGE_BYTES = 2**20 * 4
SLOW_GBPS = 0.0005
"""So the large dataset takes a minute."""
WITHIN_S = 90.0
EVERY_PHASE = {"pending", "staging", "placed", "queued", "running", "collecting", "succeeded", "failed", "cancelled"}


@pytest.fixture
def old(tmp_path):
    """The tree of the older broker."""
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


@pytest.fixture
def etcd(tmp_path):
    """The endpoint of a store for both."""
    try:
        binary = built_binary() or find_binary()
    except StoreError as error:
        pytest.skip(f"{error}")
    with etcd_cluster(tmp_path, binary) as cluster:
        yield cluster.members[0].endpoint


@pytest.fixture
async def started():
    """Starts brokers; all of them, and the sites' engines, are ended."""
    brokers, folders = [], []

    def start(folder, *more, **how):
        broker = BrokerProcess(*more, **how)
        broker.start()
        brokers.append(broker)
        folders.append(folder)
        return broker

    yield start
    for broker in brokers:
        broker.kill()
    for folder in set(folders):
        for name in SITES:
            _signal_engine(folder, name, signal.SIGCONT)
            await shut_down(state_dir_of(folder / name))


async def until(ask, is_right):
    """The answer once it is right."""
    deadline = time.monotonic() + WITHIN_S
    while not is_right(answer := await ask()):
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.05)
    return answer


async def leads(fed, number):
    """Once so many members are there, the one that leads."""
    health = await until(fed.health, lambda said: len(said["members"]) == number and said["leader"])
    return health["leader"]


async def one_that_owns(first, start):
    """A broker beside the first, which goes on to lead, that is to own a site: names are drawn, and one in 16 gets none."""
    while True:
        broker = start()
        async with Client(broker.url, patience_s=60) as fed:
            assert await leads(fed, 2) == first
            (other,) = {member["id"] for member in (await fed.health())["members"]} - {first}
            if other in {preferred(site, (first, other)) for site in SITES}:
                return broker
        broker.kill()


async def owned(fed, members):
    """A site that one of those members has come to own."""
    sites = await until(lambda: fed.list("sites"), lambda found: any(site["owner"] in members for site in found["items"]))
    return next(site["name"] for site in sites["items"] if site["owner"] in members)


async def registered(fed, folder):
    """Sites, a slow link to fra, and data at ams, declared to whoever it is."""
    for name in SITES:
        await fed.put("sites", name, a_process_site(name, folder / name))
    await fed.put("links", "ams:fra", {"from": "ams", "to": "fra", "bandwidth_gbps": SLOW_GBPS})
    (folder / "ams/large").mkdir()
    (folder / "ams/large/bytes").write_bytes(bytes(LARGE_BYTES))
    await fed.put("datasets", "large", {"name": "large", "replicas": [{"site": "ams", "path": "large"}]})
    await fed.put("tenants", "red", {"name": "red", "max_pending": 7})
    for name in SITES:
        await until(lambda name=name: fed.get("sites", name), lambda site: site["health"] == "up")
    await until(lambda: fed.get("datasets", "large"), lambda dataset: dataset["checksum"])


def a_job(name, site, ledger, before="true", **more):
    """Adds a line to the ledger when it has done its work."""
    work = f"{before} && echo {name}-$FED_TASK >> {ledger}"
    return {"name": name, "command": ["sh", "-c", work], "sites": {"require": {"site": [site]}}, **more}


def _signal_engine(folder, site, number):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((state_dir_of(folder / site) / "daemon.pid").read_text()), number)


async def phases(fed):
    """Names of jobs and the phases they are in."""
    return {job["name"]: job["phase"] for job in (await fed.jobs(limit=1000))["items"]}


async def test_a_store_with_jobs_in_every_phase_is_taken_over(tmp_path, old, etcd, started):
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    older = started(tmp_path, etcd, tmp_path / "old.log", tree=old, settings=SLOW)
    async with Client(older.url, patience_s=60) as fed:
        await registered(fed, tmp_path)
        ended = [
            a_job("done", "ams", ledger, "echo words > $FED_OUTPUTS/words/a", outputs=[{"dataset": "words"}]),
            a_job("bad", "ams", ledger, "exit 3"),
            a_job("gone", "ams", ledger, "sleep 600"),
        ]
        jobs = {job["name"]: (await fed.submit(job))["id"] for job in ended}
        await fed.cancel(jobs["gone"])
        for job in jobs.values():
            await fed.wait(job, WITHIN_S)
        waits = f"while ! [ -e {gate} ]; do sleep 0.1; done"
        for job in (
            a_job("runs", "ams", ledger, waits),
            a_job("gang", "ams", ledger, waits, tasks=3),
            a_job("waits", "ams", ledger, resources={"cpus": 64}),
            a_job("stages", "fra", ledger, "[ -s $FED_INPUTS/large/bytes ]", inputs=[{"dataset": "large"}]),
        ):
            jobs[job["name"]] = (await fed.submit(job))["id"]
        busy = {"runs": "running", "gang": "running", "stages": "staging"}
        await until(lambda: phases(fed), lambda found: busy.items() <= found.items())
        _signal_engine(tmp_path, "bru", signal.SIGSTOP)
        sums_up = a_job("sums-up", "ams", ledger, "truncate -s 16G $FED_OUTPUTS/zeros/z", outputs=[{"dataset": "zeros"}])
        jobs["sums-up"] = (await fed.submit(sums_up))["id"]
        jobs["placed"] = (await fed.submit(a_job("placed", "bru", ledger)))["id"]
        number = 0
        while set((await phases(fed)).values()) != EVERY_PHASE:
            assert number < 100, await phases(fed)
            name = f"quick-{number}"
            jobs[name] = (await fed.submit(a_job(name, "osl", ledger, "sleep 1")))["id"]
            number += 1
            await asyncio.sleep(0.2)
        await fed.cordon("osl")
        before = {job["id"]: job for job in (await fed.jobs(limit=1000))["items"]}
        declared = {kind: (await fed.list(kind))["items"] for kind in ("sites", "links", "datasets", "tenants")}
    older.kill()
    _signal_engine(tmp_path, "bru", signal.SIGCONT)
    newer = started(tmp_path, etcd, tmp_path / "new.log")
    async with Client(newer.url, patience_s=60) as fed:
        for kind, items in declared.items():
            now = {_key(item): item for item in (await fed.list(kind))["items"]}
            for item in items:
                same = ("engine", "pools", "storage", "admission", "bandwidth_gbps", "max_pending", "checksum", "size_bytes")
                assert {name: now[_key(item)][name] for name in same if name in item} == {n: item[n] for n in same if n in item}
        for name in ("done", "bad", "gone"):
            job = await fed.job(jobs[name])
            assert {field: job[field] for field in before[job["id"]]} == before[job["id"]]
        gate.touch()
        unfinished = {name: job for name, job in jobs.items() if name not in ("waits", "bad", "gone")}
        for name, job in unfinished.items():
            assert (await fed.wait(job, WITHIN_S))["phase"] == "succeeded", name
        assert (await fed.job(jobs["waits"]))["phase"] == "pending"
    ran = Counter(ledger.read_text().split())
    assert ran == Counter([f"{name}-0" for name in unfinished] + ["gang-1", "gang-2"])
    assert "Traceback" not in (tmp_path / "new.log").read_text()


def _key(item):
    return item.get("version"), item.get("tenant"), item["name"]


async def test_an_older_broker_beside_it_harms_nothing_that_it_does_not_know(tmp_path, old, etcd, started):
    ledger = tmp_path / "ledger"
    older = started(tmp_path, etcd, tmp_path / "old.log", tree=old)
    async with Client(older.url, patience_s=60) as fed:
        await registered(fed, tmp_path)
        first = await leads(fed, 1)
    newer = await one_that_owns(first, lambda: started(tmp_path, etcd, tmp_path / "new.log"))
    (tmp_path / "code").mkdir()
    (tmp_path / "code/hello.txt").write_text("hello")
    async with Client(newer.url, patience_s=60) as fed:
        site = await owned(fed, {member["id"] for member in (await fed.health())["members"]} - {first})
        works = await fed.upload_workdir(tmp_path / "code", site)
        plain = [(await fed.submit(a_job(f"plain-{site}", site, ledger)))["id"] for site in SITES]
        labelled = [(await fed.submit(a_job(f"labelled-{site}", site, ledger, labels={"team": "red"})))["id"] for site in SITES]
        in_dir = (await fed.submit(a_job("in-dir", site, ledger, "grep -q hello hello.txt", workdir=works)))["id"]
        gone = (await fed.submit(a_job("gone", "ams", ledger, labels={"team": "blue"})))["id"]
        for job in plain:
            assert (await fed.wait(job, WITHIN_S))["phase"] == "succeeded"
        await fed.cancel(gone)
        assert {(await fed.job(job))["phase"] for job in [*labelled, in_dir]} == {"pending"}  # the leader leaves them alone
    async with Client(older.url) as fed:
        assert {job["name"] for job in (await fed.jobs(limit=1000))["items"]} == {f"plain-{site}" for site in SITES}
    older.kill()
    async with Client(newer.url, patience_s=60) as fed:
        assert await leads(fed, 1) != first
        for job in [*labelled, in_dir]:
            assert (await fed.wait(job, WITHIN_S))["phase"] == "succeeded"
        assert (await fed.wait(gone, WITHIN_S))["phase"] == "cancelled"
        assert {job["id"] for job in (await fed.jobs(label="team=red"))["items"]} == set(labelled)
    ran = Counter(ledger.read_text().split())
    assert ran == Counter([f"{kind}-{site}-0" for kind in ("plain", "labelled") for site in SITES] + ["in-dir-0"])
    for log in ("old.log", "new.log"):
        assert "Traceback" not in (tmp_path / log).read_text()
