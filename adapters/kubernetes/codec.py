"""Our `Run` as the object that Kubernetes, Volcano or Kueue takes. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from adapters.base import Refused, Run
from adapters.kubernetes.script import INDEX, JOB_UID, OWN, POD_UID, script_of
from adapters.kubernetes.settings import KubernetesSettings, Scheduler, storage_mount, storage_volume, volume_source
from topology.resources import Resources
from topology.site import Site

FEDERATION = "fedbroker/federation"
"""Label of every object of ours, and of its pods."""
RUN, POOL, SPEC = "fedbroker/run", "fedbroker/pool", "fedbroker/spec"
"""Annotations: the run's name, its pool, and the hash by which a second submit knows its own."""
CANCELLED, GIVEN_UP = "fedbroker/cancelled", "fedbroker/given-up"
"""Annotations of a Job that was asked to stop, and of one that never started, with the reason in words."""
CONTAINER = "main"
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
"""Label that the Job controller gives its pods: https://kubernetes.io/docs/reference/labels-annotations-taints/"""
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
"""https://kueue.sigs.k8s.io/docs/tasks/run/jobs/"""
PULL_S = 3600
"""Over the walltime, what Kubernetes itself gives a task: its count begins before the image is pulled."""
PART_BYTES = 100_000
MOST_SCRIPT_BYTES = 900_000
"""One argument of a process has 128 KiB at most on Linux; an object of Kubernetes 1.5 MiB."""

_RUN = TypeAdapter(Run)


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object: the path of its API group, and its name there."""

    api: str
    plural: str

    def path(self, namespace: str | None, name: str = "", sub: str = "") -> str:
        """Of the collection in a namespace or, without one, everywhere; of one object where it is named."""
        parts = [self.api, *(("namespaces", namespace) if namespace else ()), self.plural, name, sub]
        return "/".join(part for part in parts if part)


JOBS = Resource("/apis/batch/v1", "jobs")
PODS = Resource("/api/v1", "pods")
NODES = Resource("/api/v1", "nodes")
EVENTS = Resource("/api/v1", "events")
NAMESPACES = Resource("/api/v1", "namespaces")


def spec_hash(run: Run) -> str:
    """The same for the same run, whatever the settings of the site have become since."""
    return hashlib.sha256(_RUN.dump_json(replace(run, native_id=None))).hexdigest()[:32]


def refusal(run: Run, site: Site, settings: KubernetesSettings) -> Refused | None:
    """Why this site can never take this run; None when it can."""
    pool = site.pool(run.pool)
    if pool is None:
        return Refused(f"there is no pool {run.pool}")
    if run.per_task.times_in(pool.per_node) < 1:
        return Refused(f"no node of pool {pool.name} has {run.per_task}")
    if pool.empty.fit(run.per_task) < run.tasks:
        return Refused(f"pool {pool.name} never has room for {run.tasks} tasks of {run.per_task}")
    if run.spark is not None:
        return Refused("this site runs no Spark applications")
    if run.image is None and settings.image is None:
        return Refused("the job names no image, and the site has no default one: set image in the settings of its engine")
    if len(_script(run, site, settings).encode()) > MOST_SCRIPT_BYTES:
        return Refused(f"script, command and env have more than {MOST_SCRIPT_BYTES} bytes together")
    return None


def job_of(run: Run, site: Site, settings: KubernetesSettings) -> dict[str, Any]:
    """The Indexed Job of a run: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/

    A task that fails leaves the others be (they end by the script, and keep their output); one that is disrupted, or killed
    before its script could tell, ends the Job. Nothing is ever started in place of a task: the broker decides that."""
    labels = {FEDERATION: run.federation}
    queue = settings.queue_of(run.tenant, run.pool)
    is_queued = settings.scheduler is Scheduler.KUEUE
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": run.name,
            "namespace": settings.namespace_of(run.tenant),
            "labels": labels | ({KUEUE_QUEUE: str(queue)} if is_queued else {}),
            "annotations": annotations_of(run),
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": run.tasks,
            "parallelism": run.tasks,
            "backoffLimitPerIndex": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [137]}},
                ]
            },
            **({"suspend": True} if is_queued else {}),
            "template": template_of(run, site, settings, labels),
        },
    }


def annotations_of(run: Run) -> dict[str, str]:
    """What a run's object is known by, over its label."""
    return {RUN: run.name, POOL: run.pool, SPEC: spec_hash(run), "fedbroker/job": run.job, "fedbroker/tenant": run.tenant}


