"""The entrypoint of a job of one task, run by a shell as Ray does. Gangs need Ray: the contract suite has them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.base import EndReason, Run, SiteState
from adapters.ray import runner
from adapters.ray.codec import Job, request_of
from adapters.ray.reports import report_of, told_in
from adapters.ray.settings import RaySettings
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

SETTINGS = RaySettings(url="http://127.0.0.1:8265", python=sys.executable, grace_s=0.3)
SITE = Site("osl", Engine("ray"), (Pool("cpu", 2, Resources(4, 8)),), Storage("file:///data"))


def a_run(body, **rest):
    defaults = {"tasks": 1, "per_task": Resources(1, 1), "pool": "cpu", "command": ("sh", "-c", body), "claim": ".fed/claims/x"}
    return Run("fed-j1-a1", "fed", "j1", "default", **{**defaults, **rest})


class Started:
    """A job as Ray's supervisor starts it: its output goes to a file among the logs."""

    def __init__(self, folder, run):
        self.logs = folder / "session" / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        (folder / "storage").mkdir(exist_ok=True)
        body = request_of(run, SITE, SETTINGS, folder / "storage", Path(runner.__file__).read_text())
        self._log = self.logs / "job-driver-fed-j1-a1.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(body["entrypoint"], shell=True, stdout=log, stderr=log, start_new_session=True)

    def output(self):
        log = self.logs / "fed-fed-j1-a1.0.log"
        return log.read_text() if log.exists() else ""

    def report(self, status=None):
        """What the adapter makes of it once it is over."""
        code = self.process.wait(20)
        told = told_in(self._log.read_text())
        job = Job(type="SUBMISSION", submission_id="fed-j1-a1", status=status or ("FAILED" if code else "SUCCEEDED"))
        return report_of(job, told)


def test_output_is_beside_rays_logs_and_the_times_are_the_programs(tmp_path):
    before = time.time()
    started = Started(tmp_path, a_run("echo hello; echo there >&2"))
    report = started.report()
    assert (report.state, report.exit_code) == (SiteState.SUCCEEDED, 0)
    assert before - 0.1 <= report.started_at <= report.ended_at <= time.time()
    assert started.output() == "hello\nthere\n"


def test_exit_codes_and_signals_are_told(tmp_path):
    report = Started(tmp_path, a_run("exit 3")).report()
    assert (report.state, report.exit_code, report.signal, report.reason) == (
        SiteState.FAILED, 3, None, EndReason.PROGRAM_FAILED,
    )  # fmt: skip
    report = Started(tmp_path, a_run("kill -USR1 $$", claim=".fed/claims/y")).report()
    assert (report.exit_code, report.signal, report.reason) == (None, signal.SIGUSR1, EndReason.PROGRAM_FAILED)


def test_a_claim_that_is_there_stops_it_before_its_program(tmp_path):
    run = a_run("echo ran")
    assert Started(tmp_path, run).report().state is SiteState.SUCCEEDED
    second = Started(tmp_path, run)
    report = second.report()
    assert (report.reason, report.started_at, report.exit_code) == (EndReason.CLAIMED, None, None)
    assert second.output() == "ran\n"  # of the first


def test_a_program_that_is_not_there_is_told_from_one_that_fails(tmp_path):
    report = Started(tmp_path, replace(a_run(""), command=("no-such-program-here",))).report()
    assert (report.reason, report.started_at) == (EndReason.START_FAILED, None)
    assert "no-such-program-here" in report.message


def test_it_ends_with_its_walltime_though_it_is_deaf(tmp_path):
    report = Started(tmp_path, a_run("trap '' TERM; while :; do sleep 0.05; done", walltime_s=0.3)).report()
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.WALLTIME)
    assert report.ended_at - report.started_at >= 0.3


def test_a_stop_ends_it_and_what_it_started(tmp_path):
    started = Started(tmp_path, a_run("sleep 100 & echo $!; wait"))
    while not started.output():
        time.sleep(0.02)
    child = int(started.output())
    started.process.send_signal(signal.SIGTERM)
    report = started.report(status="STOPPED")
    assert (report.state, report.signal) == (SiteState.CANCELLED, signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        gone(child)


def gone(pid):
    """Raises ProcessLookupError once it is."""
    for _ in range(200):
        os.kill(pid, 0)
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            raise ProcessLookupError
        time.sleep(0.02)


def test_programs_die_with_a_runner_that_is_killed(tmp_path):
    started = Started(tmp_path, a_run("echo $$; exec sleep 100"))
    while not started.output():
        time.sleep(0.02)
    started.process.kill()
    started.process.wait()
    with pytest.raises(ProcessLookupError):
        gone(int(started.output()))


def test_what_programs_started_dies_with_a_runner_that_is_killed(tmp_path):
    started = Started(tmp_path, a_run("sleep 100 & echo $!; wait"))
    while not started.output():
        time.sleep(0.02)
    started.process.kill()
    started.process.wait()
    with pytest.raises(ProcessLookupError):
        gone(int(started.output()))


def test_what_it_leaves_behind_is_its_output_alone(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    Started(tmp_path, a_run("echo x > left; exit 0")).report()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_last_line_holds_all_that_ray_does_not_tell(tmp_path):
    started = Started(tmp_path, a_run("exit 7"))
    started.process.wait(20)
    *_, last = (started.logs / "job-driver-fed-j1-a1.log").read_text().splitlines()
    words = json.loads(last.removeprefix("@fed "))
    assert (words["code"], words["signal"], words["cancelled"]) == (7, None, False)
