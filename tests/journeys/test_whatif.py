"""What-if questions about real processes at two sites: what is told, and that nothing comes of asking."""

import pytest

from tests.journeys.places import declare


@pytest.fixture
def running(up, tmp_path):
    """Ids by name: `bound` may run at ams alone, `free` prefers it; both run there."""
    declare(up, tmp_path)
    jobs = [_endless("bound", "sites: {require: {site: ams}}"), _endless("free", "sites: {prefer: [ams]}")]
    said = up.fed("submit", "-f", "-", "-o", "json", stdin="\n---\n".join(jobs))
    found = {item["name"]: item["id"] for item in said.json["items"]}
    while sorted(up.fed("jobs", "--phase", "running", "-o", "name").out.split()) != sorted(found.values()):
        assert up.fed("health").code == 0
    return found


def _endless(name, sites):
    return f"{{name: {name}, command: [sleep, '600'], run_time: 1h, resources: {{cpus: 2}}, {sites}}}"


def _known(up):
    """Where all jobs are, and which sites are open."""
    jobs, sites = up.fed("jobs", "-o", "json").json["items"], up.fed("get", "sites", "-o", "json").json["items"]
    return [[each[field] for field in ("id", "phase", "site", "attempt")] for each in jobs], [each["admission"] for each in sites]


def test_a_lost_site_takes_its_jobs_and_nothing_comes_of_asking(up, running, tmp_path):
    before = _known(up)
    question = tmp_path / "question.yaml"
    question.write_text("lose_sites: [ams]\n")
    for options in (("--lose-site", "ams"), ("-f", question)):
        answer = up.fed("whatif", *options, "-o", "json").json
        assert (answer["whole"]["before"]["never_end"], answer["whole"]["after"]["never_end"]) == (0, 1)
        assert {each["job"]: (each["site"], each["then"]) for each in answer["moved_jobs"]} == {
            running["bound"]: ("ams", None),
            running["free"]: ("ams", "fra"),
        }
    told = up.fed("whatif", "--lose-site", "ams").out
    assert [running["bound"], "default", "ams", "nowhere"] in [line.split() for line in told.splitlines()]
    assert "ams: is lost" in told
    assert _known(up) == before
