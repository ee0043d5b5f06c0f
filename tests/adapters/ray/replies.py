"""Replies of Ray 2.60.0, recorded, with the fields that we read and some of those that we do not."""

from __future__ import annotations

from typing import Any

VERSION = {"version": "4", "ray_version": "2.60.0", "session_name": "session_2026-11-23_05-04-52_421434_10411"}
HEAD, ONE, TWO, GPU = "6c9dae38", "c0f849c3", "4a33c538", "0b39c197"
METADATA = {
    "fed_federation": "fed",
    "fed_run": "fed-j1-a1",
    "fed_spec": "e9ca4d65b636e483fc76f595df7671aa",
    "fed_pool": "cpu",
    "fed_tasks": "1",
    "fed_needs": '{"cpus": 1, "memory_gib": 0.5, "gpus": {}}',
}
SUCCEEDED = {
    "type": "SUBMISSION",
    "job_id": None,
    "submission_id": "fed-j1-a1",
    "driver_info": None,
    "status": "SUCCEEDED",
    "entrypoint": "exec python3 -c ...",
    "message": "Job finished successfully.",
    "error_type": None,
    "start_time": 1795411665504,
    "end_time": 1795411674655,
    "metadata": METADATA,
    "runtime_env": {},
    "driver_agent_http_address": "http://192.0.2.2:44115",
    "driver_node_id": ONE,
    "driver_exit_code": 0,
}
FAILED_MESSAGE = """Job entrypoint command failed with exit code 3, last available logs (truncated to 20,000 chars):
Running entrypoint for job fed-j1-a1: exec python3 -c ...

@fed {"began": 1795410366.5}

@fed {"ended": 1795410367.0, "cancelled": false, "began": 1795410366.5, "code": 3, "signal": null}
"""
PENDING_MESSAGE = (
    "Job has not started yet. It may be waiting for resources (CPUs, GPUs, memory, custom resources) to become available."
)
KILLED_MESSAGE = (
    "Job supervisor actor died: The actor died unexpectedly before finishing this task.\n\tclass_name: JobSupervisor\n"
    "The actor is dead because it was killed by `ray.kill`."
)


def job(**fields: Any) -> dict[str, Any]:
    """One of a listing, as recorded but for these fields."""
    return {**SUCCEEDED, **fields}


def pending(**fields: Any) -> dict[str, Any]:
    """One that waits for its place."""
    blank = {"driver_node_id": None, "driver_agent_http_address": None, "driver_exit_code": None, "end_time": None}
    return job(**{"status": "PENDING", "message": PENDING_MESSAGE, **blank, **fields})


def live(**fields: Any) -> dict[str, Any]:
    """One that runs."""
    running = {"status": "RUNNING", "message": "Job is currently running.", "end_time": None, "driver_exit_code": None}
    return job(**{**running, **fields})


def failed(**fields: Any) -> dict[str, Any]:
    """One whose program ended with 3."""
    end = {"status": "FAILED", "message": FAILED_MESSAGE, "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "driver_exit_code": 3}
    return job(**{**end, **fields})


def state_api(*rows: dict[str, Any]) -> dict[str, Any]:
    """A listing of the state API."""
    result = {"total": len(rows), "num_after_truncation": len(rows), "num_filtered": len(rows), "result": list(rows)}
    return {"result": True, "msg": "", "data": {"result": result}}


def node(node_id: str, **fields: Any) -> dict[str, Any]:
    """A node with four cpus and 8 GiB."""
    has = {"object_store_memory": 80000000.0, "memory": 8589934592.0, "node:192.0.2.2": 1.0, "CPU": 4.0}
    base = {"node_id": node_id, "node_ip": "192.0.2.2", "is_head_node": False, "state": "ALIVE", "resources_total": has}
    return {**base, "labels": {"pool": "cpu", "ray.io/node-id": node_id}, "start_time_ms": 1795410324501, **fields}


GPU_NODE = node(
    GPU,
    labels={"ray.io/node-id": GPU},
    resources_total={"CPU": 4.0, "memory": 8589934592.0, "GPU": 3.0, "gpu-pool": 1.0, "a_100": 2.0, "h_100": 1.0},
)
HEAD_NODE = node(HEAD, is_head_node=True, labels={}, resources_total={"memory": 1073741824.0, "node:__internal_head__": 1.0})


def group(name: str, *at: str, state: str = "CREATED") -> dict[str, Any]:
    """A placement group with a task of one cpu on each of these nodes."""
    bundles = [
        {"bundle_id": {"bundle_index": number}, "unit_resources": {"CPU": 1.0, "memory": 536870912.0}, "node_id": node_id}
        for number, node_id in enumerate(at)
    ]
    return {"placement_group_id": "95e9", "name": name, "creator_job_id": "03000000", "state": state, "bundles": bundles}


def status(**by_node: dict[str, list[float]]) -> dict[str, Any]:
    """What the autoscaler last saw: by node and resource what is used, and what there is."""
    report = {"loadMetricsReport": {"usageByNode": by_node}, "time": 1795410384.5}
    return {"result": True, "msg": "Got cluster status.", "data": {"clusterStatus": report}}
