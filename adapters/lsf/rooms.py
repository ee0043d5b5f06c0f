"""What a pool has for this federation, from `bqueues`, `bhosts` and our own listed jobs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from adapters.base import Unreachable
from adapters.lsf.codec import Job
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

QUEUE_FIELDS = ("queue_name", "status", "hosts")
HOST_FIELDS = ("host_name", "status", "max", "njobs")
_USABLE = ("ok", "closed_Full", "closed_Cu_Excl", "closed_Excl", "closed_EGO", "closed_Busy")
"""States of a host whose slots are counted: the free ones are what is left. Others take no jobs, whatever they have
(https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_command_ref/bhosts.1.html)."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as `bqueues` lists it. `hosts` are names of hosts and host groups; none stands for all."""

    name: str
    is_open: bool
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """A host as `bhosts` lists it. `slots` is None where it has no limit; `used` counts everybody's, ours too."""

    name: str
    is_usable: bool
    slots: int | None
    used: int


def queues_of(records: Sequence[Mapping[str, str]]) -> dict[str, Queue]:
    """By name. A queue that is inactive takes jobs and starts none: it has no room either. Raises Unreachable for a record that
    makes no sense."""
    try:
        return {record["QUEUE_NAME"]: _queue(record) for record in records}
    except KeyError as error:
        raise Unreachable(f"bqueues: a record without {error}") from error


def _queue(record: Mapping[str, str]) -> Queue:
    words = record["HOSTS"].split()
    hosts = () if not words or "all" in words else tuple(word.partition("+")[0].rstrip("/") for word in words)
    return Queue(record["QUEUE_NAME"], record["STATUS"] == "Open:Active", hosts)


def hosts_of(records: Sequence[Mapping[str, str]]) -> list[Host]:
    """Raises Unreachable for a record that makes no sense."""
    try:
        return [_host(record) for record in records]
    except (KeyError, ValueError) as error:
        raise Unreachable(f"bhosts: what it printed is no answer: {error!r}") from error


def _host(record: Mapping[str, str]) -> Host:
    slots = None if record["MAX"] in ("-", "") else int(record["MAX"])
    is_usable = record["STATUS"] in _USABLE
    return Host(record["HOST_NAME"], is_usable, slots, 0 if record["NJOBS"] in ("-", "") else int(record["NJOBS"]))


def busy_gpus(text: str) -> dict[str, dict[str, int]]:
    """GPUs that somebody uses, by host and model, from the table of `bhosts -gpu`
    (https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_command_ref/bhosts.gpu.1.html). A host is named in its first line only."""
    lines = [line.split() for line in text.splitlines()]
    head = next((number for number, words in enumerate(lines) if words[:1] in (["HOST_NAME"], ["HOST"])), None)
    if head is None:
        return {}
    columns = ["HOST_NAME", *lines[head][1:]]
    busy: dict[str, dict[str, int]] = {}
    host = ""
    for words in lines[head + 1 :]:
        if len(words) == len(columns):
            host = words[0]
        elif len(words) == len(columns) - 1:
            words = [host, *words]
        else:
            continue
        row = dict(zip(columns, words, strict=True))
        if row.get("NJOBS", "0") not in ("0", "-"):
            models = busy.setdefault(host, {})
            models[row["MODEL"]] = models.get(row["MODEL"], 0) + 1
    return busy


def room_of(
    pool: Pool,
    queue: Queue | None,
    hosts: Collection[Host],
    busy: Mapping[str, Mapping[str, int]],
    ours: Collection[Job],
    models: Mapping[str, str],
) -> Room:
    """Free on each host plus what our own jobs hold there. Memory that others reserved is not in these tables.

    `models` is LSF's name of each GPU type of ours."""
    if queue is None or not queue.is_open:
        return Room()
    slots, gpus = _held(ours)
    nodes = []
    for host in hosts:
        if not host.is_usable:
            continue
        others = max(host.used - slots.get(host.name, 0), 0)
        limit = pool.per_node.cpus if host.slots is None else min(pool.per_node.cpus, host.slots)
        cpus = min(limit, (limit if host.slots is None else host.slots) - others)
        if cpus <= 0:
            continue
        free = {}
        for kind, count in pool.per_node.gpus:
            taken = busy.get(host.name, {}).get(models.get(kind, kind), 0) - gpus.get((host.name, kind), 0)
            free[kind] = max(count - max(taken, 0), 0)
        nodes.append((Resources.of(cpus, pool.per_node.memory_gib, free), 1))
    return Room.of(nodes)


def _held(ours: Collection[Job]) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Slots by host, and GPUs by host and type, of our jobs that have started and are not over."""
    slots: dict[str, int] = {}
    gpus: dict[tuple[str, str], int] = {}
    for job in ours:
        if job.is_over:
            continue
        for host, count in job.hosts.items():
            slots[host] = slots.get(host, 0) + count
            for kind, each in job.per_task.gpus:
                gpus[host, kind] = gpus.get((host, kind), 0) + each * max(count // job.slots_per_task, 1)
    return slots, gpus
