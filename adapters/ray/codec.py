"""Our `Run` as a job of Ray, and what its API answers read as values. Pure.

https://docs.ray.io/en/latest/cluster/running-applications/job-submission/api.html
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import zlib
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.base import Run, RunName, Unreachable
from adapters.ray.settings import RaySettings
from adapters.shell import LEAVE, claim_lines, program_lines, ready_lines, variable_lines
from topology.resources import Resources
from topology.site import Site

FEDERATION, RUN, SPEC, POOL, TASKS, NEEDS = (f"fed_{word}" for word in ("federation", "run", "spec", "pool", "tasks", "needs"))
"""Keys of a job's metadata."""
GIB = 2**30
SHARE = 0.0001
"""What a task takes of a custom resource that only says where it may run: the least that Ray counts."""
MOST_ENTRYPOINT_BYTES = 100_000
"""Linux takes 128 KiB as one argument of a program, and the shell that Ray starts gets all of it as one."""


class Part(BaseModel):
    """What we read of something in an answer; the rest may be there."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Version(Part):
    """https://docs.ray.io/en/latest/cluster/running-applications/job-submission/api.html#/paths/~1api~1version"""

    ray_version: str
    session_name: str


class Job(Part):
    """A job as listed. Times are milliseconds since the epoch; `start_time` is when it was submitted."""

    type: str
    submission_id: str | None = None
    status: str
    message: str | None = None
    error_type: str | None = None
    start_time: float | None = None
    end_time: float | None = None
    metadata: Mapping[str, str] | None = None
    driver_node_id: str | None = None
    driver_exit_code: int | None = None
    entrypoint: str = ""

    @property
    def name(self) -> RunName:
        """Of the run, if it is one."""
        return self.submission_id or ""

    @property
    def is_over(self) -> bool:
        """Whether Ray is done with it."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def is_echo(self) -> bool:
        """Whether it was deleted, and the one that watched it has then written down its end once more, with nothing else
        (`JobInfoStorageClient.put_status` of Ray's job module)."""
        return self.is_over and not self.metadata and self.entrypoint == "Entrypoint not found."

    def said(self, key: str) -> str:
        """A word of its metadata."""
        return (self.metadata or {}).get(key, "")


class Node(Part):
    """A node of the state API: `/api/v0/nodes?detail=1`."""

    node_id: str
    state: str
    resources_total: Mapping[str, float] = {}
    labels: Mapping[str, str] | None = None
    is_head_node: bool = False
    start_time_ms: float = 0.0


class Bundle(Part):
    """A place of a placement group."""

    node_id: str | None = None
    unit_resources: Mapping[str, float] | None = None


class PlacementGroup(Part):
    """Several places that are taken together: `/api/v0/placement_groups?detail=1`."""

    name: str | None = None
    state: str
    bundles: tuple[Bundle, ...] | None = None

    @property
    def holds(self) -> bool:
        """Whether it has its places."""
        return self.state in ("CREATED", "PREPARED", "RESCHEDULING")


class _JobList(BaseModel):
    jobs: list[Job]


def jobs_of(answer: Any) -> list[Job]:
    """Jobs that were submitted, ours and others'. Raises Unreachable for what is no list of jobs."""
    try:
        jobs = _JobList.model_validate({"jobs": answer}).jobs
    except ValidationError as error:
        raise senseless("the list of jobs", error) from error
    return [job for job in jobs if job.type == "SUBMISSION" and job.submission_id]


def job_of(answer: Any) -> Job:
    """One job. Raises Unreachable."""
    try:
        return Job.model_validate(answer)
    except ValidationError as error:
        raise senseless("a job", error) from error


def version_of(answer: Any) -> Version:
    """Who answers. Raises Unreachable."""
    try:
        return Version.model_validate(answer)
    except ValidationError as error:
        raise senseless("the version", error) from error


def nodes_of(answer: Any) -> list[Node]:
    """Nodes that are alive. Raises Unreachable."""
    return [node for node in _rows("the list of nodes", answer, Node) if node.state == "ALIVE"]


def groups_of(answer: Any) -> list[PlacementGroup]:
    """Placement groups. Raises Unreachable."""
    return _rows("the list of placement groups", answer, PlacementGroup)


def usage_of(answer: Any) -> Mapping[str, Mapping[str, float]]:
    """By node and resource what is in use, as the autoscaler last saw it, with names of resources as `plain_name` writes them.
    Empty before it looked. Raises Unreachable."""
    try:
        status = answer["data"]["clusterStatus"] or {}
        by_node = status.get("loadMetricsReport", {}).get("usageByNode") or {}
        return {node: {plain_name(name): float(used) for name, (used, _) in use.items()} for node, use in by_node.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise senseless("the cluster's status", error) from error


def head_age_s(nodes: Collection[Node], status: Any) -> float:
    """How long the head has been there, by its own clock, when the autoscaler last looked; 0 where these do not say."""
    began = [node.start_time_ms / 1000 for node in nodes if node.is_head_node]
    at = (status["data"]["clusterStatus"] or {}).get("time")
    return max(float(at) - began[0], 0.0) if began and isinstance(at, int | float) else 0.0


def plain_name(resource: str) -> str:
    """A resource's name without what the API changes in it: it writes `gpu_a100` as `gpuA100`."""
    return resource.replace("_", "").lower()


def senseless(what: str, error: Exception) -> Unreachable:
    """For an answer that cannot be read."""
    return Unreachable(f"{what} makes no sense: {' '.join(str(error).split())[:300]}")


def _rows(what: str, answer: Any, model: type[Any]) -> list[Any]:
    try:
        rows = answer["data"]["result"]["result"]
        if not isinstance(rows, list):
            raise TypeError(f"{type(rows).__name__} where a list was due")
        return [model.model_validate(row) for row in rows]
    except (KeyError, TypeError, ValidationError) as error:
        raise senseless(what, error) from error


def demand(settings: RaySettings, task: Resources) -> dict[str, float]:
    """What one task takes, by Ray's names; memory in bytes."""
    wanted: dict[str, float] = {"CPU": task.cpus, "memory": round(task.memory_gib * GIB), "GPU": task.gpu_count}
    for kind, count in task.gpus:
        if (counted := settings.gpu(kind).counted) is not None:
            wanted[counted] = wanted.get(counted, 0) + count
    return {name: amount for name, amount in wanted.items() if amount}


def place(settings: RaySettings, pool: str, task: Resources) -> dict[str, float]:
    """`demand`, and a share of each custom resource that says where the task may run."""
    wanted = demand(settings, task)
    marks = [settings.pool(pool).resource, *(settings.gpu(kind).marker for kind, _ in task.gpus)]
    return wanted | {mark: SHARE for mark in marks if mark is not None}


def refusal(run: Run, site: Site) -> str | None:
    """Why the site can never run it, or None. Ray itself would let it wait for ever."""
    pool = site.pool(run.pool)
    if pool is None:
        return f"there is no pool {run.pool} at {site.name}"
    if run.image is not None or run.spark is not None:
        return "Ray's jobs have no image and are no Spark applications"
    if pool.empty.fit(run.per_task) < run.tasks:
        return f"{run.tasks} x {run.per_task} do not fit the pool {pool.name}, which has {pool.nodes} nodes with {pool.per_node}"
    return None


def needs_json(task: Resources) -> str:
    """What a task takes, for the metadata: what a job asked for is not listed."""
    return json.dumps({"cpus": task.cpus, "memory_gib": task.memory_gib, "gpus": dict(task.gpus)})


def needs_of(job: Job) -> Resources:
    """What one of its tasks takes. Nothing where it cannot be read: then it counts as other use of its node."""
    try:
        said = json.loads(job.said(NEEDS))
        return Resources.of(float(said["cpus"]), float(said["memory_gib"]), {str(k): int(n) for k, n in said["gpus"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return Resources()


def tasks_of(job: Job) -> int:
    """How many tasks it has."""
    said = job.said(TASKS)
    return int(said) if said.isdecimal() and len(said) < 9 else 1


def spec_hash(run: Run) -> str:
    """The same for two runs only if they are the same run."""
    plain = {name: getattr(run, name) for name in Run.__slots__ if name not in ("native_id", "spark")}
    text = json.dumps(plain, sort_keys=True, default=lambda value: dict(value) if isinstance(value, Mapping) else repr(value))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def shell_of(run: Run, storage: PurePosixPath) -> str:
    """The script of each task. It tells the runner by files that its program begins, or why it never will."""
    return "".join(
        (
            f'fed_tell="$FED_OWN"\n{LEAVE}() {{ printf "%s %s" "$1" "$2" > "$fed_tell/left"; exit 1; }}\n',
            claim_lines(run, storage, '"$FED_START"'),
            ready_lines(run, storage, '"$fed_tell"'),
            "unset FED_START FED_OWN\nexport FED_TASK\n",
            program_lines(run),
            ': > "$fed_tell/begun"\n',
            variable_lines(run),
            'exec "$@"\n',
        )
    )


def python_command(python: str, code: str, *words: str) -> str:
    """A shell's line by which Python runs this code with these arguments, all of them packed."""
    packed = base64.b64encode(zlib.compress(code.encode(), 9)).decode()
    begin = f"import base64,sys,zlib;exec(zlib.decompress(base64.b64decode('{packed}')))"
    more = [base64.b64encode(zlib.compress(word.encode(), 9)).decode() for word in words]
    return "exec " + " ".join([shlex.quote(python), "-c", shlex.quote(begin), *more])


def request_of(run: Run, site: Site, settings: RaySettings, storage: PurePosixPath, runner: str) -> dict[str, Any] | str:
    """The body of `POST /api/jobs/`, or why there can be none."""
    labels = dict(settings.pool(run.pool).labels)
    spec = {
        "name": run.name,
        "tasks": run.tasks,
        "shell": shell_of(run, storage),
        "walltime": run.walltime_s,
        "grace": settings.grace_s,
        "bundle": place(settings, run.pool, run.per_task),
        "labels": labels,
    }
    entrypoint = python_command(settings.python, runner, json.dumps(spec))
    if len(entrypoint) > MOST_ENTRYPOINT_BYTES:
        return f"its script and environment are too long for Ray: {len(entrypoint)} bytes packed, {MOST_ENTRYPOINT_BYTES} at most"
    body: dict[str, Any] = {
        "entrypoint": entrypoint,
        "submission_id": run.name,
        "metadata": {
            FEDERATION: run.federation,
            RUN: run.name,
            SPEC: spec_hash(run),
            POOL: run.pool,
            TASKS: str(run.tasks),
            NEEDS: needs_json(run.per_task),
        },
        "runtime_env": dict(settings.runtime_env),
    }
    if run.tasks == 1:
        return body | asked(spec["bundle"], labels)
    return body | asked(settings.leader_resources, {} if settings.leader_resources else labels)


def asked(resources: Any, labels: Mapping[str, str]) -> dict[str, Any]:
    """What the entrypoint takes, as the API wants it."""
    rest = dict(resources)
    body: dict[str, Any] = {
        "entrypoint_num_cpus": rest.pop("CPU", 0),
        "entrypoint_num_gpus": rest.pop("GPU", 0),
        "entrypoint_memory": int(rest.pop("memory", 0)),
    }
    if rest:
        body["entrypoint_resources"] = rest
    if labels:
        body["entrypoint_label_selector"] = dict(labels)
    return body


def names_like_ours(federation: str, jobs: Collection[Job]) -> tuple[str, ...]:
    """Of jobs that look like ours and are not."""
    others = (job for job in jobs if job.said(FEDERATION) != federation and not job.is_echo)
    return tuple(sorted(job.name for job in others if job.name.startswith(f"{federation}-")))
