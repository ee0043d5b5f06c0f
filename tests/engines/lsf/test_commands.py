"""The stand-in itself: it says what LSF's documentation says that LSF does. Pages are named in the modules that print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tests.engines.lsf.cluster import TWO_POOLS, LsfCluster
from tests.engines.lsf.mbatchd import RUNNER
from tests.engines.lsf.records import Queue

PATIENCE_S = 20.0


@pytest.fixture
def lsf(tmp_path):
    cluster = LsfCluster(tmp_path, replace(TWO_POOLS, terminate_interval_s=0.2)).start()
    yield cluster
    cluster.stop()


def submitted(lsf, *words, stdin=""):
    """The id of a job that `bsub` took."""
    said = lsf.call("bsub", *words, stdin=stdin)
    assert said.code == 0, said
    return re.fullmatch(r"Job <(\d+)> is submitted to (?:default )?queue <\w+>\.\n", said.out)[1]


def seen(lsf, *ids, fields="jobid stat exit_code exit_reason exec_host"):
    """Records of these jobs."""
    return json.loads(lsf.call("bjobs", "-a", "-json", "-o", fields, *ids).out)["RECORDS"]


def until(lsf, holds, *ids, **rest):
    deadline = time.monotonic() + PATIENCE_S
    while not holds(found := seen(lsf, *ids, **rest)):
        assert time.monotonic() < deadline, found
    return found


def over(lsf, *ids, **rest):
    return until(lsf, lambda found: all(record["STAT"] in ("DONE", "EXIT") for record in found), *ids, **rest)


def runs(lsf, *ids):
    return until(lsf, lambda found: all(record["STAT"] == "RUN" for record in found), *ids)


def test_the_json_of_bjobs_has_long_names_and_text_only(lsf):
    job = submitted(lsf, "-J", "a", "-q", "cpu", "true")
    over(lsf, job)
    text = lsf.call("bjobs", "-json", "-o", "jobid stat exit_code name exec_host", job).out
    assert text == (
        '{\n  "COMMAND":"bjobs",\n  "JOBS":1,\n  "RECORDS":[\n    {\n'
        f'      "JOBID":"{job}",\n      "STAT":"DONE",\n      "EXIT_CODE":"",\n      "JOB_NAME":"a",\n      "EXEC_HOST":"cpu-1"\n'
        "    }\n  ]\n}\n"
    )


def test_how_a_job_ended_is_told_by_code_and_reason(lsf):
    failed, killed = submitted(lsf, "exit 3"), submitted(lsf, "sleep 60")
    signalled = submitted(lsf, "kill -9 $$")
    over(lsf, failed, signalled)
    runs(lsf, killed)
    assert lsf.call("bkill", killed).out == f"Job <{killed}> is being terminated\n"
    ends = [(record["EXIT_CODE"], record["EXIT_REASON"]) for record in over(lsf, failed, signalled, killed)]
    assert ends == [
        ("3", ""),
        ("137", "TERM_EXTERNAL_SIGNAL: job killed by a signal external to LSF"),
        ("130", "TERM_OWNER: job killed by owner"),
    ]


def test_a_job_killed_before_it_started_has_no_exit_code(lsf):
    submitted(lsf, "-n", "8", "sleep 60")
    job = submitted(lsf, "true")
    lsf.call("bkill", job)
    assert over(lsf, job, fields="stat exit_code exit_reason start_time") == [
        {"STAT": "EXIT", "EXIT_CODE": "", "EXIT_REASON": "TERM_OWNER: job killed by owner", "START_TIME": ""}
    ]


def test_memory_above_its_limit_ends_a_job(lsf):
    eats = "import time; kept = bytearray(200 * 2**20); time.sleep(60)"
    job = submitted(lsf, "-M", "64", "python3", "-c", eats)
    (end,) = over(lsf, job)
    assert end["EXIT_REASON"] == "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit"


def test_a_job_that_is_deaf_is_killed_in_the_end(lsf, tmp_path):
    job = submitted(lsf, f"trap '' INT TERM; touch {tmp_path}/deaf; while :; do sleep 0.05; done")
    while not (tmp_path / "deaf").exists():
        seen(lsf, job)
    lsf.call("bkill", job)
    assert [record["EXIT_CODE"] for record in over(lsf, job)] == ["137"]


def test_an_array_is_one_id_and_many_names(lsf):
    job = submitted(lsf, "-J", "array[1-3]", "echo $LSB_JOBINDEX")
    records = over(lsf, job, fields="jobid jobindex job_name stat")
    assert [(record["JOBID"], record["JOBINDEX"], record["JOB_NAME"]) for record in records] == [
        (job, str(index), f"array[{index}]") for index in (1, 2, 3)
    ]


def test_tasks_of_a_parallel_job_are_started_by_blaunch_one_for_each_slot(lsf, tmp_path):
    launch = f"blaunch 'echo $LSF_PM_TASKID >> {tmp_path}/tasks'"
    script = f"#!/bin/sh\n#BSUB -n 6\n{launch}\necho $LSB_MCPU_HOSTS > {tmp_path}/hosts\n"
    (end,) = over(lsf, submitted(lsf, stdin=script))
    assert sorted((tmp_path / "tasks").read_text().split()) == ["1", "2", "3", "4", "5", "6"]
    assert (tmp_path / "hosts").read_text() == "cpu-1 4 cpu-2 2\n"
    assert end["EXEC_HOST"] == "4*cpu-1:2*cpu-2"


def test_gpus_are_given_by_model_and_only_once(lsf):
    first, second, third = (submitted(lsf, "-q", "gpu", "-gpu", "num=1:gmodel=H100", "sleep 60") for _ in range(3))
    records = until(lsf, lambda found: found[0]["STAT"] == "RUN", first, second, third, fields="stat gpu_alloc pend_reason")
    assert [record["STAT"] for record in records] == ["RUN", "PEND", "PEND"]
    assert records[0]["GPU_ALLOC"] == "{gpu-1:2}"
    assert records[1]["PEND_REASON"]


def test_refusals_say_why_and_submit_nothing(lsf):
    refusals = {
        ("-q", "nowhere"): "nowhere: No such queue. Job not submitted.",
        ("-R", "rusage[mem=much]"): "Bad resource requirement syntax. Job not submitted.",
        ("-app", "none"): "Specified application profile does not exist. Job not submitted.",
        ("-m", "none"): "Bad host name, host group name or cluster name. Job not submitted.",
    }
    for words, message in refusals.items():
        said = lsf.call("bsub", *words, "true")
        assert (said.code, said.out, said.err) == (255, "", f"{message}\n")
    assert lsf.call("bjobs", "-a").err == "No job found\n"


def test_a_queue_may_limit_its_jobs_and_its_users(tmp_path):
    queues = (Queue("cpu", "cpus", task_limit=4), Queue("gpu", "gpus", users=("somebody",)))
    cluster = LsfCluster(tmp_path, replace(TWO_POOLS, queues=queues)).start()
    try:
        assert "Too many tasks requested" in cluster.call("bsub", "-n", "5", "true").err
        assert cluster.call("bsub", "-q", "gpu", "true").err == "User cannot use the queue. Job not submitted.\n"
    finally:
        cluster.stop()


def test_what_is_not_there_is_told_in_the_words_of_each_command(lsf):
    assert lsf.call("bjobs").err == "No unfinished job found\n"
    assert lsf.call("bjobs", "77").err == "Job <77> is not found\n"
    assert lsf.call("bkill", "77").err == "Job <77>: No matching job found\n"
    assert lsf.call("bhist", "-l", "77").err == "No matching job found\n"
    assert seen(lsf, "77") == [{"JOBID": "77", "ERROR": "Job <77> is not found"}]


def test_jobs_leave_bjobs_after_the_clean_period_and_history_keeps_them(tmp_path):
    cluster = LsfCluster(tmp_path, replace(TWO_POOLS, clean_period_s=1.0)).start()
    try:
        job = submitted(cluster, "-J", "short", "exit 2")
        until(cluster, lambda found: "ERROR" in found[0], job)
        long = re.sub(r"\n {21}", "", cluster.call("bhist", "-l", job).out)
        assert f"Job <{job}>, Job Name <short>" in long
        assert "Exited with exit code 2. The CPU time used is" in long
        assert "Completed <exit>." in cluster.call("bacct", "-l", job).out
    finally:
        cluster.stop()


def test_what_runs_goes_on_when_mbatchd_is_killed_and_commands_wait_for_it(lsf, tmp_path):
    job = submitted(lsf, f"echo once >> {tmp_path}/journal; while [ ! -e {tmp_path}/gate ]; do sleep 0.02; done; exit 4")
    waits = submitted(lsf, "-n", "8", f"echo once >> {tmp_path}/journal")
    runs(lsf, job)
    lsf.kill_mbatchd()
    asking = subprocess.Popen([lsf.bin / "bjobs", job], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert asking.stderr.readline() == "Cannot connect to LSF. Please wait ...\n"
    (tmp_path / "gate").touch()
    lsf.start_mbatchd()
    assert asking.communicate(timeout=20)[0].startswith("JOBID")
    assert [record["EXIT_CODE"] for record in over(lsf, job, waits)] == ["4", ""]
    assert (tmp_path / "journal").read_text().split() == ["once", "once"]


def test_lines_of_wrappers_come_before_what_a_command_says(lsf):
    lsf.switch(noise=["LSF is down. Please wait ..."], esub=["Checking your project"])
    said = lsf.call("bsub", "true")
    assert said.out.splitlines()[:2] == ["LSF is down. Please wait ...", "Checking your project"]
    lsf.switch(esub_refuses="No project given")
    said = lsf.call("bsub", "true")
    assert (said.code, said.out) == (255, "")
    assert said.err.endswith("Request aborted by esub. Job not submitted.\n")


def test_a_host_that_is_lost_makes_its_jobs_unknown_until_it_returns(lsf):
    job = submitted(lsf, "-q", "gpu", "sleep 60")
    runs(lsf, job)
    lsf.lose_hosts("gpu-1")
    until(lsf, lambda found: found[0]["STAT"] == "UNKWN", job)
    assert "unavail" in lsf.call("bhosts", "-w", "gpu-1").out
    lsf.lose_hosts()
    (end,) = over(lsf, job)
    assert (end["EXIT_CODE"], end["EXIT_REASON"].split(":")[0]) == ("143", "TERM_ZOMBIE")


def test_hosts_are_shown_with_their_slots_and_states(lsf):
    submitted(lsf, "-n", "4", "sleep 60")
    lsf.close_hosts("cpu-2")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        records = json.loads(lsf.call("bhosts", "-json", "-o", "host_name status max njobs").out)["RECORDS"]
        if records[0]["NJOBS"] == "4" or time.monotonic() > deadline:
            break
    assert records == [
        {"HOST_NAME": "cpu-1", "STATUS": "closed_Full", "MAX": "4", "NJOBS": "4"},
        {"HOST_NAME": "cpu-2", "STATUS": "closed_Adm", "MAX": "4", "NJOBS": "0"},
        {"HOST_NAME": "gpu-1", "STATUS": "ok", "MAX": "4", "NJOBS": "0"},
    ]


def test_a_run_limit_is_told_by_sigusr2_and_then_by_a_kill(tmp_path):
    # -W counts minutes, so the limit is given to the runner itself
    (tmp_path / "script").write_text("trap 'echo warned' USR2\nwhile :; do sleep 0.05; done\n")
    job = {"id": 1, "name": "j", "user": "u", "queue": "q", "cluster": "c", "host": "h", "command": "x", "cwd": str(tmp_path)}
    job |= {"env": {"PATH": "/usr/bin:/bin"}, "output": "", "error": "", "input": "", "is_script": False, "reasons": {}}
    job |= {"run_limit_s": 0.3, "mem_limit_mb": None, "terminate_interval_s": 0.2, "run_grace_s": 0.5}
    (tmp_path / "job.json").write_text(json.dumps(job))
    subprocess.run([sys.executable, "-IS", RUNNER, tmp_path], check=True, timeout=20)
    end = json.loads((tmp_path / "end.json").read_text())
    assert (end["code"], end["signal"], end["reason"]) == (130, 2, "TERM_RUNLIMIT")
    assert (tmp_path / "out").read_text().endswith("warned\n")
