"""A Spark application as the task of a run: Spark's own application master with the driver in it, below ours. Pure.

Modes and properties: https://spark.apache.org/docs/latest/running-on-yarn.html. The arguments are those that Spark's client gives
to `org.apache.spark.deploy.yarn.ApplicationMaster` (resource-managers/yarn/.../Client.scala, createContainerLaunchContext).
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import quote

from adapters.base import SPARK_LEAST_GIB, EndReason, Run, Spark
from adapters.shell import LEAVE, ready_lines, variable_lines
from adapters.yarn.master.application import Order
from adapters.yarn.scripts import LEAVING, Storage
from adapters.yarn.settings import SparkSettings, YarnSettings
from topology.resources import Resources

MASTER = "org.apache.spark.deploy.yarn.ApplicationMaster"
PYTHON_RUNNER = "org.apache.spark.deploy.PythonRunner"
PROPERTIES = "spark.properties"
OURS = (
    "spark.driver.cores",
    "spark.driver.memory",
    "spark.driver.resource.",
    "spark.dynamicAllocation.",
    "spark.executor.cores",
    "spark.executor.instances",
    "spark.executor.memory",
    "spark.executor.pyspark.memory",
    "spark.executor.resource.",
    "spark.hadoop.yarn.",
    "spark.master",
    "spark.memory.offHeap.",
    "spark.submit.",
    "spark.yarn.",
)
"""What properties begin with that are not a job's to set: they would change what its site has promised to it, or its end."""
_OPENED = (
    *(f"java.{name}" for name in ("lang", "lang.invoke", "lang.reflect", "io", "net", "nio")),
    *(f"java.util{name}" for name in ("", ".concurrent", ".concurrent.atomic")),
    *("jdk.internal.ref", "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
)
JAVA_OPTIONS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "--add-modules=jdk.incubator.vector",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
    "--enable-native-access=ALL-UNNAMED",
    "-Djdk.reflect.useDirectMethodHandle=false",
    "-Dio.netty.tryReflectionSetAccessible=true",
)
"""What Spark starts its own Java processes with since Java 17 (org.apache.spark.launcher.JavaModuleOptions)."""
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*:")


def spark_objection(run: Run, spark: Spark, storage: Storage, settings: YarnSettings) -> str | None:
    """Why this site can never run it, as far as Spark goes, if so."""
    if settings.spark is None:
        return "this site has no Spark: its engine.settings.spark.home says nowhere where it is"
    if not isinstance(storage, PurePosixPath):
        return "this site's storage is not mounted on its nodes (engine.settings.mount), and Spark applications need that"
    if run.per_task.gpus:
        return "this site has no GPUs for Spark applications"
    suffix = PurePosixPath(spark.file).suffix
    if suffix not in (".py", ".jar"):
        return f"spark.file: {spark.file} is neither a Python file (.py) nor a jar (.jar)"
    if suffix == ".jar" and not spark.main_class:
        return "spark.main_class: a jar needs one"
    if min(run.per_task.memory_gib, spark.executor_memory_gib) < SPARK_LEAST_GIB:
        return f"Spark takes {SPARK_LEAST_GIB:g} GiB at least: for its driver (resources.memory_gib) and for an executor"
    ours = sorted(name for name in spark.conf if name.startswith(OURS))
    return f"spark.conf: {ours[0]} is not the job's to set: say how many executors, and how large" if ours else None


def largest_of(run: Run, spark: Spark) -> tuple[Resources, int]:
    """The larger of driver and executor, and how many containers there are in all."""
    cpus = max(run.per_task.cpus, spark.executor_cpus)
    return Resources(cpus, max(run.per_task.memory_gib, spark.executor_memory_gib)), 1 + spark.executors


def spark_order(run: Run, spark: Spark, order: Order, storage: Storage, settings: YarnSettings) -> Order:
    """The order of a run without its program, made one for a Spark application; as it is where `spark_objection` objects."""
    if settings.spark is None or not isinstance(storage, PurePosixPath):
        return order
    return replace(order, task=_script(run, spark, storage, settings, settings.spark), masters_itself=True)


def heap_mib(container_gib: float) -> int:
    """How much of a container is Java's heap: beside it Spark leaves a tenth, 384 MiB at least, where Python is too."""
    whole = math.ceil(container_gib * 1024)
    return whole - max(384, math.ceil(whole / 10))


