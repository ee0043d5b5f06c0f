"""Objects as a Kubernetes 1.36 answered them, less the fields that we do not read."""

from __future__ import annotations

from typing import Any

from adapters.kubernetes.codec import CANCELLED, CONTROLLER_UID, FEDERATION, INDEX_LABEL, POOL, RUN
from adapters.kubernetes.seen import Job, Node, Pod

UID = "7f92461a-b608-4443-a193-91c059288091"
SECOND = 1_700_000_000.0
"""2023-11-14T22:13:20Z."""


def at(seconds: int) -> str:
    """A time as Kubernetes writes it, so many seconds after 22:13:20."""
    return f"2023-11-14T22:{13 + (20 + seconds) // 60}:{(20 + seconds) % 60:02}Z"


def a_job(
    *conditions: dict[str, Any], tasks: int = 1, suspend: bool = False, annotations: dict[str, str] | None = None, **status: Any
) -> Job:
    return Job.model_validate(
        {
            "metadata": {
                "name": "fed-j1-a1", "namespace": "default", "uid": UID, "resourceVersion": "77", "creationTimestamp": at(0),
                "labels": {FEDERATION: "fed"},
                "annotations": {RUN: "fed-j1-a1", POOL: "cpu", **(annotations or {})},
            },
            "spec": {"completions": tasks, "parallelism": tasks, "suspend": suspend},
            "status": {"conditions": list(conditions), "startTime": at(1), **status},
        }
    )  # fmt: skip


def is_true(kind: str, reason: str = "", message: str = "", seconds: int = 9) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": at(seconds)}


def a_pod(
    phase: str, index: int = 0, state: dict[str, Any] | None = None, conditions: list[dict[str, Any]] | None = None, **status: Any
) -> Pod:
    containers = [{"name": "main", "state": state}] if state is not None else None
    return Pod.model_validate(
        {
            "metadata": {
                "name": f"fed-j1-a1-{index}-abcde", "namespace": "default", "uid": f"pod-{index}",
                "labels": {CONTROLLER_UID: UID, INDEX_LABEL: str(index), FEDERATION: "fed"},
            },
            "spec": {"nodeName": "n1"},
            "status": {"phase": phase, "containerStatuses": containers, "conditions": conditions, **status},
        }
    )  # fmt: skip


def runs(seconds: int = 2) -> dict[str, Any]:
    return {"running": {"startedAt": at(seconds)}}


def ended(code: int, message: str = "", reason: str = "", begin: int = 2, end: int = 5) -> dict[str, Any]:
    reason = reason or ("Error" if code else "Completed")
    told = {"exitCode": code, "reason": reason, "message": message, "startedAt": at(begin), "finishedAt": at(end)}
    return {"terminated": told}


def waits(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def a_node(
    name: str = "n1", cpu: str = "2", memory: str = "8Gi", labels: dict[str, str] | None = None, ready: str = "True", **more: Any
) -> Node:
    return Node.model_validate(
        {
            "metadata": {"name": name, "labels": labels or {}},
            "spec": more.pop("spec", {}),
            "status": {
                "allocatable": {"cpu": cpu, "memory": memory, "pods": "110", **more},
                "conditions": [{"type": "Ready", "status": ready}, {"type": "DiskPressure", "status": "False"}],
            },
        }
    )


def taking(node: str, *containers: dict[str, str], **spec: Any) -> Pod:
    """A pod of somebody else."""
    given = [{"resources": {"requests": requests}} for requests in containers]
    return Pod.model_validate({"metadata": {"name": "theirs"}, "spec": {"nodeName": node, "containers": given, **spec}})


STOPPED = {CANCELLED: "asked to stop"}
