"""Jobs over HTTP, on a whole broker with twins below it."""

import asyncio

import pytest

from adapters.twin import Behaviour
from broker.client import Client, TimedOut
from broker.errors import InConflict, Invalid, NotFound, TooMany, Unavailable

ENDLESS = Behaviour(seconds=10_000.0)
GONE_NOWHERE = {"resources": {"cpus": 1000.0}}


def a_job(name="hello", **more):
    return {"name": name, "command": ["true"], **more}


async def test_a_job_runs_where_there_is_room(fed, federation):
    await fed.put("sites", "ams", federation.site("ams"))
    job = await fed.submit(a_job())
    assert (job["phase"], job["site"], job["attempt"], job["warnings"]) == ("pending", None, 0, [])
    done = await fed.wait(job["id"], 10)
    assert (done["phase"], done["site"], done["attempt"], done["exit_code"]) == ("succeeded", "ams", 1, 0)
    assert done["wait_s"] >= 0
    assert done["run_s"] >= 0
    assert done["spec"]["command"] == ["true"]


async def test_a_failed_job_says_how_its_program_ended(fed, federation):
    federation.behaviour = Behaviour(exit_code=3)
    await fed.put("sites", "ams", federation.site("ams"))
    done = await fed.wait((await fed.submit(a_job()))["id"], 10)
    assert (done["phase"], done["exit_code"], done["attempts"][0]["ending"]) == ("failed", 3, "program-failed")
    assert done["reason"]


async def test_many_jobs_are_made_by_one_request(fed):
    answer = await fed.submit([a_job(f"n{number}") for number in range(50)])
    assert [item["name"] for item in answer["items"]] == [f"n{number}" for number in range(50)]
    assert answer["next"] is None
    assert [item["name"] for item in (await fed.jobs())["items"]] == [f"n{number}" for number in reversed(range(50))]


async def test_the_same_key_and_body_give_the_same_job_again(fed):
    first, again = [await fed.submit(a_job(), key="k") for _ in range(2)]
    assert first["id"] == again["id"]
    with pytest.raises(InConflict, match="another body"):
        await fed.submit(a_job("other"), key="k")
    assert len((await fed.jobs())["items"]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x"}, "command"),
        (a_job(colour="red"), "colour"),
        (a_job(tasks="two"), "tasks"),
        (a_job(resources={"cpus": -1}), "resources.cpus"),
        (a_job(tenant="nobody"), "tenant"),
        (a_job(inputs=[{"dataset": "corpus"}]), "inputs.0.dataset"),
        ({"jobs": [a_job(), a_job(tasks=0)]}, "jobs.1.tasks"),
        ({"jobs": [a_job(), a_job(inputs=[{"dataset": "corpus", "version": "9"}])]}, "jobs.1.inputs.0.dataset"),
        ({"jobs": [a_job(tenant="default"), a_job(tenant="other")]}, "jobs.1.tenant"),
        ({"jobs": []}, "jobs"),
        ({"jobs": [a_job(f"n{number}") for number in range(1001)]}, "jobs"),
    ],
)
async def test_a_wrong_body_is_refused_by_its_field_and_nothing_is_stored(fed, body, field):
    with pytest.raises(Invalid) as caught:
        await fed.submit(body)
    assert field in [fault.field for fault in caught.value.faults]
    assert (await fed.jobs())["items"] == []


async def test_a_page_leads_to_the_next_until_all_were_shown(fed):
    made = [item["id"] for item in (await fed.submit([a_job(f"n{number}") for number in range(7)]))["items"]]
    first = await fed.jobs(limit=3)
    second = await fed.jobs(limit=3, cursor=first["next"])
    third = await fed.jobs(limit=3, cursor=second["next"])
    assert third["next"] is None
    assert [item["id"] for page in (first, second, third) for item in page["items"]] == sorted(made, reverse=True)


async def test_a_list_is_narrowed_by_phase_site_and_tenant(fed, federation):
    await fed.put("sites", "ams", federation.site("ams"))
    await fed.put("tenants", "vision", {"name": "vision"})
    done = await fed.wait((await fed.submit(a_job()))["id"], 10)
    waits = await fed.submit(a_job("waits", tenant="vision", **GONE_NOWHERE))

    async def ids(**narrow):
        return [item["id"] for item in (await fed.jobs(**narrow))["items"]]

    assert await ids(phase="succeeded") == await ids(site="ams") == await ids(tenant="default") == [done["id"]]
    assert await ids(phase="pending") == await ids(tenant="vision") == [waits["id"]]
    with pytest.raises(Invalid, match="phase: lost is none of pending"):
        await fed.jobs(phase="lost")


