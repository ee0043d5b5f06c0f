"""The store is lost with all its files; a backup and what the site knows bring the federation back."""

import json
import shutil
import time
from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path):
    """Apart from the site's, which outlives it."""
    return tmp_path / "broker"


def in_phase(up, job, wanted):
    until = time.monotonic() + 60
    while (found := up.fed("jobs", "--name", job, "-o", "json").json["items"])[0]["phase"] != wanted:
        assert time.monotonic() < until, found
        time.sleep(0.1)


def test_a_lost_store_comes_back_and_what_ran_on_is_not_run_again(up, tmp_path):
    (tmp_path / "ams").mkdir()
    pool = {"name": "cpu", "nodes": 1, "per_node": {"cpus": 4, "memory_gib": 8}}
    storage = {"url": f"file://{tmp_path / 'ams'}"}
    site = {"kind": "Site", "name": "ams", "engine": {"kind": "process"}, "pools": [pool], "storage": storage}
    assert up.fed("apply", "-f", "-", stdin=json.dumps(site)).code == 0
    script = f"echo started >> {tmp_path}/starts; while [ ! -e {tmp_path}/gate ]; do sleep 0.05; done"
    up.fed("submit", "--name", "runs", "--", "sh", "-c", script)
    in_phase(up, "runs", "running")
    backup = tmp_path / "backup.jsonl"
    said = up.fed("backup", backup)
    assert said.code == 0, said.err
    assert backup.stat().st_mode & 0o077 == 0
    assert up.fed("backup", backup).code == 4

    lost = up.etcd
    up.kill()
    while Path(f"/proc/{lost}").exists():  # it ends soon after its broker, and writes until then
        time.sleep(0.05)
    shutil.rmtree(tmp_path / "broker" / "state")
    (tmp_path / "half").write_bytes(backup.read_bytes()[:-40])
    said = up.fed("restore", tmp_path / "half", "--data-dir", tmp_path / "broker" / "state")
    assert said.code == 2
    assert "not all of one" in said.err
    assert not (tmp_path / "broker" / "state").exists()
    said = up.fed("restore", backup, "--data-dir", tmp_path / "broker" / "state")
    assert said.code == 0, said.err
    said = up.fed("restore", backup, "--data-dir", tmp_path / "broker" / "state")
    assert said.code == 4
    assert "empty" in said.err

    up.start()
    assert "fed resume" in up.fed("health").out
    (tmp_path / "gate").touch()
    time.sleep(1)
    in_phase(up, "runs", "running")
    assert up.fed("resume").code == 0
    in_phase(up, "runs", "succeeded")
    assert (tmp_path / "starts").read_text() == "started\n"
