"""Ways to hand in jobs, and to wait for them."""

import json

import pytest

from broker.cli.scripts import has_foreign_lines, scripted
from broker.cli.submitting import copies
from broker.cli.waiting import exit_code_of
from broker.errors import Invalid

pytestmark = pytest.mark.usefixtures("applied")

SCRIPT = """#!/bin/sh
# counts
#FED name: counting
#FED tasks: 2
#FED resources: {cpus: 2}
echo counting
#FED tasks: 3
"""


def test_a_script_says_what_it_needs_before_its_first_command():
    body = scripted(SCRIPT, "fallback", {})
    assert (body["name"], body["tasks"], body["resources"], body["script"]) == ("counting", 2, {"cpus": 2}, SCRIPT)


def test_options_are_stronger_than_a_scripts_own_words():
    assert scripted(SCRIPT, "fallback", {"tasks": 5})["tasks"] == 5
    assert scripted("echo\n", "fallback", {})["name"] == "fallback"


def test_the_short_words_of_options_stand_in_a_script_too():
    words = ("cpus: 2", "memory: 512M", "gpus: a100:1", "input: a", "input: [b, c]", "save: d", "site: fra", "prefer: [ams, fra]")
    text = "".join(f"#FED {each}\n" for each in words) + "true\n"
    assert scripted(text, "x", {"resources": {"cpus": 4}}) == {
        "name": "x",
        "script": text,
        "resources": {"cpus": 4, "memory_gib": 0.5, "gpus": {"count": 1, "types": ["a100"]}},
        "inputs": [{"dataset": "a"}, {"dataset": "b"}, {"dataset": "c"}],
        "outputs": [{"dataset": "d"}],
        "sites": {"require": {"site": ["fra"]}, "prefer": ["ams", "fra"]},
    }


@pytest.mark.parametrize("wrong", ["memory: much", "cpus: two", "gpus: a100", "input: 3", "cpus: [", "site"])
def test_a_short_word_that_is_wrong_names_its_line(wrong):
    with pytest.raises(Invalid) as raised:
        scripted(f"#!/bin/sh\n#FED {wrong}\ntrue\n", "x", {})
    assert [(fault.line, fault.field) for fault in raised.value.faults] == [(2, wrong.partition(":")[0])]


def test_a_script_for_another_scheduler_alone_is_noticed(fed, tmp_path):
    assert has_foreign_lines("#!/bin/sh\n#SBATCH --mem=4G\ntrue\n")
    assert not has_foreign_lines("#!/bin/sh\n#SBATCH --mem=4G\n#FED memory: 4G\ntrue\n")
    (tmp_path / "job.sh").write_text("#!/bin/sh\n#SBATCH --mem=4G\ntrue\n")
    assert "`#FED memory: 4G`" in fed("submit", "--dry-run", tmp_path / "job.sh").err


def test_a_fault_in_a_script_names_its_line():
    with pytest.raises(Invalid) as raised:
        scripted(SCRIPT.replace("tasks: 2", "taks: 2"), "x", {})
    (fault,) = raised.value.faults
    assert (fault.line, fault.field) == (4, "taks")


def test_copies_have_names_of_their_own():
    assert [each["name"] for each in copies([{"name": "a"}, {"name": "b"}], 2)] == ["a-1", "a-2", "b-1", "b-2"]
    assert copies([{"name": "a"}], 1) == [{"name": "a"}]


def test_each_copy_may_know_its_number():
    assert [each["env"] for each in copies([{"name": "a", "env": {"N": "x{index}", "M": "y"}}], 2)] == [
        {"N": "x1", "M": "y"},
        {"N": "x2", "M": "y"},
    ]


