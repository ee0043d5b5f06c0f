"""Our runs as what bsub is given: its words, its script, and what it says of them."""

import subprocess
from dataclasses import replace

import pytest

from adapters.base import Accepted, Refused, Run, Spark, Unknown
from adapters.lsf.codec import described, description, objection, outcome, requirement, submission
from adapters.lsf.script import unspoken
from adapters.lsf.settings import LsfSettings, mount_of
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

POOLS = (Pool("cpu", 2, Resources(4, 8)), Pool("gpu", 1, Resources(8, 16, (("a100", 2), ("h100", 1)))))


def a_run(**rest):
    defaults = {"tasks": 1, "per_task": Resources(1, 0.5), "pool": "cpu", "command": ("true",)}
    return Run("fed-j1-a2", "fed", "j1", "vision", **{**defaults, **rest})


def words(run, **settings):
    given = submission(run, LsfSettings.model_validate(settings))
    pairs = [word for word in given if word != "-rn"]
    return dict(zip(pairs[::2], pairs[1::2], strict=False)), given


def test_a_run_is_a_job_of_its_name_that_says_whose_it_is_and_is_never_run_again():
    options, given = words(a_run())
    assert (options["-J"], options["-q"], options["-n"], options["-o"]) == ("fed-j1-a2", "cpu", "1", "/dev/null")
    assert options["-Jd"] == "fedbroker fed cpu cpus=1 gib=0.5 slots=1 gpus="
    assert "-rn" in given
    assert "-W" not in given


@pytest.mark.parametrize(
    ("run", "settings", "told"),
    [
        # a slot for each cpu; 2 GiB = 2048 MB over 4 slots = 512 MB a slot
        ({"per_task": Resources(4, 2)}, {}, "rusage[mem=512MB/task] span[hosts=1]"),
        ({"per_task": Resources(4, 2)}, {"memory_unit": "KB"}, "rusage[mem=524288/task] span[hosts=1]"),
        ({"per_task": Resources(4, 2)}, {"memory_unit": "GB"}, "rusage[mem=1/task] span[hosts=1]"),
        ({"tasks": 6}, {}, "rusage[mem=512MB/task]"),
        ({"tasks": 3, "per_task": Resources(2, 1)}, {}, "rusage[mem=512MB/task] span[block=2]"),
        ({"tasks": 3, "per_task": Resources(2, 1)}, {"cpus": "affinity"}, "rusage[mem=1024MB/task] affinity[core(2)]"),
        ({}, {"pools": {"cpu": {"select": "mg"}}}, "select[mg] rusage[mem=512MB/task] span[hosts=1]"),
        ({"per_task": Resources(0.5)}, {}, "span[hosts=1]"),
    ],
)
def test_what_a_task_needs_is_asked_for_per_slot_with_its_unit(run, settings, told):
    assert requirement(a_run(**run), LsfSettings.model_validate(settings)) == told


def test_slots_of_a_gang_are_those_of_all_its_tasks():
    assert words(a_run(tasks=3, per_task=Resources(2, 1)))[0]["-n"] == "6"
    assert words(a_run(tasks=3, per_task=Resources(2, 1)), cpus="affinity")[0]["-n"] == "3"


@pytest.mark.parametrize(("walltime_s", "minutes"), [(0.3, "2"), (60, "2"), (61, "3"), (7200, "121")])
def test_lsf_ends_what_the_script_itself_did_not(walltime_s, minutes):
    assert words(a_run(walltime_s=walltime_s))[0]["-W"] == minutes


def test_gpus_are_asked_for_by_lsfs_name_of_their_model():
    models = {"a100": "NVIDIAA100_SXM4_80GB"}
    one = a_run(pool="gpu", per_task=Resources(1, 1, (("a100", 2),)))
    gang = a_run(pool="gpu", tasks=2, per_task=Resources(1, 1, (("h100", 1),)))
    assert words(one, gpus=models)[0]["-gpu"] == "num=2:gmodel=NVIDIAA100_SXM4_80GB:j_exclusive=yes"
    assert words(gang, gpus=models)[0]["-gpu"] == "num=1/task:gmodel=h100:j_exclusive=yes"


