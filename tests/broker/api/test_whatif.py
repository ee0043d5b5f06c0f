"""What-if questions, through the whole broker."""

import asyncio

import pytest

from adapters.twin import Behaviour
from broker.documents.whatif import WhatIfBody
from broker.errors import Invalid, TooMany, Unavailable
from broker.snapshot import Snapshots
from broker.usage import Usage
from broker.whatif import WhatIfs

ENDLESS = Behaviour(seconds=10_000.0)


def a_job(name, **more):
    return {"name": name, "command": ["true"], "resources": {"cpus": 1, "memory_gib": 0.1}, "run_time": 3600, **more}


@pytest.fixture
async def full(fed, federation, until):
    """One cpu at ams, where one job runs and three wait."""
    federation.behaviour = ENDLESS
    await fed.put("sites", "ams", federation.site("ams", cpus=1.0))
    await fed.submit([a_job(f"j{number}") for number in range(4)])
    await until(lambda: fed.list("jobs", phase="running"), lambda found: len(found["items"]) == 1)


async def test_more_nodes_end_the_queue_sooner_and_nothing_is_stored(fed, full):
    answer = await fed.what_if({"nodes": [{"site": "ams", "pool": "cpu", "more": 3}]})
    before, after = answer["whole"]["before"], answer["whole"]["after"]
    # an hour each: one after the other, or side by side
    assert (before["jobs"], round(before["last_end_h"]), round(after["last_end_h"])) == (4, 4, 1)
    assert [each["name"] for each in answer["tenants"]] == ["default"]
    assert (await fed.get("sites", "ams"))["pools"][0]["nodes"] == 1


async def test_losing_the_only_site_leaves_nothing_to_run_on(fed, full):
    answer = await fed.what_if({"lose_sites": ["ams"]})
    # neither the three that wait nor the one that runs have anywhere to go
    assert (answer["whole"]["before"]["never_end"], answer["whole"]["after"]["never_end"]) == (0, 4)
    assert [(each["before"], each["after"]) for each in answer["stuck"]] == [(0, 4)]
    assert "ams: is lost" in answer["stuck"][0]["reason"]
    assert (answer["moved"], [each["then"] for each in answer["moved_jobs"]]) == (1, [None])


async def test_what_runs_at_a_lost_site_begins_again_elsewhere(fed, full, federation, until):
    await fed.put("sites", "fra", federation.site("fra", cpus=8.0))
    await until(lambda: fed.list("jobs", phase="running"), lambda found: len(found["items"]) == 4)
    answer = await fed.what_if({"lose_sites": ["ams"]})
    before, after = answer["whole"]["before"], answer["whole"]["after"]
    # all four run for an hour; without ams the one there begins again, at the next plan
    assert (before["jobs"], before["never_end"], round(before["last_end_h"], 1)) == (4, 0, 1.0)
    assert (answer["moved"], after["never_end"], round(after["last_end_h"], 1)) == (1, 0, 1.0)
    (moved,) = answer["moved_jobs"]
    assert (moved["tenant"], moved["site"], moved["then"]) == ("default", "ams", "fra")
    jobs_at = {each["site"]: (each["before"]["jobs"], each["after"]["jobs"]) for each in answer["sites"]}
    assert jobs_at == {"ams": (1, 0), "fra": (3, 4)}
    assert answer["notes"] == ["0 jobs that wait and 4 jobs at sites; run times as expected, and no new jobs come"]


async def test_one_question_at_a_time(fed, full):
    questions = [fed.what_if({"lose_sites": ["ams"]}) for _ in range(3)]
    answers = await asyncio.gather(*questions, return_exceptions=True)
    assert any(isinstance(each, TooMany) for each in answers)
    assert any(isinstance(each, dict) for each in answers)


async def test_an_answer_that_takes_too_long_is_given_up_and_the_next_question_is_heard(fed, full, broker):
    context, body = broker.context, WhatIfBody(lose_sites=["ams"])
    snapshots, whatifs = Snapshots(context.world, Usage(context.world, 24.0)), WhatIfs(most_s=0.0)
    for _ in range(2):
        with pytest.raises(Unavailable, match="took more than 0 s"):
            await whatifs.ask(snapshots, body, context.clock.now())


@pytest.mark.parametrize(
    ("body", "cure"),
    [
        ({}, "nothing would change"),
        ({"lose_sites": ["amss"]}, "did you mean ams"),
        ({"colour": 1}, "colour"),
        ({"weights": {"default": 0}}, "weights.default"),
        ({"prices": [{"site": "ams"}]}, "name cpu_hour or gpu_hour"),
        ({"links": [{"from": "ams", "to": "fra"}]}, "name bandwidth_gbps or price_per_gib"),
    ],
)
async def test_a_bad_question_is_told(fed, full, body, cure):
    with pytest.raises(Invalid, match=cure):
        await fed.what_if(body)