def test_options_leave_what_they_do_not_name(fed):
    job = "{name: j, command: [exit, '0'], resources: {cpus: 1, memory_gib: 3}, env: {A: a}, sites: {exclude: [ams]}}"
    options = ("--cpus", "2", "--memory", "1G", "--env", "B=b", "--site", "fra", "--prefer", "fra", "--prefer", "lab")
    options += ("--max-cost", "2.5", "--deadline", "6h", "--preemptible")
    made = fed("submit", "-f", "-", "-o", "name", *options, stdin=job).out.strip()
    spec = fed("get", "job", made, "-o", "json").json["spec"]
    assert (spec["resources"]["cpus"], spec["resources"]["memory_gib"]) == (2, 1)
    assert spec["env"] == {"A": "a", "B": "b"}
    assert (spec["sites"]["require"]["site"], spec["sites"]["exclude"]) == (["fra"], ["ams"])
    assert spec["sites"]["prefer"] == ["fra", "lab"]
    assert (spec["max_cost"], spec["deadline"], spec["preemptible"]) == (2.5, 21_600, True)


def test_output_is_followed_of_a_job_whose_inputs_are_still_brought(fed):
    done = fed("submit", "--follow", "--site", "fra", "--input", "corpus", "--", "say", "hello")
    assert (done.code, done.out) == (0, "hello\n")


def test_a_dry_run_makes_nothing(fed):
    said = fed("submit", "--dry-run", "--name", "dry", "--site", "fra", "--", "exit", "0")
    assert (said.code, said.out.splitlines()[0]) == (0, "dry fra")
    assert fed("jobs", "--name", "dry", "-o", "name").out == ""


def test_output_is_followed_and_the_exit_code_is_the_jobs(fed):
    done = fed("submit", "--follow", "--name", "told", "--", "say", "hello")
    assert (done.code, done.out) == (0, "hello\n")
    assert "told" in done.err
    assert fed("submit", "--follow", "--", "exit", "7").code == 7
    assert fed("submit", "--follow", "--count", "2", "--", "exit", "0").code == 2


@pytest.mark.parametrize(
    ("jobs", "code"),
    [
        ([("succeeded", 0)], 0),
        ([("failed", 7)], 7),
        ([("failed", 200)], 1),
        ([("cancelled", None)], 1),
        ([("failed", 7), ("succeeded", 0)], 1),
    ],
)
def test_the_exit_code_is_the_jobs(jobs, code):
    assert exit_code_of([{"phase": phase, "exit_code": number} for phase, number in jobs]) == code


def test_a_command_behind_dashes_is_run_with_its_options_and_waited_for(fed):
    done = fed("submit", "--wait", "--site", "fra", "-o", "name", "--", "exit", "7")
    assert done.code == 7
    assert done.err.endswith(f"failed: exit code 7; `fed logs {done.out.strip()}` has its output\n")
    assert fed("get", "job", done.out.strip(), "-o", "json").json["spec"]["command"] == ["exit", "7"]


def test_a_script_file_is_submitted_often(fed, tmp_path):
    (tmp_path / "Count words.sh").write_text("#FED sites: {require: {site: fra}}\ntrue\n")
    done = fed("submit", tmp_path / "Count words.sh", "--count", "3", "--wait", "-o", "json")
    assert (done.code, [job["name"] for job in done.json["items"]]) == (0, [f"count-words-{number}" for number in (1, 2, 3)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "what is to be run?"),
        (("--", ), "name a program"),
        (("-f", "x.yaml", "--", "true"), "what is to be run?"),
        (("--gpus", "many", "--", "true"), "--gpus"),
        (("--env", "A", "--", "true"), "NAME=VALUE"),
        (("--set", "3", "--", "true"), "--set"),
        (("--set", "tasks: none", "--", "true"), "tasks"),
    ],
)  # fmt: skip
def test_what_makes_no_job_is_wrong_usage(fed, arguments, words):
    done = fed("submit", *arguments)
    assert done.code == 2
    assert words in done.err


