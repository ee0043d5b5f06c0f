"""Spark applications on a real YARN, with a real Spark: one application each, executors and all, that ends as its program did."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.base import Accepted, EndReason, Refused, Run, SiteAdapter, SiteState, Spark
from tests.contract.adapters import CALL, a_run, finish, listed, over, ref, text, until
from tests.contract.yarn_kind import YarnKind
from tests.engines.yarn.cluster import missing, spark_home
from topology.resources import Resources

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.skipif(spark_home() is None, reason="Spark is not there: run `make engines`"),
    pytest.mark.timeout(420),
]
QUICK = {f"spark.{part}.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1" for part in ("driver", "executor")}
BEGIN = """
import os, sys, time
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
context = spark.sparkContext
"""
COUNT = """
context.parallelize(range(2), 2).map(lambda _: time.sleep(1)).collect()
words = context.textFile(os.environ["FED_INPUTS"] + "/words/words.txt", 4).flatMap(str.split)
counts = dict(words.map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b).collect())
context.parallelize(sorted(counts.items()), 1).saveAsTextFile(os.environ["FED_OUTPUTS"] + "/counts/text")
where = set(context.parallelize(range(8), 8).map(lambda _: os.environ["CONTAINER_ID"]).collect())
print("counted", sys.argv[1], sorted(counts.items()), "by", len(where), "executors", flush=True)
"""


DOUBLED = """
import org.apache.spark.sql.SparkSession
object Doubled {
  def twice(number: Int): Int = 2 * number
  def main(arguments: Array[String]): Unit = {
    val context = SparkSession.builder().getOrCreate().sparkContext
    println("doubled by executors: " + context.parallelize(Seq(arguments(0).toInt), 1).map(twice).first())
  }
}
"""


def a_jar(folder: Path) -> Path:
    """A program in Scala, by the compiler that Spark has for its shell."""
    (folder / "Doubled.scala").write_text(DOUBLED)
    jar, jars = folder / "doubled.jar", f"{spark_home()}/jars/*"
    compiler = ["java", "-XX:TieredStopAtLevel=1", "-cp", jars, "scala.tools.nsc.Main", "-usejavacp", "-d", str(jar)]
    subprocess.run([*compiler, str(folder / "Doubled.scala")], check=True)
    return jar


class SparkKind(YarnKind):
    """One application is three Java processes, that use some 25 s of a core before anything happens."""

    patience_s = 240.0


@pytest.fixture
async def kind(tmp_path: Path) -> AsyncIterator[YarnKind]:
    kind = SparkKind(tmp_path)
    yield kind
    await kind.end()


@pytest.fixture
async def adapter(kind: YarnKind) -> AsyncIterator[SiteAdapter]:
    adapter = kind.adapter(spark={"home": str(spark_home())})
    yield adapter
    await adapter.close()


def an_application(kind: YarnKind, program: str, name: str = "app", walltime_s: float | None = None, **rest: Any) -> Run:
    """A driver of 1 GiB and two executors of one cpu and 1 GiB."""
    spark = Spark(f"apps/{name}.py", conf=QUICK, **rest.pop("spark", {}))
    kind.put(spark.file, BEGIN + textwrap.dedent(program))
    return a_run(kind, name, command=(), per_task=Resources(1, 1), spark=spark, walltime_s=walltime_s, **rest)


def containers(kind: YarnKind) -> int:
    return sum(node["numContainers"] for node in kind.cluster.seen_nodes())


async def running_with_executors(kind: YarnKind, adapter: SiteAdapter, run: Run) -> None:
    """Returns once it has its driver and two executors."""
    await until(kind, adapter, lambda reports: reports[run.name].state is SiteState.RUNNING)
    async with asyncio.timeout(kind.patience_s):
        while containers(kind) < 3:
            await kind.pause()


async def nothing_runs(kind: YarnKind) -> float:
    """Seconds until no node has a container any more."""
    began = time.monotonic()
    async with asyncio.timeout(kind.patience_s):
        while containers(kind):
            await kind.pause()
    return time.monotonic() - began


async def test_words_are_counted_by_two_executors_with_inputs_outputs_and_logs(kind, adapter):
    kind.put("data/words/words.txt", "to be or not to be\n" * 100)
    run = an_application(
        kind, COUNT, spark={"arguments": ("it's 1",)}, inputs={"words": "data/words"}, outputs={"counts": ".fed/outputs/counts"}
    )
    report = await finish(kind, adapter, run)
    printed = await text(adapter, run)
    assert (report.state, report.exit_code) == (SiteState.SUCCEEDED, 0), printed
    words = [("be", 200), ("not", 100), ("or", 100), ("to", 200)]
    assert f"counted it's 1 {words} by 2 executors" in printed
    assert kind.content(".fed/outputs/counts/text/part-00000").split("\n") == [*map(str, words), ""]
    await nothing_runs(kind)  # YARN has the end from Spark, before the driver's script has tidied up
    assert not list((kind.storage / ".fed" / "spark").iterdir())
    assert await text(adapter, run, offset=len(printed.encode()) - 10) == printed[-10:]


async def test_a_program_that_fails_is_told_of_with_its_exit_code_and_words(kind, adapter):
    run = an_application(kind, "print('about to', flush=True); sys.exit(9)")
    report = await finish(kind, adapter, run)
    assert (report.state, report.reason, report.exit_code) == (SiteState.FAILED, EndReason.PROGRAM_FAILED, 9)
    assert report.message == "User application exited with status 9"
    assert "about to" in await text(adapter, run)
    await nothing_runs(kind)


async def test_a_program_that_fails_before_it_has_a_context_is_told_of_by_its_own_exit_code(kind, adapter):
    run = an_application(kind, "")
    kind.put("apps/app.py", "import sys; sys.exit(7)")
    report = await finish(kind, adapter, run)
    assert (report.state, report.reason, report.exit_code) == (SiteState.FAILED, EndReason.PROGRAM_FAILED, 7)
    assert report.message == "User application exited with status 7"


async def test_an_exception_of_a_task_on_an_executor_is_a_failed_program(kind, adapter):
    run = an_application(kind, "context.parallelize([1]).map(lambda one: one / 0).collect()")
    report = await finish(kind, adapter, run)
    assert (report.state, report.reason, report.exit_code) == (SiteState.FAILED, EndReason.PROGRAM_FAILED, 1)
    assert "ZeroDivisionError" in await text(adapter, run)


async def test_what_is_cancelled_leaves_no_executors(kind, adapter):
    run = an_application(kind, "context.parallelize(range(2), 2).map(lambda _: time.sleep(600)).collect()")
    await adapter.submit([run], CALL)
    await running_with_executors(kind, adapter, run)
    await adapter.cancel([ref(run)], CALL)
    (report,) = await over(kind, adapter, run)
    assert report.state is SiteState.CANCELLED
    await nothing_runs(kind)


async def test_the_walltime_ends_driver_and_executors(kind, adapter):
    run = an_application(kind, "time.sleep(600)", walltime_s=20)
    report = await finish(kind, adapter, run)
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.WALLTIME)
    await nothing_runs(kind)


async def test_a_run_that_is_submitted_again_happens_once(kind, adapter):
    run = an_application(kind, "open(os.environ['FED_OUTPUTS'] + '/marks/starts', 'a').write('x')", outputs={"marks": "marks"})
    first = (await adapter.submit([run], CALL))[run.name]
    another = kind.adapter(spark={"home": str(spark_home())})
    again = (await another.submit([run], CALL))[run.name]
    await another.close()
    assert first == again
    assert isinstance(first, Accepted)
    (report,) = await over(kind, adapter, run)
    assert report.state is SiteState.SUCCEEDED
    assert (await adapter.submit([run], CALL))[run.name] == first
    assert kind.content("marks/starts") == "x"
    named = [app for app in kind.cluster.ask("GET", "/ws/v1/cluster/apps")["apps"]["app"] if app["name"] == run.name]
    assert len(named) == 1
    assert len((await listed(kind, adapter, run)).reports) == 1


async def test_a_claim_that_is_taken_keeps_the_driver_from_starting(kind, adapter):
    run = an_application(kind, "open(os.environ['FED_OUTPUTS'] + '/marks/starts', 'a').write('x')", outputs={"marks": "marks"})
    kind.claim(run.claim)
    report = await finish(kind, adapter, run)
    assert (report.state, report.reason, report.started_at) == (SiteState.FAILED, EndReason.CLAIMED, None)
    assert not (kind.storage / "marks" / "starts").exists()


async def test_a_jar_runs_by_its_class_from_storage_and_from_a_url(kind, adapter, tmp_path):
    jar = await asyncio.to_thread(a_jar, tmp_path)
    (kind.storage / "apps").mkdir()
    shutil.copy(jar, kind.storage / "apps" / "doubled.jar")
    for name, file in {"stored": "apps/doubled.jar", "fetched": f"file://{jar}"}.items():
        spark = Spark(file, main_class="Doubled", arguments=("21",), conf=QUICK)
        run = a_run(kind, name, command=(), per_task=Resources(1, 1), spark=spark)
        report = await finish(kind, adapter, run)
        printed = await text(adapter, run)
        assert report.state is SiteState.SUCCEEDED, printed
        assert "doubled by executors: 42" in printed


async def test_a_file_that_is_not_there_is_a_failed_start(kind, adapter):
    run = a_run(kind, "none", command=(), per_task=Resources(1, 1), spark=Spark("apps/none.py"))
    report = await finish(kind, adapter, run)
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.START_FAILED)
    assert report.message == "there is no file apps/none.py in the site's storage"


async def test_a_site_without_spark_refuses(kind):
    adapter = kind.adapter()
    run = a_run(kind, "app", command=(), per_task=Resources(1, 1), spark=Spark("apps/app.py"))
    outcome = (await adapter.submit([run], CALL))[run.name]
    await adapter.close()
    assert isinstance(outcome, Refused)
    assert "has no Spark" in outcome.reason
