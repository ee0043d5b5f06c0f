"""The demo's jobs and their twins in Python say the same, before any broker is asked."""

import os
import shutil
import subprocess
from collections import Counter

import pytest
from ruamel.yaml import YAML

from broker.demo.check import difference, expected, found, lines_of, runs
from broker.demo.scenario import HOMES, LATER, Work, federation, first_jobs, standard_library

PARTS = {
    "net": {
        "email/a.py": b"import os\nimport re, sys\nraise ValueError",
        "ftplib.py": b"import os\n\xff caf\xc3\xa9\n",
        "ssl.py": b"import abc\n",
    },
    "text": {"re/b.py": b"import os\n  import no\nfoo_bar 1\r\nimport abc\r\n", "re/empty.py": b""},
}


def ran(work, folder):
    """The work's script run by sh over PARTS, as an engine would; its output's folder and its journal."""
    job = YAML(typ="safe", pure=True).load(work.document(folder))
    for made in job["inputs"]:
        name, _, part = made["dataset"].partition("-")
        files = PARTS[part] if name == "stdlib" else expected(Work(name, (part,), "fastest"), PARTS)
        for path, content in files.items():
            (folder / "in" / made["dataset"] / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "in" / made["dataset"] / path).write_bytes(content)
    (folder / "out" / work.name).mkdir(parents=True)
    places = {"FED_INPUTS": str(folder / "in"), "FED_OUTPUTS": str(folder / "out"), "FED_JOB": "j1", "FED_ATTEMPT": "1"}
    for task in range(job.get("tasks", 1)):
        shares = {"FED_TASK": str(task), "FED_TASKS": str(job.get("tasks", 1))}
        subprocess.run(["sh", "-c", job["script"]], env={**os.environ, **places, **shares, **job["env"]}, check=True)
    return folder / "out" / work.name, (folder / "journal").read_text()


@pytest.mark.parametrize("kind", ["lines", "words", "search", "sums", "archive", "imports", "common", "gang", "slow", "merge"])
def test_a_script_finds_what_its_twin_finds(kind, tmp_path):
    work = Work(kind, ("net", "text") if kind in ("common", "merge") else ("net",), "fastest")
    folder, journal = ran(work, tmp_path)
    assert difference(expected(work, PARTS), found(work, folder)) == ""
    assert runs(journal, lines_of("j1", 1, work)) == []


def test_a_wrong_output_is_seen_and_told(tmp_path):
    work = Work("lines", ("net",), "fastest")
    folder, _ = ran(work, tmp_path)
    (folder / "lines").write_text("7\n")
    assert difference(expected(work, PARTS), found(work, folder)) == "lines is b'7\\n' (2 bytes), not b'5\\n' (2 bytes)"
    shutil.rmtree(folder)
    assert difference(expected(work, PARTS), found(work, folder)) == "has no lines"


def test_a_second_run_or_attempt_of_a_job_is_seen():
    once = list(lines_of("j1", 1, Work("gang", ("net",), "fastest")))
    assert runs("\n".join(once), once) == []
    assert len(runs("\n".join([*once, once[0]]), once)) == 1
    assert len(runs("\n".join([*once, "j1 2 0"]), once)) == 1
    assert len(runs("\n".join(once[1:]), once)) == 1


def test_every_part_of_the_standard_library_is_there_and_declared_where_it_lies(tmp_path):
    assert standard_library().keys() == HOMES.keys()
    documents = list(YAML(typ="safe", pure=True).load_all(federation(tmp_path)))
    declared = {each["name"]: tuple(at["site"] for at in each["replicas"]) for each in documents if each["kind"] == "Dataset"}
    assert declared == {f"stdlib-{part}": sites for part, sites in HOMES.items()}


def test_forty_jobs_of_which_one_fails_have_names_of_their_own():
    names = Counter(work.name for work in (*first_jobs(), *LATER))
    assert len(names) >= 40
    assert max(names.values()) == 1