def test_a_held_job_waits_until_it_is_released(fed):
    job = fed("submit", "-o", "name", "--site", "ams", "--set", "max_wait: 1h", "--cpus", "4", "--", "sleep").out.strip()
    other = fed("submit", "-o", "name", "--site", "ams", "--cpus", "4", "--", "exit", "0").out.strip()
    held = fed("hold", other, "-o", "json")
    assert (held.code, held.json["is_held"]) == (0, True)
    fed("cancel", job)
    fed("wait", job)
    said = fed("why", other, "-o", "json").json
    assert "held by" in said["reason"]
    assert fed("get", "job", other, "-o", "json").json["phase"] == "pending"
    assert fed("release", other, "-o", "json").json["is_held"] is False
    assert fed("wait", other, "--timeout", "20").code == 0
    assert fed("hold", other).code == 4


def test_formats_are_for_people_and_programs(fed):
    assert fed("get", "sites", "-o", "name").out.split() == ["ams", "fra"]
    assert fed("get", "datasets", "-o", "name").out.split() == ["corpus@1"]
    assert "fabric" in fed("get", "sites", "-o", "wide").out
    assert "name: ams" in fed("get", "site", "ams", "-o", "yaml").out
    assert "native_id" in fed("jobs", "-o", "wide").out


def test_a_site_and_a_job_are_described(fed):
    job = fed("submit", "-o", "name", "--site", "fra", "--wait", "--", "exit", "0").out.strip()
    said = fed("describe", "job", job).out
    assert "attempt 1 at fra" in said
    assert "engine:" in fed("describe", "site", "ams").out
    assert fed("describe", "site", "nowhere").code == 3


def test_the_federation_is_shown_at_a_glance(fed):
    said = fed("status").out
    assert "max_pending" in said
    assert "leader:" in said


def test_routes_are_told_by_time_and_money(fed):
    said = fed("topology", "path", "ams", "fra", "-o", "json").json
    assert [(route["by"], route["links"]) for route in said["routes"]] == [("time", ["ams:fra"]), ("money", ["ams:fra"])]
    assert "no links lead" in fed("topology", "path", "fra", "ams").out
    assert fed("topology", "path", "ams", "nowhere").code == 3
    assert fed("topology", "way", "ams").code == 2


def test_the_topology_is_drawn(fed, tmp_path):
    assert '"ams" -> "fra"' in fed("topology", "--dot").out
    fed("topology", "--svg", tmp_path / "it.svg")
    drawn = (tmp_path / "it.svg").read_text()
    assert drawn.count("<circle") == 2
    assert "ams:fra" in fed("topology").out
    assert json.loads(fed("topology", "-o", "json").out)["links"][0]["name"] == "ams:fra"


def test_jobs_with_a_label_are_listed_held_and_cancelled_together(fed):
    big = ("--site", "ams", "--cpus", "99", "--set", "labels: {of: us}")
    made = fed("submit", "--count", "2", *big, "-o", "json", "--", "sleep").json
    ids = sorted(job["id"] for job in made["items"])
    assert sorted(fed("jobs", "-l", "of=us", "-o", "name").out.split()) == ids
    assert fed("hold", "-l", "of=us").out == "hold: 2 of 2 jobs\n"
    assert fed("cancel", "-l", "of=us,!other", "--phase", "pending").out == "cancel: 2 of 2 jobs\n"
    assert fed("cancel").code == fed("cancel", ids[0], "--all").code == fed("jobs", "-l", "a=b=c").code == 2
    said = fed("events", ids[0]).out
    assert "submitted" in said
    assert "cancel asked" in said


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--cpus", "nan"), "--cpus"),
        (("--memory", "inf"), "--memory"),
        (("--memory", "4X"), "--memory"),
        (("--gpus", ":1"), "--gpus"),
        (("--idempotency-key", ""), "--idempotency-key"),
        (("--idempotency-key", "a\nb"), "--idempotency-key"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name_before_anything_is_sent(fed, options, field):
    refused = fed("submit", *options, "--", "exit", "0")
    assert refused.code == 2
    assert refused.err.startswith(f"fed: {field}: ")
