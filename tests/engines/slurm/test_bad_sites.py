"""A broker before a real Slurm that is asked wrongly: what its users and admins are told, and what becomes of their jobs."""

from __future__ import annotations

import asyncio
import json

import pytest

from broker.client import Client
from broker.store.base import StoreError
from broker.store.embedded import find_binary
from tests.contract.slurm_kind import SlurmRestKind
from tests.engines.slurm.cluster import missing
from tests.running import Up

pytestmark = pytest.mark.engines
POOL = {"name": "cpu", "nodes": 2, "per_node": {"cpus": 4, "memory_gib": 8}}
BOASTFUL = {"name": "gpu", "nodes": 1, "per_node": {"cpus": 4, "memory_gib": 8, "gpus": {"a100": 8}}}
"""The nodes of this partition have two."""
SHORT_S = 1
SETTLE_S = 100.0
SETTINGS = {"probe_timeout_s": 8.0, "probe_interval_s": 1.0, "down_after": 1}

TOLD = {
    "partition": ("scheduler: ", "Slurm has no partition nowhere: set pools.<pool>.partition to one that sinfo lists"),
    "expired": ("login: ", "the token expired at 20", "renew it with `scontrol token`"),
    "forged": ("login: ", "does not take our token", "renew it with `scontrol token`"),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if missing():
        pytest.skip(missing())
    return SlurmRestKind(tmp_path_factory.mktemp("slurm")).cluster


@pytest.fixture(scope="module")
def up(tmp_path_factory, cluster):
    """A broker, the site that is well, and the others, all of one cluster."""
    try:
        find_binary()
    except StoreError as error:
        pytest.skip(f"{error}")
    folder = tmp_path_factory.mktemp("bad")
    for part in (folder, *folder.parents[:2]):
        part.chmod(0o755)
    broker = Up(folder, **SETTINGS)
    try:
        broker.start()
        documents = [
            a_site(cluster, folder, "well", cluster.token(), [POOL, BOASTFUL]),
            a_site(cluster, folder, "partition", cluster.token(), [POOL], {"cpu": {"partition": "nowhere"}}),
            a_site(cluster, folder, "expired", cluster.token(SHORT_S), [POOL]),
            a_site(cluster, folder, "forged", f"{cluster.token()[:-8]}AAAAAAAA", [POOL]),
        ]
        said = broker.fed("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, documents)))
        assert (said.code, said.err) == (0, "")
        yield broker
    finally:
        broker.kill()
        cluster.end_jobs("fed")


def a_site(cluster, folder, name, token, pools, places=None):
    (folder / name).mkdir(mode=0o777)
    (folder / f"{name}.token").write_text(token)
    rest = {"url": cluster.url, "user": cluster.user, "token": {"file": str(folder / f"{name}.token")}}
    engine = {"kind": "slurm", "rest": rest, "pools": places or {}}
    return {"kind": "Site", "name": name, "engine": engine, "pools": pools, "storage": {"url": f"file://{folder / name}"}}


def a_job(name, site, **spec):
    return {"name": name, "command": ["true"], "sites": {"require": {"site": site}}, **spec}


def test_what_is_wrong_is_told_and_the_site_that_is_well_goes_on(up):
    health, tests, why, well = asyncio.run(heard(up))
    assert well["phase"] == "succeeded"
    for site, (layer, *words) in TOLD.items():
        assert (health[site]["health"], health[site]["takes_jobs"]) == ("misconfigured", False), health[site]["reason"]
        assert health[site]["reason"].startswith(layer)
        for text in (health[site]["reason"], tests[site], why[site]):
            assert [each for each in words if each not in text] == [], text


async def heard(up):
    async with Client(up.url) as client, asyncio.timeout(SETTLE_S):
        await asyncio.gather(*(client.submit(a_job(site, site)) for site in TOLD))
        done = await client.wait((await client.submit(a_job("well", "well")))["id"])
        while True:
            health = {site["name"]: site for site in (await client.health())["sites"]}
            if not any(site["health"] in ("unknown", "suspect") for site in health.values()):
                break
        tests = {site: (await client.test(site))["checks"][-1]["message"] for site in TOLD}
        why = {site: (await client.why(site))["reason"] for site in TOLD}
        for site in TOLD:
            assert (await client.job(site))["phase"] == "pending"
        return health, tests, why, done


def test_more_gpus_than_any_node_is_said_to_have_is_told_at_once(up):
    up.fed("submit", "-f", "-", stdin=json.dumps(a_job("sixteen", "well", resources={"cpus": 1, "gpus": {"count": 16}})))
    said = up.fed("why", "sixteen").out
    # 16 - 8 that the site says
    assert "no site can run it: well: no GPUs in pool cpu, short of 8 a100 GPUs on each node of pool gpu" in said
    assert "nodes with 8 a100 GPUs more at well" in said


def test_more_gpus_than_any_node_has_where_the_site_boasts_of_more_waits_and_is_told(up):
    up.fed("submit", "-f", "-", stdin=json.dumps(a_job("eight", "well", resources={"cpus": 1, "gpus": {"count": 8}})))
    said = up.fed("why", "eight").out
    # 8 - 2 that the node has
    assert "short of 6 a100 GPUs" in said
    assert up.fed("jobs", "--phase", "pending", "-o", "json").code == 0
