"""A run as the object that Kubernetes takes, and the settings that shape it."""

import json
import subprocess
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from pydantic import ValidationError

from adapters.base import Run, Spark
from adapters.kubernetes.codec import FEDERATION, JOBS, NODES, PODS, POOL, SPEC, job_of, refusal, spec_hash
from adapters.kubernetes.script import script_of
from adapters.kubernetes.settings import KubernetesSettings, check
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

POOLS = (Pool("cpu", 2, Resources(4, 8)), Pool("gpu", 1, Resources(4, 8, (("a100", 2),))))
SITE = Site("ams", Engine("kubernetes"), POOLS, Storage("file:///srv/ams"))


def settings(**given):
    return KubernetesSettings.model_validate({"kubeconfig": "/k", "image": "site:1", **given})


def a_run(**given):
    defaults = {"tasks": 1, "per_task": Resources(1, 0.5), "pool": "cpu", "command": ("true",), "claim": ".fed/claims/fed-j1-a1"}
    return Run("fed-j1-a1", "fed", "j1", "vision", **{**defaults, **given})


def pod_of(run, **given):
    return job_of(run, SITE, settings(**given))["spec"]["template"]["spec"]


def test_a_gang_is_an_indexed_job_in_which_nothing_is_tried_again():
    job = job_of(a_run(tasks=3), SITE, settings(namespaces={"vision": "team-v"}))
    assert (job["metadata"]["name"], job["metadata"]["namespace"]) == ("fed-j1-a1", "team-v")
    assert job["metadata"]["labels"] == {FEDERATION: "fed"}
    assert job["metadata"]["annotations"][POOL] == "cpu"
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert spec["backoffLimitPerIndex"] == 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_a_run_is_known_by_what_it_is_and_not_by_what_settings_have_become():
    run = a_run()
    assert spec_hash(run) == spec_hash(a_run()) == spec_hash(replace(run, native_id="77"))
    assert spec_hash(run) != spec_hash(replace(run, tasks=2))
    one, two = (job_of(run, SITE, settings(image=image))["metadata"]["annotations"][SPEC] for image in ("a", "b"))
    assert one == two


def test_what_a_task_needs_is_asked_for():
    # 2 cpus at half a cpu each: 1000m; 1.5 GiB: 1610612736 bytes
    given = {"cpu_request": 0.5, "gpus": {"a100": {"resource": "nvidia.com/gpu", "labels": {"model": "a100"}}}}
    spec = pod_of(a_run(pool="gpu", per_task=Resources(2, 1.5, (("a100", 2),))), **given, pools={"gpu": {"labels": {"p": "g"}}})
    resources = spec["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "1000m", "memory": "1610612736", "nvidia.com/gpu": "2"}
    assert resources["limits"] == {"memory": "1610612736", "nvidia.com/gpu": "2"}
    assert spec["nodeSelector"] == {"p": "g", "model": "a100"}


def test_settings_reach_the_pod():
    spec = pod_of(
        a_run(image="job:2", walltime_s=90.5), mount="/data", storage={"claim": "shared"}, run_as={"user": 7, "group": 8},
        service_account="runner", priority_class="low", image_pull_secrets=["key"], grace_s=5, gather_s=60,
        mounts=[{"host_path": "/opt", "at": "/opt"}], pools={"cpu": {"tolerations": [{"key": "a", "operator": "Exists"}]}},
    )  # fmt: skip
    main = spec["containers"][0]
    assert main["image"] == "job:2"
    assert spec["activeDeadlineSeconds"] == 156 + 3600  # 90.5 + 60 + 5 rounded up, and an hour
    assert spec["volumes"][0] == {"name": "storage", "persistentVolumeClaim": {"claimName": "shared"}}
    assert main["volumeMounts"][0] == {"name": "storage", "mountPath": "/data"}
    assert main["volumeMounts"][1] == {"name": "mount-0", "mountPath": "/opt", "readOnly": True}
    assert spec["securityContext"] == {"runAsUser": 7, "runAsGroup": 8}
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("runner", "low")
    assert spec["imagePullSecrets"] == [{"name": "key"}]
    assert spec["tolerations"] == [{"key": "a", "operator": "Exists"}]
    assert spec["terminationGracePeriodSeconds"] == 5


def test_the_sites_image_is_for_jobs_that_name_none():
    assert pod_of(a_run())["containers"][0]["image"] == "site:1"
    assert "image" in refusal(a_run(), SITE, settings(image=None)).reason


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (a_run(pool="nowhere"), "no pool nowhere"),
        (a_run(per_task=Resources(5, 1)), "5 cpus"),
        (a_run(tasks=9), "9 tasks"),
        (a_run(pool="gpu", per_task=Resources(1, 1, (("a100", 3),))), "3 a100"),
        (a_run(spark=Spark("x.py")), "Spark"),
        (a_run(script="x" * 10**6), "bytes"),
    ],
)
def test_what_can_never_run_is_refused_with_the_reason(run, words):
    assert words in refusal(run, SITE, settings()).reason