def template_of(
    run: Run, site: Site, settings: KubernetesSettings, labels: Mapping[str, str], index: str = INDEX
) -> dict[str, Any]:
    """The pod of one task. `index` is the environment variable that tells which one."""
    pool = settings.pool(run.pool)
    node_labels = dict(pool.labels)
    for kind, _ in run.per_task.gpus:
        node_labels |= settings.gpu(kind).labels
    resources = resources_of(run.per_task, settings)
    mounts, volumes = volumes_of(site, settings)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": settings.service_account is not None,
        "terminationGracePeriodSeconds": settings.grace_s,
        "nodeSelector": node_labels,
        "tolerations": [toleration.model_dump(exclude_none=True) for toleration in pool.tolerations],
        "containers": [
            {
                "name": CONTAINER,
                "image": run.image or settings.image,
                "imagePullPolicy": settings.image_pull_policy,
                "command": _command(_script(run, site, settings, index)),
                "env": [
                    _from_pod(JOB_UID, f"metadata.labels['{CONTROLLER_UID}']"),
                    _from_pod(POD_UID, "metadata.uid"),
                ],
                "resources": resources,
                "volumeMounts": [*mounts, {"name": "own", "mountPath": OWN}],
            }
        ],
        "volumes": [*volumes, {"name": "own", "emptyDir": {}}],
    }
    if run.walltime_s is not None:
        spec["activeDeadlineSeconds"] = math.ceil(run.walltime_s + settings.gather_s + settings.grace_s) + PULL_S
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    if settings.service_account is not None:
        spec["serviceAccountName"] = settings.service_account
    if settings.priority_class is not None:
        spec["priorityClassName"] = settings.priority_class
    if settings.run_as is not None:
        spec["securityContext"] = {"runAsUser": settings.run_as.user, "runAsGroup": settings.run_as.group}
    return {"metadata": {"labels": dict(labels), "annotations": {RUN: run.name}}, "spec": spec}


def volumes_of(site: Site, settings: KubernetesSettings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Where every task sees the site's storage and what else is mounted, and the volumes that these are."""
    mounts: list[dict[str, Any]] = [{"name": "storage", "mountPath": str(storage_mount(site, settings))}]
    volumes = [{"name": "storage", **storage_volume(site, settings)}]
    for number, mount in enumerate(settings.mounts):
        mounts.append({"name": f"mount-{number}", "mountPath": mount.at, "readOnly": mount.read_only})
        volumes.append({"name": f"mount-{number}", **volume_source(mount)})
    return mounts, volumes


def resources_of(task: Resources, settings: KubernetesSettings) -> dict[str, Any]:
    """What a task asks for: its memory and GPUs as a limit too, its cpus as a share of the node that others may not take.

    A GPU is an extended resource: https://kubernetes.io/docs/tasks/manage-gpus/scheduling-gpus/"""
    gpus: dict[str, str] = {}
    for kind, count in task.gpus:
        resource = settings.gpu(kind).resource
        gpus[resource] = str(count + int(gpus.get(resource, 0)))
    requests, limits = dict(gpus), dict(gpus)
    if task.cpus:
        requests["cpu"] = f"{math.ceil(1000 * task.cpus * settings.cpu_request - 1e-6)}m"
    if task.memory_gib:
        requests["memory"] = limits["memory"] = str(math.ceil(task.memory_gib * 2**30))
    return {"requests": requests, "limits": limits}


def _script(run: Run, site: Site, settings: KubernetesSettings, index: str = INDEX) -> str:
    return script_of(run, storage_mount(site, settings), settings.grace_s, settings.gather_s, index)


def _command(script: str) -> list[str]:
    """The script as arguments. Kubernetes reads `$(NAME)` and `$$` in them, so that each `$` is written twice:
    https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/"""
    text = script.replace("$", "$$")
    if len(text.encode()) <= PART_BYTES:
        return ["/bin/sh", "-c", text]
    # a shell reads what is longer than one argument may be from several; no part begins within a pair of dollars
    parts = [script[at : at + PART_BYTES // 8].replace("$", "$$") for at in range(0, len(script), PART_BYTES // 8)]
    joining = 'fed_all=; for fed_part; do fed_all=$$fed_all$$fed_part; done; set --; eval "$$fed_all"'
    return ["/bin/sh", "-c", joining, "sh", *parts]


def _from_pod(name: str, field: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}
