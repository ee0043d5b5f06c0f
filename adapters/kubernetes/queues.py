"""Volcano and Kueue: what they are sent over a plain Job, and how what they answer reads. Pure.

Volcano has a Job of its own, which is read as if it were Kubernetes' own. Kueue holds a plain Job back until its queue has room,
and tells of that in a Workload beside it. Neither could be run here: see README.md for what was proven.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from pydantic import Field, model_validator

from adapters.base import Run
from adapters.kubernetes.codec import CONTAINER, FEDERATION, JOBS, Resource, annotations_of, job_of, template_of
from adapters.kubernetes.rooms import Amounts, amount, asked_by
from adapters.kubernetes.script import JOB_UID
from adapters.kubernetes.seen import Conditions, Job, Part, Pod, Thing
from adapters.kubernetes.settings import KubernetesSettings, Scheduler
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool, Site

VOLCANO_JOBS = Resource("/apis/batch.volcano.sh/v1alpha1", "jobs")
VOLCANO_COMMANDS = Resource("/apis/bus.volcano.sh/v1alpha1", "commands")
VOLCANO_QUEUES = Resource("/apis/scheduling.volcano.sh/v1beta1", "queues")
"""https://volcano.sh/en/docs/vcjob/ and https://volcano.sh/en/docs/queue/"""
WORKLOADS = Resource("/apis/kueue.x-k8s.io/v1beta1", "workloads")
"""https://kueue.sigs.k8s.io/docs/concepts/workload/"""
LOCAL_QUEUES = Resource("/apis/kueue.x-k8s.io/v1beta1", "localqueues")
CLUSTER_QUEUES = Resource("/apis/kueue.x-k8s.io/v1beta1", "clusterqueues")
VOLCANO_INDEX = "VC_TASK_INDEX"
"""Set by Volcano's plugin `env`: which task of the gang this is."""
_PHASES = {"Completed": ("Complete",), "Failed": ("Failed",), "Terminated": ("Failed",), "Aborted": ("Suspended", "Failed")}
_UNDER_WAY = ("", "Pending", "Running", "Aborting", "Completing", "Terminating")


def resource_of(settings: KubernetesSettings) -> Resource:
    """What a run is an object of."""
    return VOLCANO_JOBS if settings.scheduler is Scheduler.VOLCANO else JOBS


def model_of(settings: KubernetesSettings) -> type[Job]:
    """How that object is read."""
    return VolcanoJob if settings.scheduler is Scheduler.VOLCANO else Job


def object_of(run: Run, site: Site, settings: KubernetesSettings, start: str) -> dict[str, Any]:
    """The object of a run. `start` is a word that no other submit has, by which tasks of a gang of Volcano know each other."""
    if settings.scheduler is not Scheduler.VOLCANO:
        return job_of(run, site, settings)
    labels = {FEDERATION: run.federation}
    template = template_of(run, site, settings, labels, VOLCANO_INDEX)
    # a Job that Volcano starts again has another version, so that its tasks find the claim of the first start
    version = {"name": "FED_VERSION", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['volcano.sh/job-version']"}}}
    (container,) = template["spec"]["containers"]
    others = [each for each in container["env"] if each["name"] != JOB_UID]
    container["env"] = [version, {"name": JOB_UID, "value": f"{start}.$(FED_VERSION)"}, *others]
    queue = settings.queue_of(run.tenant, run.pool)
    return {
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": {
            "name": run.name,
            "namespace": settings.namespace_of(run.tenant),
            "labels": labels,
            "annotations": annotations_of(run),
        },
        "spec": {
            "schedulerName": "volcano",
            "minAvailable": run.tasks,
            "maxRetry": 1,
            **({"queue": queue} if queue else {}),
            "plugins": {"env": []},
            "policies": [{"event": "PodEvicted", "action": "TerminateJob"}],
            "tasks": [{"name": CONTAINER, "replicas": run.tasks, "template": template}],
        },
    }