def test_a_tenant_goes_before_its_pool_and_a_star_is_for_those_not_named():
    settings = {
        "pools": {"cpu": {"queue": "normal", "app": "any", "hosts": ["hg1", "hostA"]}},
        "tenants": {"vision": {"queue": "vision", "project": "p1", "user_group": "g"}, "*": {"project": "p0"}},
        "reservation": "user1#0",
        "options": ["-x"],
    }
    options, given = words(a_run(), **settings)
    named = {"-q": "vision", "-P": "p1", "-app": "any", "-G": "g", "-U": "user1#0", "-m": "hg1 hostA"}
    assert options.items() >= named.items()
    assert given[-1] == "-x"
    other = submission(replace(a_run(), tenant="text"), LsfSettings.model_validate(settings))
    assert [other[other.index(name) + 1] for name in ("-q", "-P")] == ["normal", "p0"]


@pytest.mark.parametrize(
    ("run", "settings", "words"),
    [
        ({"pool": "nowhere"}, {}, "no pool nowhere"),
        ({"per_task": Resources(5, 1)}, {}, "no node of pool cpu has 5 cpus"),
        ({"tasks": 9}, {}, "holds 8 tasks"),
        ({"pool": "gpu", "per_task": Resources(1, 1, (("h100", 2),))}, {}, "no node of pool gpu"),
        ({"pool": "gpu", "tasks": 2, "per_task": Resources(2, 1, (("a100", 1),))}, {}, "set cpus: affinity"),
        ({"pool": "gpu", "per_task": Resources(1, 1, (("a100", 1), ("h100", 1)))}, {}, "GPUs of one type"),
        ({"pool": "gpu", "tasks": 2, "per_task": Resources(2, 1, (("a100", 1),))}, {"cpus": "affinity"}, ""),
        ({"image": "busybox"}, {}, "neither images"),
        ({"spark": Spark("a.py")}, {}, "neither images"),
        ({"tasks": 8}, {}, ""),
    ],
)
def test_what_never_fits_is_refused_with_the_reason(run, settings, words):
    told = objection(a_run(**run), POOLS, LsfSettings.model_validate(settings))
    assert words in told
    assert bool(words) == bool(told)


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        (0, "Job <806290> is submitted to queue <batch>.\n", Accepted("806290")),
        (0, "Job <7> is submitted to default queue <normal>.\n", Accepted("7")),
        (0, "Checking project...\n  <ok> quota 4%\nJob <12> is submitted to queue <gpu>.\n", Accepted("12")),
        (0, "Cannot connect to LSF. Please wait ...\nJob <12> is submitted to queue <gpu>.\n", Accepted("12")),
        (255, "nowhere: No such queue. Job not submitted.\n", Refused("bsub: nowhere: No such queue. Job not submitted.")),
        (255, "Request aborted by esub. Job not submitted.\n", Refused("bsub: Request aborted by esub. Job not submitted.")),
    ],
)
def test_what_bsub_says_of_a_job(code, text, told):
    assert outcome(code, text) == told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Failed in an LSF library call: Slave LIM configuration is not ready yet. Job not submitted.",
        "Pending job threshold reached. Job not submitted.",
        "LSF is down. Please wait ...",
        "<html><body>502</body></html>",
    ],
)
def test_what_is_true_for_now_only_is_no_refusal(text):
    assert isinstance(outcome(255, text), Unknown)


def test_bsub_finds_no_options_of_its_own_in_a_users_text():
    body = "#!/bin/sh\n#BSUB -q other\necho it\\'s\n"
    quoted = "'" + body.replace("'", "'\"'\"'") + "'"
    script = unspoken(f"printf %s {quoted}")
    assert not [line for line in script.splitlines() if line.startswith("#BSUB")]
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == body


def test_a_description_is_read_back():
    run = a_run(pool="gpu", tasks=2, per_task=Resources(2, 0.5, (("a100", 1), ("h100", 1))))
    assert described(description(run, 2)) == ("fed", "gpu", run.per_task, 2)
    assert described("my own job")[0] == ""


def test_the_mount_is_the_storages_path_or_must_be_told():
    site = Site("ams", Engine("lsf"), POOLS, Storage("file:///srv/a%20b"))
    assert str(mount_of(site, LsfSettings())) == "/srv/a b"
    far = Site("ams", Engine("lsf"), POOLS, Storage("sftp://login/gpfs"))
    with pytest.raises(ValueError, match=r"engine\.mount"):
        mount_of(far, LsfSettings())
    assert str(mount_of(far, LsfSettings(mount="/gpfs"))) == "/gpfs"