async def test_a_job_is_found_by_a_name_that_only_it_has(fed):
    job = await fed.submit(a_job("alone"))
    assert (await fed.job("alone"))["id"] == job["id"]
    twins = await fed.submit([a_job("twin"), a_job("twin")])
    with pytest.raises(InConflict, match=f"use an id, such as {twins['items'][1]['id']}"):
        await fed.job("twin")
    with pytest.raises(NotFound, match="no job has the id or name nobody"):
        await fed.job("nobody")


async def test_a_waiting_job_is_cancelled_at_once_and_stays_so(fed):
    job = await fed.submit(a_job())
    assert (await fed.cancel(job["id"]))["is_cancel_asked"]
    done = await fed.wait(job["id"], 10)
    assert done["phase"] == "cancelled"
    assert (await fed.cancel(job["id"]))["phase"] == "cancelled"


async def test_a_running_job_is_cancelled_once_its_site_says_so(fed, federation, phase_of):
    federation.behaviour = ENDLESS
    await fed.put("sites", "ams", federation.site("ams"))
    job = await fed.submit(a_job())
    await phase_of(job["id"], "running")
    await fed.cancel(job["id"])
    assert (await fed.wait(job["id"], 10))["phase"] == "cancelled"


async def test_a_job_that_no_site_can_ever_run_is_taken_with_a_warning(fed, federation):
    await fed.put("sites", "ams", federation.site("ams", cpus=4.0))
    job = await fed.submit(a_job(**GONE_NOWHERE))
    assert len(job["warnings"]) == 1
    assert "ams" in job["warnings"][0]
    many = await fed.submit([a_job(f"n{number}", **GONE_NOWHERE) for number in range(5)])
    assert len(many["warnings"]) == 1


async def test_a_deadline_that_cannot_be_met_is_told_at_submit(fed, federation, phase_of):
    federation.behaviour = ENDLESS
    await fed.put("sites", "ams", federation.site("ams", cpus=1.0))
    calm = await fed.submit(a_job("calm", run_time=3600, deadline=4000))
    assert calm["warnings"] == []
    await phase_of(calm["id"], "running")
    assert (await fed.job(calm["id"]))["spec"]["deadline"] == 4000
    (never,) = (await fed.submit(a_job("never", run_time=3600, deadline=60)))["warnings"]
    assert never == "the deadline, in 1 min, cannot be met: even at ams it takes 1.0 h"
    (late,) = (await fed.submit(a_job("late", run_time=600, deadline=1200)))["warnings"]
    assert late.startswith("the deadline, in 20 min, cannot be met as things are: the soonest end is in ")


async def test_tenants_take_turns_by_weight(fed, federation, phase_of):
    federation.behaviour = ENDLESS
    await fed.put("tenants", "red", {"name": "red", "weight": 3.0})
    await fed.put("tenants", "blue", {"name": "blue"})
    first = [await fed.submit([a_job(f"{name}{n}", tenant=name) for n in range(9)]) for name in ("red", "blue")]
    assert all(len(answer["items"]) == 9 for answer in first)
    await fed.put("sites", "ams", federation.site("ams", cpus=8.0))

    async def running(tenant):
        return len((await fed.list("jobs", tenant=tenant, phase="running"))["items"])

    async with asyncio.timeout(10):
        while await running("red") + await running("blue") < 8:
            await asyncio.sleep(0.02)
    assert (await running("red"), await running("blue")) == (6, 2)


async def test_why_names_what_stands_in_the_way_and_what_would_help(fed, federation, phase_of):
    federation.behaviour = ENDLESS
    await fed.put("sites", "ams", federation.site("ams", cpus=1.0))
    await phase_of((await fed.submit(a_job("first")))["id"], "running")
    told = await fed.why((await fed.submit(a_job("second")))["id"])
    assert (told["site"], told["phase"]) == (None, "pending")
    assert "1 cpus" in told["reason"]
    assert told["help"] == ["1 cpus more at ams"]
    assert [verdict["site"] for verdict in told["verdicts"]] == ["ams"]
    first = await fed.why("first")
    assert first["attempts"][0]["lines"][0].startswith("ams: ")


