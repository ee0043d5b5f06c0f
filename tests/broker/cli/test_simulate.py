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
    assert [line.split()[0] for line in lines[1:]] == ["policy", "ours", "race"]
    assert page.read_text().startswith("<!doctype html>")
    told = json.loads(fed("simulate", "generated", "--jobs", "80", "--policy", "ours", "-o", "json").stdout)
    assert told["policies"]["ours"]["mean"]["jobs"] == 80


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nothing",), "composition: nothing: one of lcg-swim, philly, alibaba, generated"),
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
