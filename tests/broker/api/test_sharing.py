"""Quotas and who gives way, through the whole broker."""

import pytest

from adapters.twin import Behaviour
from broker.errors import InConflict, Invalid


def a_job(name, **more):
    return {"name": name, "command": ["true"], "resources": {"cpus": 1, "memory_gib": 0.1}, **more}


ENDLESS = Behaviour(seconds=10_000.0)
HOUR = {"run_time": 3600}


@pytest.fixture
def running(fed, until):
    """The names of a tenant's jobs that run, once there are so many."""

    async def wait(tenant, count):
        listed = await until(lambda: fed.list("jobs", tenant=tenant, phase="running"), lambda found: len(found["items"]) == count)
        return sorted(job["name"] for job in listed["items"])

    return wait


async def test_best_effort_gives_way_and_its_budget_of_attempts_stays_whole(fed, federation, phase_of):
    federation.behaviour = ENDLESS
    await fed.put("sites", "ams", federation.site("ams", cpus=1.0))
    idle = await fed.submit(a_job("idle", preemptible=True, retry={"attempts": 1}, **HOUR))
    await phase_of(idle["id"], "running")
    firm = await fed.submit(a_job("firm", **HOUR))
    await phase_of(firm["id"], "running")
    gone = await phase_of(idle["id"], "pending")
    (attempt,) = gone["attempts"]
    assert attempt["ending"] == "withdrawn"
    assert "gives way to a job of tenant default that may not be preempted" in gone["reason"]
    await fed.cancel(firm["id"])
    again = await phase_of(idle["id"], "running")
    assert [each["number"] for each in again["attempts"]] == [1, 2]


async def test_nothing_gives_way_at_a_site_that_does_not_allow_it(fed, federation, phase_of, until):
    federation.behaviour = ENDLESS
    await fed.put("sites", "ams", federation.site("ams", cpus=1.0, allows_preemption=False))
    idle = await fed.submit(a_job("idle", preemptible=True, **HOUR))
    await phase_of(idle["id"], "running")
    firm = await fed.submit(a_job("firm", **HOUR))
    await until(lambda: fed.why(firm["id"]), lambda told: "waits for ams" in told["reason"])
    assert (await fed.job(idle["id"]))["phase"] == "running"


async def test_a_quota_bounds_a_tenant_wherever_it_runs(fed, federation, running):
    federation.behaviour = ENDLESS
    await fed.put("sites", "ams", federation.site("ams", cpus=4.0))
    await fed.put("tenants", "red", {"name": "red", "quotas": [{"cpus": 3}, {"site": "ams", "cpus": 2}]})
    await fed.put("sites", "fra", federation.site("fra", cpus=4.0))
    await fed.submit([a_job(f"red{number}", tenant="red", **HOUR) for number in range(6)])
    await running("red", 3)
    sites = [job["site"] for job in (await fed.list("jobs", tenant="red", phase="running"))["items"]]
    assert sites.count("ams") <= 2
    assert len((await fed.list("jobs", tenant="red", phase="pending"))["items"]) == 3


async def test_what_is_idle_is_lent_and_given_back(fed, federation, running):
    federation.behaviour = ENDLESS
    for name in ("red", "blue"):
        await fed.put("tenants", name, {"name": name, "quotas": [{"cpus": 4, "borrow": "all"}]})
    await fed.put("sites", "ams", federation.site("ams", cpus=8.0))
    await fed.submit([a_job(f"red{number}", tenant="red", preemptible=True, **HOUR) for number in range(10)])
    assert len(await running("red", 8)) == 8
    await fed.submit([a_job(f"blue{number}", tenant="blue", preemptible=True, **HOUR) for number in range(10)])
    assert len(await running("blue", 4)) == 4
    assert len(await running("red", 4)) == 4


async def test_why_and_the_passed_over_tell_of_the_quota(fed, federation, running, until):
    federation.behaviour = ENDLESS
    await fed.put("tenants", "red", {"name": "red", "quotas": [{"cpus": 1}]})
    await fed.put("sites", "ams", federation.site("ams", cpus=4.0))
    first, second = (await fed.submit([a_job(name, tenant="red", **HOUR) for name in ("first", "second")]))["items"]
    await running("red", 1)
    waiting = [job["id"] for job in (first, second) if (await fed.job(job["id"]))["phase"] == "pending"]
    told = await fed.why(waiting[0])
    assert (told["site"], told["reason"]) == (None, "tenant red holds 1 of the 1 cpus that it may")
    assert told["help"] == ["a larger quota of cpus for red"]


async def test_a_quota_of_a_site_that_is_not_there_is_refused(fed):
    with pytest.raises(Invalid, match="no site is named nowhere"):
        await fed.put("tenants", "red", {"name": "red", "quotas": [{"site": "nowhere", "cpus": 1}]})


async def test_a_site_that_a_quota_names_is_not_removed(fed, federation):
    await fed.put("sites", "ams", federation.site("ams"))
    await fed.put("tenants", "red", {"name": "red", "quotas": [{"site": "ams", "cpus": 1}]})
    with pytest.raises(InConflict, match="named by quotas of red"):
        await fed.delete("sites", "ams")
    await fed.put("tenants", "red", {"name": "red"})
    await fed.delete("sites", "ams")
