"""Replies of Hadoop 3.4.2, recorded, with the fields that we read and some of those that we do not."""

from __future__ import annotations

from typing import Any

TAGS = "fed-of:fed,fed-pool:cpu,fed-run:fed-j1-a1,fed-spec:e9ca4d65b636e483fc76f595df7671aa,fed-tasks:1,fedbroker"
SUCCEEDED = {
    "id": "application_1795410942091_0001",
    "user": "broker",
    "name": "fed-j1-a1",
    "queue": "root.batch",
    "state": "FINISHED",
    "finalStatus": "SUCCEEDED",
    "progress": 100.0,
    "trackingUI": "History",
    "diagnostics": 'fed {"exit_code":0,"signal":null,"reason":null,"message":"","has_started":true}',
    "applicationType": "FEDBROKER",
    "applicationTags": TAGS,
    "startedTime": 1795410947445,
    "launchTime": 1795410948909,
    "finishedTime": 1795410949940,
    "amContainerLogs": "http://localhost:34149/node/containerlogs/container_1795410942091_0001_01_000001/broker",
    "amHostHttpAddress": "localhost:34149",
    "allocatedMB": -1,
    "allocatedVCores": -1,
    "runningContainers": -1,
    "resourceSecondsMap": {"entry": {"key": "vcores", "value": "2"}},
}
NODE = {
    "rack": "/default-rack",
    "state": "RUNNING",
    "id": "localhost:37423",
    "nodeHostName": "localhost",
    "nodeHTTPAddress": "localhost:33151",
    "numContainers": 0,
    "usedMemoryMB": 0,
    "availMemoryMB": 8192,
    "usedVirtualCores": 0,
    "availableVirtualCores": 4,
}


def app(**fields: Any) -> dict[str, Any]:
    """One application of a listing, as recorded but for these fields."""
    return {**SUCCEEDED, **fields}


def waiting(**fields: Any) -> dict[str, Any]:
    """One that has no container yet."""
    times = {"launchTime": 0, "finishedTime": 0}
    blank = {"state": "ACCEPTED", "finalStatus": "UNDEFINED", "progress": 0.0, "diagnostics": "", "amContainerLogs": ""}
    return app(**{**blank, **times, "amHostHttpAddress": "", **fields})


def live(**fields: Any) -> dict[str, Any]:
    """One that runs in one container."""
    held = {"allocatedMB": 512, "allocatedVCores": 1, "runningContainers": 1}
    base = {"state": "RUNNING", "finalStatus": "UNDEFINED", "progress": 0.0, "diagnostics": "", "finishedTime": 0}
    return app(**{**base, **held, **fields})


def apps(*found: dict[str, Any]) -> dict[str, Any]:
    """A listing. Of one element Hadoop 3.4 makes no list, and of none no element."""
    if not found:
        return {"apps": {}}
    return {"apps": {"app": list(found) if len(found) > 1 else found[0]}}


def node(
    address: str, vcores: int, used: int, label: str = "", gpus: int = 0, used_gpus: int = 0, **fields: Any
) -> dict[str, Any]:
    """One node with 1 GiB per vcore."""
    free = {"name": "yarn.io/gpu", "units": "", "value": gpus - used_gpus}
    return {
        **NODE,
        "nodeHTTPAddress": address,
        "availMemoryMB": 1024 * (vcores - used),
        "usedMemoryMB": 1024 * used,
        "availableVirtualCores": vcores - used,
        "usedVirtualCores": used,
        "availableResource": {"resourceInformations": {"resourceInformation": [free]}},
        "usedResource": {"resourceInformations": {"resourceInformation": [{**free, "value": used_gpus}]}},
        **({"nodeLabels": [label]} if label else {}),
        **fields,
    }