def test_what_can_run_is_not_refused():
    assert refusal(a_run(tasks=8), SITE, settings()) is None


@pytest.mark.parametrize("script", ["echo $HOME $$ $(id) '$(JOB)'\n", "#!/bin/sh\n: " + "$$x" * 60_000])
def test_kubernetes_gives_the_script_back_as_it_was(script):
    """`$$` is read as `$`, and each argument has less than 128 KiB."""
    run = a_run(script=script)
    command = pod_of(run)["containers"][0]["command"]
    assert max(len(part.encode()) for part in command) < 2**17
    seen = [part.replace("$$", "$") for part in command]
    whole = seen[2] if len(seen) == 3 else "".join(seen[4:])
    given = settings()
    assert whole == script_of(run, PurePosixPath("/srv/ams"), given.grace_s, given.gather_s)


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_script_is_one_that_shells_read(tmp_path, tasks, shell):
    path = tmp_path / "script"
    path.write_text(script_of(a_run(tasks=tasks, walltime_s=1.5, env={"A": "b'c"}), PurePosixPath("/srv/a b"), 30, 600))
    assert subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False).stderr == ""


def test_paths_of_objects():
    assert JOBS.path("team", "a") == "/apis/batch/v1/namespaces/team/jobs/a"
    assert PODS.path("team", "a", "log") == "/api/v1/namespaces/team/pods/a/log"
    assert NODES.path(None) == "/api/v1/nodes"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kubeconfig": None}, "one of kubeconfig"),
        ({"in_cluster": True}, "one of kubeconfig"),
        ({"kubeconfig": None, "in_cluster": True, "context": "a"}, "contexts"),
        ({"storage": {}}, "one of host_path"),
        ({"scheduler": "kueue"}, "queue"),
        ({"capacity": "queue"}, "queues"),
        ({"kubeconfig": None, "server": {"url": "https://k", "token": "abc"}}, "token"),
        ({"namespace": "Not A Name"}, "namespace"),
        ({"tpyo": 1}, "tpyo"),
    ],
)
def test_settings_that_make_no_sense_are_told_with_the_cure(given, words):
    with pytest.raises(ValidationError, match=words):
        settings(**given)


def test_settings_must_fit_their_site():
    with pytest.raises(ValueError, match=r"pools\.fpga"):
        check(SITE, settings(pools={"fpga": {}}))
    elsewhere = replace(SITE, storage=Storage("s3://bucket/ams"))
    with pytest.raises(ValueError, match="storage"):
        check(elsewhere, settings())
    check(elsewhere, settings(storage={"claim": "shared"}, mount="/data"))
    assert json.dumps(job_of(a_run(), elsewhere, settings(storage={"claim": "shared"}, mount="/data")))
