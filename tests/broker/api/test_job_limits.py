"""What jobs may cost, where their data may go, who must be where, and what they prefer: through the whole broker."""

import pytest

from adapters.twin import Behaviour

ENDLESS = Behaviour(seconds=10_000.0)
LINK = {"from": "ams", "to": "fra", "bandwidth_gbps": 100.0}


def a_job(name, **more):
    return {"name": name, "command": ["true"], "resources": {"cpus": 1, "memory_gib": 0.1}, "run_time": 3600, **more}


@pytest.fixture
def sites(fed, federation, until):
    """Declares sites, each with fields of its own, and waits until they are up."""

    async def declare(**fields):
        federation.behaviour = ENDLESS
        for name, more in fields.items():
            await fed.put("sites", name, federation.site(name, **more))
        for name in fields:
            await until(lambda name=name: fed.get("sites", name), lambda site: site["health"] == "up")

    return declare


@pytest.fixture
def placed(fed, until):
    """The sites of so many jobs once they run."""

    async def wait(count):
        listed = await until(lambda: fed.list("jobs", phase="running"), lambda found: len(found["items"]) == count)
        return sorted(job["site"] for job in listed["items"])

    return wait


async def test_a_job_that_no_site_runs_for_its_money_waits_and_says_what_it_takes(fed, sites, placed):
    # 1 h of 1 cpu: 1.00 EUR
    await sites(ams={"price": {"cpu_hour": 1.0}})
    dear = await fed.submit(a_job("dear", max_cost=0.5))
    await fed.submit(a_job("fair", max_cost=1.5))
    assert await placed(1) == ["ams"]
    told = await fed.why(dear["id"])
    assert told["verdicts"][0]["text"] == "ams: no, costs 1.00 EUR, more than the 0.50 that the job may"
    assert told["help"] == ["a max_cost of 1.00"]


async def test_data_leaves_its_regions_only_once_it_may(fed, federation, sites, phase_of, until):
    await sites(ams={"region": "eu-west", "cpus": 0.5}, fra={"region": "eu-central"})
    (federation.folder / "ams" / "corpus").mkdir()
    (federation.folder / "ams" / "corpus" / "a.txt").write_text("one two")
    await fed.put("links", "ams:fra", LINK)
    corpus = {"name": "corpus", "replicas": [{"site": "ams", "path": "corpus"}]}
    await fed.put("datasets", "corpus", {**corpus, "regions": ["eu-west"]})
    job = await fed.submit(a_job("reads", inputs=[{"dataset": "corpus"}]))
    told = await until(lambda: fed.why(job["id"]), lambda found: len(found["verdicts"]) == 2)
    assert "fra: no, default/corpus@1 may only be brought to eu-west" in [each["text"] for each in told["verdicts"]]
    assert (await fed.job(job["id"]))["phase"] == "pending"
    await fed.put("datasets", "corpus", {**corpus, "regions": ["eu-west", "eu-central"]})
    running = await phase_of(job["id"], "running")
    assert running["site"] == "fra"
    assert (await fed.get("datasets", "corpus"))["sites"] == ["ams", "fra"]


async def test_jobs_of_one_word_follow_the_first_and_jobs_that_spread_do_not(fed, sites, placed, until):
    await sites(ams={"cpus": 3.0}, fra={"cpus": 3.0})
    first = await fed.submit(a_job("first", sites={"affinity": "p7"}))
    (home,) = await placed(1)
    await fed.submit([a_job(f"next{number}", sites={"affinity": "p7"}) for number in range(3)])
    assert await placed(3) == [home] * 3
    await fed.submit([a_job(f"apart{number}", sites={"spread": {"word": "r"}}) for number in range(3)])
    (other,) = {"ams", "fra"} - {home}
    assert await placed(4) == sorted([home] * 3 + [other])
    pending = {job["name"]: job["id"] for job in (await fed.list("jobs", phase="pending"))["items"]}
    (waits,) = [job for name, job in pending.items() if name.startswith("next")]
    told = await fed.why(waits)
    assert f"{other}: no, is not {home}, where its affinity p7 is" in [each["text"] for each in told["verdicts"]]
    for job in {first["id"], *pending.values()} - {waits}:
        await fed.cancel(job)
    await until(lambda: fed.job(waits), lambda job: job["phase"] == "running" and job["site"] == home)


async def test_the_own_centre_comes_first_and_then_what_is_named_next(fed, sites, placed):
    await sites(ams={"cpus": 1.0}, fra={"cpus": 1.0}, osl={"cpus": 8.0})
    jobs = [a_job(f"job{number}", sites={"prefer": ["fra", "ams", "lab"]}) for number in range(3)]
    made = await fed.submit(jobs)
    assert made["warnings"] == ["sites.prefer: no site is named lab, so it is passed over"]
    assert await placed(3) == ["ams", "fra", "osl"]
    patient = await fed.submit(a_job("patient", sites={"prefer": ["fra"], "spill_after": "1h"}))
    told = await fed.why(patient["id"])
    assert told["reason"].startswith("waits for fra, which it prefers, ")
    assert told["reason"].endswith("; then any other site")