async def test_why_tells_who_is_ahead_when_it_should_start_and_what_would_help_most(fed, federation, phase_of, until):
    federation.behaviour = ENDLESS
    await fed.put("sites", "ams", federation.site("ams", cpus=1.0))
    await fed.put("sites", "fra", federation.site("fra", region="eu-central"))
    await phase_of((await fed.submit(a_job("first", run_time=3600, sites={"require": {"site": "ams"}})))["id"], "running")
    waits = a_job(run_time=7200, sites={"require": {"site": "ams"}})
    await fed.submit([{**waits, "name": name} for name in ("second", "third")])
    told = await until(lambda: fed.why("third"), lambda told: told["standing"] and told["start"])
    assert (told["standing"]["place"], told["standing"]["tenants"]) == (1, 1)
    assert told["start"]["earliest_hours"] < 1 < told["start"]["latest_hours"]
    assert told["binding"] == "short of 1 cpus"
    assert told["remedies"][0]["text"].startswith("any site: it would start now at fra")
    assert (await fed.plan(a_job("fourth", run_time=60)))["site"] == "fra"


async def test_a_plan_tells_where_a_job_would_go_and_stores_nothing(fed, federation, until):
    await fed.put("sites", "ams", federation.site("ams"))
    await fed.put("sites", "fra", federation.site("fra", region="eu-central"))
    await until(fed.health, lambda health: all(site["takes_jobs"] for site in health["sites"]))
    told = await fed.plan(a_job(sites={"require": {"region": "eu-central"}}))
    assert told["site"] == "fra"
    assert [(verdict["site"], bool(verdict["objections"])) for verdict in told["verdicts"]] == [("fra", False), ("ams", True)]
    assert (await fed.jobs())["items"] == []


async def test_output_comes_from_the_site(fed, federation, phase_of):
    federation.behaviour = Behaviour(seconds=10_000.0, output=b"hello\n")
    await fed.put("sites", "ams", federation.site("ams"))
    job = await fed.submit(a_job())
    await phase_of(job["id"], "running")
    assert b"".join([chunk async for chunk in fed.logs(job["id"])]) == b"hello\n"
    assert b"".join([chunk async for chunk in fed.logs(job["id"], offset=2)]) == b"llo\n"
    with pytest.raises(Invalid, match="task"):
        assert [chunk async for chunk in fed.logs(job["id"], task=1)] == []


async def test_output_that_is_followed_is_waited_for_until_the_job_has_a_place(fed, federation):
    federation.behaviour = Behaviour(output=b"hello\n")
    job = await fed.submit(a_job())

    async def followed():
        return b"".join([chunk async for chunk in fed.logs(job["id"], follow=True)])

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(followed())
        assert (await fed.job(job["id"]))["attempts"] == []
        await fed.put("sites", "ams", federation.site("ams"))
        assert (await fed.wait(job["id"], 10))["phase"] == "succeeded"
    assert following.result() == b"hello\n"


async def test_any_endpoint_passes_on_what_only_the_owner_can_answer(fed, federation, phase_of, until):
    federation.behaviour = Behaviour(seconds=10_000.0, output=b"hello\n")
    await fed.put("sites", "ams", federation.site("ams"))
    job = await fed.submit(a_job())
    await phase_of(job["id"], "running")
    async with federation.broker() as other, Client(other.url, patience_s=2.0) as elsewhere:
        for endpoint in (fed, elsewhere):
            await until(lambda endpoint=endpoint: all_of(endpoint, job["id"]), lambda output: output == b"hello\n")


async def all_of(fed, job):
    try:
        return b"".join([chunk async for chunk in fed.logs(job)])
    except Unavailable:
        return b""


async def test_what_one_endpoint_took_another_shows_at_once(fed, federation):
    async with federation.broker() as other, Client(other.url) as elsewhere:
        for number in range(20):
            job = await fed.submit(a_job(f"n{number}"))
            assert (await elsewhere.job(job["id"]))["name"] == f"n{number}"


async def test_a_tenant_over_its_limit_is_told_to_come_later(fed):
    await fed.put("tenants", "default", {"name": "default", "max_pending": 2})
    await fed.submit([a_job("one"), a_job("two")])
    with pytest.raises(TooMany, match="2 pending jobs and may have 2"):
        await fed.submit(a_job("three"))


async def test_waiting_ends_when_time_is_up(fed):
    job = await fed.submit(a_job())
    with pytest.raises(TimedOut, match="still pending"):
        await fed.wait(job["id"], timeout_s=0.05)


async def test_outputs_of_a_job_without_any_are_not_found(fed):
    job = await fed.submit(a_job())
    with pytest.raises(NotFound, match="its spec names none"):
        assert [chunk async for chunk in fed.outputs(job["id"])] == []
