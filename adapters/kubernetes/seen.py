"""What Kubernetes answers, as far as we read it. What does not have this shape is an answer that makes no sense."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _seconds(value: object) -> object:
    """RFC 3339 to epoch seconds."""
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


Time = Annotated[float, BeforeValidator(_seconds)]
T = TypeVar("T")


def _or_empty(value: object) -> object:
    """Go writes an empty list or map as null now and then."""
    return () if value is None else value


Many = Annotated[tuple[T, ...], BeforeValidator(_or_empty)]
Words = Annotated[dict[str, str], BeforeValidator(lambda value: value or {})]


class Part(BaseModel):
    """A part of an object. Fields that we do not know are none of our business."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Owner(Part):
    """Of `ownerReferences`."""

    uid: str = ""
    controller: bool = False


class Metadata(Part):
    """What every object has."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: Words = {}
    annotations: Words = {}
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    owner_references: Many[Owner] = ()


class Condition(Part):
    """One of the conditions of a Job, a pod, a node or a workload."""

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: Time | None = None


class Thing(Part):
    """An object of any kind."""

    metadata: Metadata

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"


class Conditions(Part):
    """A status that is a list of conditions."""

    conditions: Many[Condition] = ()

    def has(self, kind: str) -> Condition | None:
        """The condition of this type, if it is true."""
        return next((each for each in self.conditions if each.type == kind and each.status == "True"), None)


class JobSpec(Part):
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/"""

    completions: int | None = None


class JobStatus(Conditions):
    """Of a Job. Times are epoch seconds."""

    start_time: Time | None = None
    completion_time: Time | None = None
    active: int = 0
    terminating: int = 0
    odd: str = ""
    """A phase of another scheduler's Job that we do not know."""


class Job(Thing):
    """A Job of Kubernetes."""

    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class Requirements(Part):
    """What a container, or a whole pod, asks for."""

    requests: dict[str, Any] = {}


class Container(Part):
    """Of a pod's specification."""

    resources: Requirements = Requirements()
    restart_policy: str | None = None


class PodSpec(Part):
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/"""

    node_name: str = ""
    containers: Many[Container] = ()
    init_containers: Many[Container] = ()
    overhead: dict[str, Any] = {}
    resources: Requirements = Requirements()


class Waiting(Part):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Running(Part):
    """Since when a container runs."""

    started_at: Time | None = None


class Terminated(Part):
    """How a container ended."""

    exit_code: int = 0
    signal: int | None = None
    reason: str = ""
    message: str = ""
    started_at: Time | None = None
    finished_at: Time | None = None


class ContainerState(Part):
    """One of the three."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Part):
    """Of one container."""

    name: str = ""
    state: ContainerState = ContainerState()


class PodStatus(Conditions):
    """Of a pod."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    container_statuses: Many[ContainerStatus] = ()


class Pod(Thing):
    """A pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Taint(Part):
    """Of a node."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Part):
    """Of a node."""

    unschedulable: bool = False
    taints: Many[Taint] = ()


class NodeStatus(Conditions):
    """Of a node."""

    allocatable: dict[str, Any] = {}


class Node(Thing):
    """https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/node-v1/"""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ListMetadata(Part):
    """Of a page of a listing."""

    resource_version: str = ""
    continue_: str = Field(default="", alias="continue")


class Page(Part):
    """A page of a listing; its items as they came."""

    metadata: ListMetadata = ListMetadata()
    items: Many[dict[str, Any]] = ()