def abort_of(job: Job) -> dict[str, Any]:
    """What asks Volcano to stop a Job: https://volcano.sh/en/docs/vcctl/"""
    owner = {"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "name": job.metadata.name, "uid": job.metadata.uid}
    return {
        "apiVersion": "bus.volcano.sh/v1alpha1",
        "kind": "Command",
        "metadata": {
            "generateName": f"{job.metadata.name}-abort-",
            "namespace": job.metadata.namespace,
            "ownerReferences": [owner],
        },
        "action": "AbortJob",
        "target": {**owner, "controller": True},
    }


class VolcanoJob(Job):
    """A Job of Volcano as a Job of Kubernetes: its phase is one of the conditions, its tasks are completions. A phase that we do
    not know is told as such."""

    @model_validator(mode="before")
    @classmethod
    def _as_a_job(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or "tasks" not in (raw.get("spec") or {}):
            return raw
        status = raw.get("status") or {}
        state = status.get("state") or {}
        phase = str(state.get("phase", ""))
        words = ": ".join(filter(None, (phase, str(state.get("reason", "")), str(state.get("message", "")))))
        told = {"status": "True", "reason": phase, "message": words, "lastTransitionTime": state.get("lastTransitionTime")}
        conditions = [{"type": kind, **told} for kind in _PHASES.get(phase, ())]
        return {
            "metadata": raw.get("metadata"),
            "spec": {"completions": sum(int(task.get("replicas", 1)) for task in raw["spec"]["tasks"])},
            "status": {
                "conditions": conditions,
                "active": int(status.get("running", 0)) + int(status.get("pending", 0)),
                "terminating": int(status.get("terminating", 0)),
                "odd": "" if phase in _UNDER_WAY or phase in _PHASES else phase,
            },
        }


class Workload(Thing):
    """What Kueue says of a Job that it holds or let go."""

    status: Conditions = Conditions()

    @property
    def job_uid(self) -> str:
        """The Job that it is about."""
        return next((owner.uid for owner in self.metadata.owner_references if owner.controller), "")

    @property
    def waits(self) -> str:
        """Why it was not admitted yet, as far as Kueue says so; empty once it was."""
        if self.status.has("Admitted") is not None:
            return ""
        reserved = next((each for each in self.status.conditions if each.type == "QuotaReserved"), None)
        return f"Kueue: {reserved.message}" if reserved is not None and reserved.status == "False" else ""

    @property
    def evicted(self) -> str:
        """Why it had to leave after it was let go, in words; empty where it was not, or by our own wish.

        Kueue would start it again later. The broker does not want that: it starts another attempt, perhaps elsewhere."""
        condition = self.status.has("Evicted")
        if condition is None or condition.reason in ("Deactivated", "InactiveWorkload"):
            return ""
        return f"Kueue: {condition.reason}: {condition.message}"


def queue_room(
    pool: Pool, may_use: Mapping[str, Decimal], held_by_others: Mapping[str, Decimal], settings: KubernetesSettings
) -> Room:
    """What a queue leaves of a pool, as nodes of the pool's kind. A resource that the queue does not name is not limited."""
    node = pool.per_node

    def share(name: str, per_node: float) -> Decimal:
        if name not in may_use or not per_node:
            return Decimal(pool.nodes)
        return max(may_use[name] - held_by_others.get(name, Decimal(0)), Decimal(0)) / Decimal(str(per_node))

    shares = [share("cpu", node.cpus * settings.cpu_request), share("memory", node.memory_gib * 2**30)]
    shares += [share(settings.gpu(kind).resource, count) for kind, count in node.gpus]
    whole = min(*shares, Decimal(pool.nodes))
    full, part = int(whole), whole - int(whole)
    rest = Resources.of(
        float(Decimal(str(node.cpus)) * part), float(Decimal(str(node.memory_gib)) * part),
        {kind: int(count * part) for kind, count in node.gpus},
    )  # fmt: skip
    return Room.of([(node, full), *([(rest, 1)] if part else [])])


class _VolcanoQueueSpec(Part):
    capability: dict[str, Any] = Field(default_factory=dict)
    deserved: dict[str, Any] = Field(default_factory=dict)


class _VolcanoQueueStatus(Part):
    allocated: dict[str, Any] = Field(default_factory=dict)
    state: str = ""


class VolcanoQueue(Thing):
    """https://volcano.sh/en/docs/queue/"""

    spec: _VolcanoQueueSpec = _VolcanoQueueSpec()
    status: _VolcanoQueueStatus = _VolcanoQueueStatus()

    @property
    def may_use(self) -> dict[str, Decimal]:
        """The most that it may use; nothing while it is closed."""
        if self.status.state not in ("", "Open"):
            return {"cpu": Decimal(0), "memory": Decimal(0)}
        return {name: amount(text) for name, text in (self.spec.capability or self.spec.deserved).items()}

    @property
    def used(self) -> dict[str, Decimal]:
        """What runs of everybody in it hold."""
        return {name: amount(text) for name, text in self.status.allocated.items()}


class _Quota(Part):
    name: str = ""
    nominal_quota: Any = 0
    total: Any = 0


class _Flavor(Part):
    name: str = ""
    resources: tuple[_Quota, ...] = ()


class _Group(Part):
    flavors: tuple[_Flavor, ...] = ()


class _ClusterQueueSpec(Part):
    resource_groups: tuple[_Group, ...] = ()
    stop_policy: str | None = None


class _ClusterQueueStatus(Part):
    flavors_usage: tuple[_Flavor, ...] = ()


class ClusterQueue(Thing):
    """https://kueue.sigs.k8s.io/docs/concepts/cluster_queue/"""

    spec: _ClusterQueueSpec = _ClusterQueueSpec()
    status: _ClusterQueueStatus = _ClusterQueueStatus()

    @property
    def may_use(self) -> dict[str, Decimal]:
        """Its own quota, over all flavors; what it could borrow is not promised. Nothing while it is stopped."""
        sums: dict[str, Decimal] = {}
        for group in self.spec.resource_groups:
            for quota in (quota for flavor in group.flavors for quota in flavor.resources):
                own = amount(quota.nominal_quota) if self.spec.stop_policy in (None, "None") else Decimal(0)
                sums[quota.name] = sums.get(quota.name, Decimal(0)) + own
        return sums

    @property
    def used(self) -> dict[str, Decimal]:
        """What runs of everybody in it hold."""
        sums: dict[str, Decimal] = {}
        for quota in (quota for flavor in self.status.flavors_usage for quota in flavor.resources):
            sums[quota.name] = sums.get(quota.name, Decimal(0)) + amount(quota.total)
        return sums


class _LocalQueueSpec(Part):
    cluster_queue: str = ""


class LocalQueue(Thing):
    """https://kueue.sigs.k8s.io/docs/concepts/local_queue/"""

    spec: _LocalQueueSpec = _LocalQueueSpec()


def queue_rooms(
    pools: Collection[Pool],
    settings: KubernetesSettings,
    queues: Mapping[str, VolcanoQueue | ClusterQueue],
    ours: Collection[Pod],
) -> dict[str, Room]:
    """Room by pool, of `queues` by the name that runs give. A pool whose queue is not there has none. `ours` are our pods that
    are not over: what they hold is not others'."""
    held: Amounts = {}
    for pod in ours:
        for name, number in asked_by(pod.spec).items():
            held[name] = held.get(name, Decimal(0)) + number
    rooms = {}
    for pool in pools:
        queue = queues.get(settings.queue_of("", pool.name) or "default")
        if queue is None:
            rooms[pool.name] = Room()
            continue
        others = {name: max(used - held.get(name, Decimal(0)), Decimal(0)) for name, used in queue.used.items()}
        rooms[pool.name] = queue_room(pool, queue.may_use, others, settings)
    return rooms
