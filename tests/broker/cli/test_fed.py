"""The command as people and scripts use it: what it prints, and its exit codes."""

import subprocess

import pytest

from adapters.base import Layer
from tests.running import FED

pytestmark = pytest.mark.usefixtures("applied")


def submitted(fed, job, *options):
    return fed("submit", "-f", "-", "-o", "json", *options, stdin=job)


def test_the_doctor_looks_at_a_live_broker(fed):
    told = {each["what"]: each for each in fed("doctor", "--all", "-o", "json").json["items"]}
    assert told.keys() >= {"store", "brokers", "leader", "clock", "records", "site ams"}
    assert told["brokers"]["cure"].startswith("run a second one")
    assert (told["clock"]["cure"], told["records"]["cure"]) == ("", "")


def test_documents_are_applied_in_an_order_that_works(applied):
    assert [item["kind"] for item in applied.json["items"]] == ["sites", "sites", "links", "datasets"]


def test_a_job_goes_its_way(fed):
    job = submitted(fed, "{name: good, command: [exit, '0'], sites: {require: {site: fra}}}").json
    done = fed("wait", job["id"], "--timeout", "20", "-o", "json")
    assert (done.code, done.json["phase"]) == (0, "succeeded")
    assert done.json["site"] == "fra"
    listed = fed("jobs", "--phase", "succeeded", "-o", "json").json
    assert job["id"] in [item["id"] for item in listed["items"]]
    assert job["id"] in fed("jobs").out
    assert done.json["site"] in fed("why", job["id"]).out


def test_a_job_that_waits_is_told_when_it_starts_who_is_ahead_and_what_would_help(fed):
    where = "sites: {require: {site: fra}}"
    first = submitted(fed, f"{{name: first, command: [sleep], run_time: 2h, resources: {{cpus: 4}}, {where}}}").json["id"]
    while (phase := fed("get", "job", first, "-o", "json").json["phase"]) != "running":
        assert phase in ("pending", "placed", "queued")
    second = submitted(fed, f"{{name: second, command: [sleep], resources: {{cpus: 3}}, {where}}}").json["id"]
    for said in (fed("why", second).out, fed("describe", second).out):
        assert "  what binds: fra/cpu is short of 3 cpus" in said
        assert "  expected to start in 1.0 to 4.0 h (runs are taken to last half to twice as long as expected" in said
        assert "tenant default holds or held of late " in said
        assert "  would help: any site: it would start now at ams" in said
    assert "would help" not in fed("why", first).out
    for job in (first, second):
        assert fed("cancel", job).code == 0


def test_exit_codes_tell_what_happened(fed):
    failed = submitted(fed, "{name: bad, command: [exit, '3']}").json["id"]
    assert fed("wait", failed, "--timeout", "20").code == 1
    endless = submitted(fed, "{name: endless, command: [sleep]}").json["id"]
    assert fed("wait", endless, "--timeout", "0.1").code == 6
    assert fed("cancel", endless).code == 0
    assert fed("wait", endless, "--timeout", "20").code == 1
    assert fed("why", "nothing").code == 3
    assert fed("get", "site", "nothing").code == 3
    assert fed("delete", "site", "fra").code == 4
    assert fed("nonsense").code == 2
    assert fed("get", "nonsense").code == 2


def test_an_endpoint_that_is_away_is_said_to_be(fed):
    said = fed("--patience", "0", "--url", "http://127.0.0.1:9", "jobs")
    assert said.code == 5
    assert "does not answer" in said.err
    assert "Traceback" not in said.err


def test_of_several_endpoints_one_that_answers_is_asked(fed, url):
    assert fed("--url", f"http://127.0.0.1:9,{url}", "get", "sites", "-o", "name").out.split() == ["ams", "fra"]


@pytest.mark.parametrize(("verb", "ours"), [("squeue", "fed jobs"), ("kill", "fed cancel"), ("version", "fed --version")])
def test_who_types_another_schedulers_verb_is_told_ours(fed, verb, ours):
    said = fed(verb)
    assert (said.code, f"`{ours}`" in said.err) == (2, True)


def test_a_thing_is_named_with_its_kind_and_tenant_or_without(fed):
    assert fed("get", "site/ams", "-o", "name").out == fed("get", "sites", "ams", "-o", "name").out == "ams\n"
    assert fed("get", "dataset/default/corpus", "-o", "name").out == "corpus@1\n"
    tenants = "{kind: Tenant, name: red, parent: all}\n---\n{kind: Tenant, name: all}"
    assert fed("apply", "-f", "-", stdin=tenants).code == 0
    assert fed("apply", "-f", "-", stdin="{kind: Dataset, name: theirs, tenant: red}").code == 0
    elsewhere = fed("get", "dataset", "theirs")
    assert (elsewhere.code, "there is red/theirs" in elsewhere.err) == (3, True)
    assert [fed("delete", *each).code for each in (("dataset", "red/theirs@1"), ("tenant/red",), ("tenant/all",))] == [0, 0, 0]
    assert [fed(*wrong).code for wrong in (("describe", "site"), ("delete", "site"), ("delete", "job", "x"))] == [2, 2, 2]


