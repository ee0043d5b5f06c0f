"""Room of each pool: what its nodes can allocate less what other people's pods take. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from adapters.kubernetes.seen import Node, Pod, PodSpec
from adapters.kubernetes.settings import KubernetesSettings, PoolSettings
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

_SUFFIXES: Mapping[str, int | Decimal] = {
    "": 1, "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "P": 10**15, "E": 10**18, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip
_KEEPS_AWAY = ("NoSchedule", "NoExecute")
Amounts = dict[str, Decimal]
"""Resource name, as Kubernetes has it, to an amount."""


def amount(text: Any) -> Decimal:
    """A quantity of Kubernetes: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    Raises ValueError for what is none."""
    words = str(text)
    number = words.rstrip("numkKMGTPEi")
    suffix = words[len(number) :]
    try:
        if suffix not in _SUFFIXES:
            return Decimal(words)  # such as 1E3
        return Decimal(number) * _SUFFIXES[suffix]
    except InvalidOperation as error:
        raise ValueError(f"{words} is no quantity") from error


def asked_by(spec: PodSpec) -> Amounts:
    """What the scheduler counts for a pod: its containers and sidecars together or, if more, its greediest start container.

    https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers"""
    steady: Amounts = {}
    greediest: Amounts = {}
    for init in spec.init_containers:
        own = _amounts(init.resources.requests)
        if init.restart_policy == "Always":
            _add(steady, own)
        peak = dict(steady) if init.restart_policy == "Always" else _sum(steady, own)
        greediest = {name: max(greediest.get(name, Decimal(0)), peak.get(name, Decimal(0))) for name in {*greediest, *peak}}
    for container in spec.containers:
        _add(steady, _amounts(container.resources.requests))
    asked = {name: max(steady.get(name, Decimal(0)), greediest.get(name, Decimal(0))) for name in {*steady, *greediest}}
    asked |= _amounts(spec.resources.requests)
    _add(asked, _amounts(spec.overhead))
    return asked


def rooms_of(
    pools: Collection[Pool], settings: KubernetesSettings, nodes: Collection[Node], others: Iterable[Pod]
) -> dict[str, Room]:
    """Room by pool. `others` are pods that are not this federation's and not over. A pod that asks for nothing takes nothing."""
    taken: dict[str, Amounts] = {}
    for pod in others:
        if pod.spec.node_name:
            _add(taken.setdefault(pod.spec.node_name, {}), asked_by(pod.spec))
    return {
        pool.name: Room.of(
            (_free(pool, settings, node, taken.get(node.metadata.name, {})), 1)
            for node in nodes
            if is_of(settings.pool(pool.name), node) and takes_work(settings.pool(pool.name), node)
        )
        for pool in pools
    }


def is_of(pool: PoolSettings, node: Node) -> bool:
    """Whether a node has the labels of a pool."""
    return pool.labels.items() <= node.metadata.labels.items()


def takes_work(pool: PoolSettings, node: Node) -> bool:
    """Whether a node is up, open, and has no taint that tasks of this pool may not pass."""
    if node.spec.unschedulable or node.status.has("Ready") is None:
        return False
    return all(
        any(
            toleration.effect in (None, taint.effect)
            and (toleration.key in (None, taint.key))
            and (toleration.operator == "Exists" or (toleration.value or "") == taint.value)
            for toleration in pool.tolerations
        )
        for taint in node.spec.taints
        if taint.effect in _KEEPS_AWAY
    )


def _free(pool: Pool, settings: KubernetesSettings, node: Node, taken: Mapping[str, Decimal]) -> Resources:
    """In the broker's units: cpus of jobs, GiB, GPUs by the types that the pool declares."""
    has = _amounts(node.status.allocatable)

    def left(name: str) -> Decimal:
        return max(has.get(name, Decimal(0)) - taken.get(name, Decimal(0)), Decimal(0))

    gpus = {}
    for kind, _ in pool.per_node.gpus:
        gpu = settings.gpu(kind)
        if gpu.labels.items() <= node.metadata.labels.items():
            gpus[kind] = int(left(gpu.resource))
    cpus = left("cpu") / Decimal(str(settings.cpu_request))
    return Resources.of(float(cpus), float(left("memory") / 2**30), gpus)


def _amounts(given: Mapping[str, Any]) -> Amounts:
    return {name: amount(text) for name, text in given.items()}


def _add(total: Amounts, more: Mapping[str, Decimal]) -> None:
    """Adds in place: `total` is its caller's own."""
    for name, number in more.items():
        total[name] = total.get(name, Decimal(0)) + number


def _sum(one: Mapping[str, Decimal], other: Mapping[str, Decimal]) -> Amounts:
    return {name: one.get(name, Decimal(0)) + other.get(name, Decimal(0)) for name in {*one, *other}}
