"""A run with a Spark application: its order, its properties, and what a site objects to."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from adapters.base import Run, Spark
from adapters.yarn.codec import objection, order_of, submission, tags_of
from adapters.yarn.master.driver import words_of
from adapters.yarn.master.staging import Place
from adapters.yarn.settings import SparkSettings, YarnSettings
from adapters.yarn.spark import OURS, heap_mib, properties_of, properties_text
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

STORAGE = PurePosixPath("/srv/site")
SITE_SPARK = SparkSettings(home="/opt/spark", python="/opt/python/bin/python3")
SETTINGS = YarnSettings(resource_manager=("http://rm:8088",), labels={"big": "big-nodes"}, spark=SITE_SPARK)
SITE = Site(
    "ams", Engine("yarn"), (Pool("cpu", 2, Resources(4, 8)), Pool("big", 1, Resources(4, 8))), Storage("file:///srv/site")
)
SPARK = Spark(
    "apps/count.py", arguments=("it's", "$HOME"), executors=2, executor_memory_gib=2.0, conf={"spark.ui.enabled": "false"}
)
RUN = Run("fed-j1-a1", "fed", "j1", "default", 1, Resources(1, 1), "cpu", (), claim=".fed/claims/fed-j1-a1", spark=SPARK)


def properties(run: Run = RUN, settings: YarnSettings = SETTINGS) -> dict[str, str]:
    assert run.spark
    return dict(properties_of(run, run.spark, None, settings, SITE_SPARK))


def refusal(settings: YarnSettings = SETTINGS, **fields: object) -> str:
    spark = {name: fields.pop(name) for name in list(fields) if name in Spark.__slots__}
    return objection(replace(RUN, **fields, spark=replace(SPARK, **spark)), SITE, STORAGE, settings) or ""


def test_spark_is_one_application_of_ours_whose_driver_is_its_first_container():
    order = order_of(RUN, STORAGE, SETTINGS)
    body = submission(RUN, order, SETTINGS, "the master")
    assert order.masters_itself
    assert ".fed/claims/fed-j1-a1" in order.claim
    assert (body["resource"], body["max-app-attempts"]) == ({"memory": 1024, "vCores": 1}, 1)
    assert "fed-tasks:1" in tags_of(RUN)


@pytest.mark.parametrize(
    ("file", "is_run_by"),
    [
        (
            "apps/count.py",
            ["--class org.apache.spark.deploy.PythonRunner", '--primary-py-file "$fed_file"', "/srv/site/apps/count.py"],
        ),
        (
            "apps/count.jar",
            ["--class org.Count", '--jar "$fed_file"', "spark.yarn.user.jar=local\\u003a/srv/site/apps/count.jar"],
        ),
        ("hdfs://nn/count.jar", ["FsShell -get hdfs://nn/count.jar", "spark.jars=count.jar", 'fed_file="$PWD"/count.jar']),
    ],
)
def test_a_file_is_run_by_spark_s_own_master_with_the_driver_in_it(file, is_run_by):
    main_class = "org.Count" if file.endswith(".jar") else None
    order = order_of(replace(RUN, spark=replace(SPARK, file=file, main_class=main_class)), STORAGE, SETTINGS)
    assert [words for words in is_run_by if words not in order.task] == []
    assert "--arg 'it'\"'\"'s' --arg '$HOME'" in order.task
    assert subprocess.run(["sh", "-n", "-c", order.task], check=False).returncode == 0


def test_the_environment_of_a_run_is_that_of_its_driver_alone(tmp_path):
    home, java, container = tmp_path / "spark", tmp_path / "java/bin/java", tmp_path / "container"
    for folder in (home / "jars", java.parent, container, tmp_path / "apps"):
        folder.mkdir(parents=True)
    (tmp_path / "apps/count.py").touch()
    java.write_text('#!/bin/sh\necho "$PATH $SPARK_HOME $FED_TASK"\nexit 3\n')
    java.chmod(0o755)
    settings = SETTINGS.model_copy(update={"spark": SITE_SPARK.model_copy(update={"home": str(home)})})
    run = replace(RUN, env={"PATH": "/nowhere", "SPARK_HOME": "/mine"}, outputs={"counts": "out"})
    words = ["sh", "-c", order_of(run, PurePosixPath(tmp_path), settings).task, "sh", "0"]
    environment = {"PATH": "/usr/bin:/bin", "JAVA_HOME": str(java.parent.parent)}
    done = subprocess.run(words, cwd=container, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, f"/nowhere {home} 0\n", "")
    assert (container / "tmp").is_dir()
    assert not (tmp_path / ".fed/spark" / run.name).exists()  # what its executors saw is removed by our own rm


def test_an_executor_s_container_is_as_large_as_was_asked_for_heap_and_all():
    found = properties()
    # 2 GiB: 384 MiB beside the heap are more than a tenth
    assert (found["spark.executor.memory"], found["spark.executor.memoryOverhead"]) == ("1664m", "384m")
    assert (found["spark.executor.instances"], found["spark.executor.cores"]) == ("2", "1")
    assert heap_mib(10) == 10240 - 1024


def test_a_job_s_properties_are_kept_where_they_are_its_own_to_set():
    found = properties(replace(RUN, spark=replace(SPARK, conf={"spark.log.level": "INFO", "spark.app.name": "mine"})))
    assert (found["spark.log.level"], found["spark.app.name"]) == ("INFO", "mine")


def test_what_we_set_over_a_job_s_properties_is_refused_where_it_is_sent():
    found = properties(replace(RUN, spark=replace(SPARK, conf={})), SETTINGS.model_copy(update={"scheduler_address": "rm:8030"}))
    defaults = {"spark.app.name", "spark.hadoop.fs.defaultFS", "spark.log.level", "spark.pyspark.python"}
    forced = {name for name in found.keys() - defaults if not name.startswith("spark.executorEnv.")}
    assert [name for name in forced if not name.startswith(OURS)] == []


def test_executors_run_in_the_pool_s_partition_with_the_run_s_environment():
    found = properties(replace(RUN, pool="big", env={"LANG": "C"}))
    assert found["spark.yarn.executor.nodeLabelExpression"] == "big-nodes"
    assert (found["spark.executorEnv.LANG"], found["spark.executorEnv.FED_JOB"]) == ("C", "j1")
    assert "spark.yarn.executor.nodeLabelExpression" not in properties()


def test_links_to_inputs_are_where_executors_see_them():
    order = order_of(replace(RUN, inputs={"words": "data/words"}), STORAGE, SETTINGS)
    assert "spark.executorEnv.FED_INPUTS=/srv/site/.fed/spark/fed-j1-a1/inputs" in order.task
    assert "fed_own=/srv/site/.fed/spark/fed-j1-a1\n" in order.task
    assert 'rm -rf -- "$fed_own"' in order.task


def test_properties_are_written_so_that_nothing_in_them_means_anything():
    assert properties_text({"a b": "x=\\1\n€𝄞"}) == "a\\u0020b=x\\u003d\\u005c1\\u000a\\u20ac\\ud834\\udd1e\n"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"settings": SETTINGS.model_copy(update={"spark": None})}, "has no Spark"),
        ({"file": "apps/count.sh"}, "neither a Python file"),
        ({"file": "apps/count.jar"}, "main_class"),
        ({"executor_memory_gib": 0.5}, "1 GiB at least"),
        ({"per_task": Resources(1, 0.5)}, "1 GiB at least"),
        ({"per_task": Resources(1, 1, (("a100", 1),))}, "no GPUs"),
        ({"conf": {"spark.executor.instances": "9"}}, "spark.executor.instances is not the job's"),
        ({"conf": {"spark.dynamicAllocation.enabled": "true"}}, "not the job's"),
        # the pool has two nodes of 8 GiB: four of 3 GiB, and these are five
        ({"executors": 4, "executor_memory_gib": 3.0}, "never has 5 times"),
        ({"executor_cpus": 5}, "never has 3 times"),
        ({}, ""),
    ],
)
def test_what_cannot_run_is_refused_in_words(fields, words):
    found = refusal(**fields)
    assert words in found
    assert bool(words) == bool(found)


def test_storage_that_no_node_mounts_is_refused():
    assert "not mounted" in (objection(RUN, SITE, Place(("nn:9870",), "fed", "/fed"), SETTINGS) or "")


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        (
            "26/11/23 09:00:00 ERROR ApplicationMaster: User application exited with status 9\n",
            "User application exited with status 9",
        ),
        (
            "26/11/23 09:00:00 ERROR ApplicationMaster: User class threw exception: \njava.lang.Error: bad\n\tat Main\n",
            "User class threw exception: java.lang.Error: bad",
        ),
        (
            "26/11/23 09:00:00 ERROR ApplicationMaster: User application exited with status 7\n"
            "26/11/23 09:00:00 ERROR ApplicationMaster: Uncaught exception: \norg.apache.spark.SparkException: awaitResult\n",
            "User application exited with status 7",
        ),
        ("killed\n", ""),
    ],
)
def test_why_it_failed_is_what_spark_s_master_said_of_the_program(printed, words):
    assert words_of(printed) == words
