"""A site that will never come back is taken out."""

import json

import pytest

from adapters.twin import Behaviour
from broker.errors import InConflict, Invalid, NotFound
from tests.broker.api.test_jobs import a_job

WHY = "its hall burned down"


@pytest.fixture
async def lost(fed, federation, phase_of):
    """ams, where a job runs, with a dataset and links; it answers no more."""
    federation.behaviour = Behaviour(seconds=10_000.0)
    await fed.put("sites", "ams", federation.site("ams"))
    job = (await fed.submit(a_job("runs", retry={"attempts": 2})))["id"]
    last = (await fed.submit(a_job("last", retry={"attempts": 1})))["id"]
    await phase_of(job, "running")
    await phase_of(last, "running")
    await fed.put("sites", "fra", federation.site("fra"))
    await fed.put("links", "ams:fra", {"from": "ams", "to": "fra", "bandwidth_gbps": 1})
    for name, sites in (("only", ["ams"]), ("both", ["ams", "fra"])):
        await fed.put("datasets", name, {"name": name, "replicas": [{"site": site, "path": name} for site in sites]})
    federation.away.add("ams")
    return job, last


async def test_its_jobs_go_elsewhere_and_nothing_is_left_of_it(fed, lost, phase_of, until):
    again, over = lost
    await until(lambda: fed.get("sites", "ams"), lambda site: not site["takes_jobs"])
    told = await fed.forget("ams", WHY)
    assert told == {"name": "ams", "jobs": 2, "links": ["ams:fra"], "datasets_lost": ["default/only@1"]}
    moved = await phase_of(again, "running")
    assert (moved["site"], [attempt["ending"] for attempt in moved["attempts"]]) == ("fra", ["site-lost", None])
    failed = await fed.job(over)
    assert failed["phase"] == "failed"
    assert WHY in failed["reason"]
    with pytest.raises(NotFound):
        await fed.get("sites", "ams")
    assert not (await fed.list("links"))["items"]
    assert (await fed.get("datasets", "both"))["sites"] == ["fra"]
    assert (await fed.get("datasets", "only"))["sites"] == []
    entries = (await fed.audit(what="forget"))["items"]
    assert sorted(entry["record"].partition("/")[0] for entry in entries) == ["sites", "states", "states"]
    assert json.loads(next(entry for entry in entries if entry["record"] == "sites/ams")["before"])["name"] == "ams"


async def test_a_site_that_answers_is_not_forgotten(fed, federation, until):
    await fed.put("sites", "ams", federation.site("ams"))
    await until(lambda: fed.get("sites", "ams"), lambda site: site["takes_jobs"])
    with pytest.raises(InConflict, match="run twice"):
        await fed.forget("ams", WHY)
    with pytest.raises(Invalid, match="why"):
        await fed.forget("ams", "")
    with pytest.raises(NotFound):
        await fed.forget("nowhere", WHY)
    assert (await fed.get("sites", "ams"))["takes_jobs"]