def properties_of(
    run: Run, spark: Spark, own: PurePosixPath | None, settings: YarnSettings, site: SparkSettings
) -> Mapping[str, str]:
    """Spark's properties: what a job may say otherwise, what it says, and what it may not. `own` is where executors see
    `FED_INPUTS` and `FED_OUTPUTS`, if they do."""
    whole, heap = math.ceil(spark.executor_memory_gib * 1024), heap_mib(spark.executor_memory_gib)
    label, scheduler = settings.label(run.pool), settings.scheduler_address
    environment = {
        **run.env,
        "FED_JOB": run.job,
        "FED_ATTEMPT": run.name.rpartition("-a")[2],
        **({"FED_INPUTS": f"{own}/inputs", "FED_OUTPUTS": f"{own}/outputs"} if own else {}),
        "SPARK_HOME": site.home,
    }
    return {
        "spark.app.name": run.name,
        "spark.hadoop.fs.defaultFS": "file:///",
        "spark.log.level": "WARN",
        "spark.pyspark.python": site.python,
        **spark.conf,
        **{f"spark.executorEnv.{name}": value for name, value in environment.items()},
        "spark.executor.instances": str(spark.executors),
        "spark.executor.cores": str(spark.executor_cpus),
        "spark.executor.memory": f"{heap}m",
        "spark.executor.memoryOverhead": f"{whole - heap}m",
        "spark.dynamicAllocation.enabled": "false",
        "spark.yarn.jars": f"local:{site.home}/jars/*",
        "spark.yarn.preserve.staging.files": "true",
        # Spark tells YARN of a failure only in its last attempt: there is one, and of that our master tells, exit code and all
        "spark.yarn.maxAppAttempts": "2",
        "spark.hadoop.yarn.resourcemanager.am.max-attempts": "2",
        **({"spark.yarn.executor.nodeLabelExpression": label} if label else {}),
        **({"spark.hadoop.yarn.resourcemanager.scheduler.address": scheduler} if scheduler else {}),
    }


def properties_text(properties: Mapping[str, str]) -> str:
    """As java.util.Properties reads them: every character that could mean something to it as UTF-16 in hexadecimal."""
    return "".join(f"{_escaped(name)}={_escaped(value)}\n" for name, value in properties.items())


def _escaped(words: str) -> str:
    def one(character: str) -> str:
        if character.isascii() and (character.isalnum() or character in "._-/"):
            return character
        units = character.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))

    return "".join(map(one, words))


def _script(run: Run, spark: Spark, storage: PurePosixPath, settings: YarnSettings, site: SparkSettings) -> str:
    """Run the driver, in the container's directory. Inputs and outputs are seen by executors too, so their links are on the
    site's storage, and removed when the driver has ended."""
    shared = storage / PurePosixPath(run.claim).parent.with_name("spark") / run.name if run.inputs or run.outputs else None
    is_python = spark.file.endswith(".py")
    file = shlex.quote(spark.file if _URL.match(spark.file) else str(storage / spark.file))
    properties = dict(properties_of(run, spark, shared, settings, site))
    if _URL.match(spark.file):
        name, failed = PurePosixPath(spark.file).name, shlex.quote(f"{spark.file} could not be read")
        get = f'"$fed_java" -cp "$fed_path" org.apache.hadoop.fs.FsShell -get {file} "$fed_file" >&2'
        fetch = f'fed_file="$PWD"/{shlex.quote(name)}\n{get} || {LEAVE} {EndReason.START_FAILED} {failed}\n'
        if not is_python:  # the driver gives it to the executors
            properties["spark.jars"] = ",".join(filter(None, (spark.conf.get("spark.jars"), quote(name))))
    else:
        properties |= {} if is_python else {"spark.yarn.user.jar": f"local:{quote(str(storage / spark.file))}"}
        missing = shlex.quote(f"there is no file {spark.file} in the site's storage")
        fetch = f'fed_file={file}\n[ -e "$fed_file" ] || {LEAVE} {EndReason.START_FAILED} {missing}\n'
    options = [f"-Xmx{heap_mib(run.per_task.memory_gib)}m", *JAVA_OPTIONS]
    options += shlex.split(spark.conf.get("spark.driver.extraJavaOptions", ""))
    main = shlex.quote(spark.main_class or PYTHON_RUNNER)
    arguments = "".join(f" --arg {shlex.quote(argument)}" for argument in spark.arguments)
    own = shlex.quote(str(shared)) if shared else '"$PWD/fed"'
    leave_clean = 'rm -rf -- "$fed_own"\n' if shared else ""
    is_fetched_jar = not is_python and "spark.yarn.user.jar" not in properties
    jar = f"printf 'spark.yarn.user.jar=local:%s\\n' \"$fed_file\" >> {PROPERTIES}\n" if is_fetched_jar else ""
    return f"""{LEAVING}{ready_lines(run, storage, own)}export FED_TASK="$1"
fed_home={shlex.quote(site.home)}
[ -d "$fed_home/jars" ] || {LEAVE} {EndReason.START_FAILED} {shlex.quote(f"there is no Spark at {site.home}")}
fed_java="${{JAVA_HOME:+$JAVA_HOME/bin/}}java"
fed_path="${{HADOOP_CONF_DIR:+$HADOOP_CONF_DIR:}}$fed_home/jars/*"
{fetch}printf %s {shlex.quote(properties_text(properties))} > {PROPERTIES}
{jar}mkdir -p tmp
(
{variable_lines(run)}export SPARK_HOME="$fed_home" PYSPARK_PYTHON={shlex.quote(site.python)} SPARK_YARN_STAGING_DIR="$PWD/staging"
exec "${{JAVA_HOME:+$JAVA_HOME/bin/}}java" -server {shlex.join(options)} -Djava.io.tmpdir="$PWD/tmp" -cp "$fed_path" \\
    {MASTER} --class {main} {"--primary-py-file" if is_python else "--jar"} "$fed_file"{arguments} --properties-file {PROPERTIES}
)
fed_status=$?
{leave_clean}exit $fed_status
"""