@pytest.mark.parametrize("wrong", ["nowhere", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999"])
def test_a_url_that_is_none_is_wrong_usage_and_not_asked_again(fed, wrong):
    said = fed("--patience", "600", "--url", wrong, "jobs")
    assert said.code == 2
    assert "URL" in said.err


def test_output_that_cannot_be_written_is_told_in_a_line(url):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*FED, "--url", url, "jobs"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("fed: ")
    assert "Traceback" not in done.stderr


def test_a_wrong_document_names_document_line_and_field(fed):
    said = submitted(fed, "name: fine\ncommand: [a]\n---\nname: wrong\ncommand: [a]\ntasks: many\n")
    assert said.code == 2
    assert "document 2" in said.err
    assert "line 6" in said.err
    assert "tasks" in said.err
    assert "Traceback" not in said.err
    missing = submitted(fed, "{name: reads, command: [a], inputs: [{dataset: nothing}]}")
    assert missing.code == 2
    assert "nothing" in missing.err
    assert fed("submit", "-f", "/no/such/file").code == 2
    assert fed("apply", "-f", "-", stdin="{kind: Job, name: x, command: [a]}").code == 2
    assert fed("submit", "-f", "-", stdin="{kind: Tenant, name: x}").code == 2


def test_the_same_key_makes_the_same_job(fed):
    first, again = [submitted(fed, "{name: once, command: [exit, '0']}", "--idempotency-key", "k").json for _ in range(2)]
    assert first["id"] == again["id"]
    other = submitted(fed, "{name: other, command: [exit, '0']}", "--idempotency-key", "k")
    assert other.code == 4


def test_many_jobs_in_one_file_are_one_list(fed):
    said = submitted(fed, "\n---\n".join(f"{{name: n{number}, command: [exit, '0']}}" for number in range(3)))
    assert [item["name"] for item in said.json["items"]] == ["n0", "n1", "n2"]
    assert said.json["next"] is None


def test_a_job_that_nobody_can_run_is_taken_with_a_warning(fed):
    said = submitted(fed, "{name: huge, command: [sleep], resources: {cpus: 64}}")
    assert said.code == 0
    assert "warning" in said.err
    assert fed("cancel", said.json["id"]).code == 0


def test_a_plan_is_shown_and_nothing_is_made(fed):
    said = fed("plan", "-f", "-", "-o", "json", stdin="{name: planned, command: [exit, '0'], sites: {require: {site: fra}}}")
    assert [verdict["site"] for verdict in said.json["verdicts"]] == ["fra", "ams"]
    assert fed("why", "planned").code == 3
    assert "fra" in fed("plan", "-f", "-", stdin="{name: planned, command: [exit, '0']}").out


def test_what_is_registered_is_shown(fed):
    assert [item["name"] for item in fed("get", "sites", "-o", "json").json["items"]] == ["ams", "fra"]
    assert fed("get", "link", "ams:fra", "-o", "json").json["bandwidth_gbps"] == 10.0
    assert "ams" in fed("get", "datasets").out
    assert fed("health", "-o", "json").json["store"]["version"] == "memory"
    assert "leader" in fed("health").out
    assert fed("cordon", "ams").code == 0
    assert fed("get", "site", "ams", "-o", "json").json["admission"] == "cordoned"
    assert fed("uncordon", "ams").code == 0


def test_each_layer_of_a_site_is_asked(fed):
    said = fed("site", "test", "ams")
    assert said.code == 0
    assert [line.split()[:2] for line in said.out.splitlines()[1:]] == [[str(layer), "ok"] for layer in (*Layer, Layer.STORAGE)]
    assert "for the broker: file://" in said.out
    assert fed("site", "test", "nowhere").code == 3


def test_there_is_nothing_to_resume_where_no_store_was_restored(fed):
    said = fed("resume")
    assert said.code == 4
    assert "nothing to resume" in said.err


def test_output_is_printed_as_it_is(fed):
    job = submitted(fed, "{name: talks, command: [print, 'hello there']}").json["id"]
    while fed("jobs", "--phase", "running", "-o", "json").json["items"] == []:
        pass
    assert fed("logs", job).out == "hello there"
    assert fed("cancel", job).code == 0


def test_a_broker_without_a_place_for_its_records_says_what_is_missing(fed, tmp_path):
    said = fed("up", "--port", "0")
    assert said.code == 2
    assert "--data-dir" in said.err
    wrong = tmp_path / "broker.yaml"
    wrong.write_text("colour: red\n")
    assert "colour" in fed("up", "--config", wrong).err


def test_what_if_questions_are_answered_in_a_table(fed, applied):
    said = fed("whatif", "--nodes", "ams/cpu=+1", "--link", "fra:ams=40", "--link-price", "fra:ams=0.01", "--cpu-hour", "fra=0.5")
    assert (said.code, said.err) == (0, "")
    assert "mean end h" in said.out
    asked = fed("whatif", "-f", "-", "-o", "json", stdin="lose_sites: [ams]\n")
    assert set(asked.json) == {"whole", "tenants", "classes", "sites", "stuck", "moved", "moved_jobs", "notes"}


@pytest.mark.parametrize(
    ("option", "value", "cure"),
    [
        ("--nodes", "ams=1", "use such as fra/gpu=+4"),
        ("--nodes", "ams/cpu=some", "use WHAT=NUMBER"),
        ("--link", "ams=40", "such as ams:fra=40"),
        ("--carbon", "ams", "use WHAT=NUMBER, such as ams=50"),
        ("--carbon", "amss=50", "carbon.amss: no site is named amss"),
        ("--lose-site", "amss", "did you mean ams"),
        ("--gpu-hour", "ams/a100=1.2", "prices.0.gpu_hour.a100: no GPU of ams is named a100"),
    ],
)
def test_a_bad_what_if_question_names_the_option_or_field(fed, applied, option, value, cure):
    said = fed("whatif", option, value)
    assert said.code == 2
    assert cure in said.err
