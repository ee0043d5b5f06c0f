"""`fed simulate`, without any broker."""

import json
import subprocess
import sys

import pytest


def fed(*words):
    return subprocess.run([sys.executable, "-m", "broker", *words], capture_output=True, text=True, timeout=100)


def test_a_table_json_and_a_page(tmp_path):
    page = tmp_path / "page.html"
    said = fed("simulate", "generated", "--jobs", "80", "--policy", "ours", "--policy", "race", "--html", str(page))
    assert (said.returncode, said.stderr) == (0, "")
    lines = said.stdout.splitlines()
    assert lines[0].startswith("generated: ")
    assert [line.split()[0] for line in lines[1:]] == ["policy", "ours", "race", "lower"]
    assert page.read_text().startswith("<!doctype html>")
    told = json.loads(fed("simulate", "generated", "--jobs", "80", "--policy", "ours", "-o", "json").stdout)
    assert told["policies"]["ours"]["mean"]["jobs"] == 80


def test_sites_and_jobs_of_ones_own(tmp_path):
    pools = "[{name: cpu, nodes: 2, per_node: {cpus: 4, memory_gib: 8}}]"
    site = f'{{kind: Site, name: ams, engine: {{kind: process}}, storage: {{url: "file:///srv"}}, pools: {pools}}}'
    (tmp_path / "fed.yaml").write_text(site)
    (tmp_path / "jobs.csv").write_text("name,at,run_time_s,cpus\na,0,3600,4\nb,0,3600,4\nc,0,3600,4\n")
    words = ("--federation", str(tmp_path / "fed.yaml"), "--jobs-from", str(tmp_path / "jobs.csv"), "--policy", "ours", "--tune")
    told = json.loads(fed("simulate", *words, "-o", "json").stdout)
    # two run at once, the third after them: (1 + 1 + 2) / 3 h; together they need 3 h of one of the two nodes
    assert told["policies"]["ours"]["mean"]["mean_completion_h"] == pytest.approx(4 / 3)
    assert 1.0 <= told["bounds"]["1"] <= 4 / 3
    assert told["notes"][0].startswith("3 of 3 jobs of jobs.csv, on the 1 sites of fed.yaml with 0 links; seed 1")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nothing",), "composition: nothing: one of lcg-swim, philly, alibaba, generated"),
        ((), "composition: is missing: one of lcg-swim, philly, alibaba, generated, or --federation and --jobs-from"),
        (("generated", "--federation", "a", "--jobs-from", "b"), "composition: generated: nothing is left of it"),
        (("--federation", "nowhere.yaml"), "nowhere.yaml: No such file"),
        (("--jobs-from", "nowhere.csv"), "nowhere.csv: No such file"),
        (("--jobs-from", "a.csv", "--jobs-format", "odd"), "--jobs-format: odd: one of swf, philly"),
        (("generated", "--draw-data"), "--draw-data: goes with --jobs-from"),
        (("generated", "--html", "nowhere/page.html"), "--html: nowhere/page.html: there is no such folder"),
        (("generated", "--spot-trace", "nowhere"), "nowhere: No such file"),
        (("generated", "--policy", "best"), "--policy: best: one of ours, random"),
        (("philly",), "--data: philly needs the folder of the traces"),
        (("philly", "--data", "nowhere"), "nowhere"),
        (("generated", "--jobs", "0"), "--jobs"),
    ],
)
def test_what_is_wrong_is_told(words, told):
    said = fed("simulate", *words)
    assert (said.returncode, said.stdout) == (2, "")
    assert told in said.stderr
    assert "Traceback" not in said.stderr
