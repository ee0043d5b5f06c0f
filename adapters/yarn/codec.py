"""Runs to YARN's applications, and its listings to reports and rooms. Pure.

Fields: https://hadoop.apache.org/docs/stable/hadoop-yarn/hadoop-yarn-site/ResourceManagerRest.html
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from adapters.base import EndReason, Run, RunName
from adapters.yarn.master.application import CODE, ORDER, Order
from adapters.yarn.master.scheduler import Size
from adapters.yarn.master.task import LOGS
from adapters.yarn.scripts import CARRIED, Storage, claim_script, task_script
from adapters.yarn.settings import YarnSettings
from adapters.yarn.spark import largest_of, spark_objection, spark_order
from topology.resources import Resources
from topology.site import Site

OURS = "fedbroker"
"""Tag of every application of any federation, by which one query finds them."""
FEDERATION, NAME, SPEC, TASKS, POOL, GPUS = "fed-of:", "fed-run:", "fed-spec:", "fed-tasks:", "fed-pool:", "fed-gpus:"
"""What our other tags begin with. YARN takes ten of at most 100 ASCII characters, and makes them lower case."""
MOST_TAG = 90
MOST_ORDER = 600_000
"""Characters of an order: YARN keeps it with the application, and its store takes 1 MiB for one."""
PIECE = 100_000
"""Characters per environment variable: Linux takes 128 KiB."""


def tag_of(name: str) -> str:
    """A name of any length as the end of a tag."""
    return name if len(name) <= MOST_TAG and name.isascii() else hashlib.sha256(name.encode()).hexdigest()


def spec_of(run: Run) -> str:
    """A digest by which two runs of one name are told apart. Not of the id, which may be another one's."""
    fields = {name: value for name, value in asdict(run).items() if name != "native_id"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:32]


def tags_of(run: Run) -> Sequence[str]:
    """Of its application."""
    gpus = "+".join(f"{gpu}={count}" for gpu, count in run.per_task.gpus)
    tags = [OURS, FEDERATION + tag_of(run.federation), NAME + tag_of(run.name), SPEC + spec_of(run), f"{TASKS}{run.tasks}"]
    tags += [POOL + tag_of(run.pool)] + ([GPUS + gpus] if gpus else [])
    return [tag.lower() for tag in tags]


def size_of(task: Resources, settings: YarnSettings) -> Size:
    """Of a container for one task. Parts of a cpu are not to be had; YARN rounds memory up by rules of its own."""
    others: dict[str, int] = {}
    for gpu, count in task.gpus:
        name = settings.resource_type(gpu)
        others[name] = others.get(name, 0) + count
    return Size(max(1, math.ceil(task.memory_gib * 1024)), max(1, math.ceil(task.cpus)), others)


def objection(run: Run, site: Site, storage: Storage, settings: YarnSettings) -> str | None:
    """Why this site can never take the run, if so."""
    pool = site.pool(run.pool)
    if run.image is not None:
        return "this site runs no container images"
    if pool is None:
        return f"there is no pool {run.pool}"
    each, count = run.per_task, run.tasks
    if run.spark is not None:
        refusal = spark_objection(run, run.spark, storage, settings)
        if refusal:
            return refusal
        each, count = largest_of(run, run.spark)
    whole = Resources(max(1, math.ceil(each.cpus)), each.memory_gib, each.gpus)
    if pool.empty.fit(whole) < count:
        return f"pool {run.pool} never has {count} times {whole} at once"
    return None


def order_of(run: Run, storage: Storage, settings: YarnSettings) -> Order:
    """What its application master is told. `storage` is how tasks come by the site's storage."""
    order = Order(
        tasks=run.tasks,
        claim=claim_script(run, storage, settings.python),
        task=task_script(run, storage, settings.python) if run.spark is None else "",
        size=size_of(run.per_task, settings),
        label=settings.label(run.pool),
        patience_s=settings.gang_patience_s,
        grace_s=settings.grace_s,
        walltime_s=run.walltime_s,
        scheduler=settings.scheduler_address,
        # no quotes and no name of ours: the node manager puts it into double quotes for another shell
        command=f"printf %s ${CODE} | base64 -d > {CARRIED} && exec {settings.python} -S -E {CARRIED} 2><LOG_DIR>/stderr",
    )
    return order if run.spark is None else spark_order(run, run.spark, order, storage, settings)


def encoded(order: Order) -> str:
    """As `Order.read` reads it."""
    return base64.b64encode(gzip.compress(json.dumps(asdict(order)).encode(), 9, mtime=0)).decode()


def submission(run: Run, order: Order, settings: YarnSettings, code: str) -> Mapping[str, Any]:
    """The body of Cluster Applications API (Submit Application). `code` is the application master."""
    text = encoded(order)
    pieces = {f"{ORDER}_{number}": text[at : at + PIECE] for number, at in enumerate(range(0, len(text), PIECE))}
    environment = {CODE: code, LOGS: "<LOG_DIR>", **pieces}
    label = {"app-node-label-expression": order.label, "am-container-node-label-expression": order.label} if order.label else {}
    return {
        "application-id": run.native_id,
        "application-name": run.name,
        "application-type": "FEDBROKER",
        "queue": settings.queues.get(run.tenant, settings.queue),
        "max-app-attempts": 1,
        "keep-containers-across-application-attempts": False,
        "application-tags": {"tag": tags_of(run)},
        **({} if settings.priority is None else {"priority": settings.priority}),
        "resource": resource_body(order.size),
        **label,
        "am-container-spec": {
            "commands": {"command": order.command},
            "environment": {"entry": [{"key": name, "value": value} for name, value in environment.items()]},
        },
    }


def resource_body(size: Size) -> Mapping[str, Any]:
    """A container's size in a submission."""
    others = [{"name": name, "value": count, "units": "", "resourceType": "COUNTABLE"} for name, count in size.others.items()]
    extra = {"resourceInformations": {"resourceInformation": others}} if others else {}
    return {"memory": size.memory_mib, "vCores": size.vcores, **extra}


def too_long(order: Order) -> str | None:
    """Why the order cannot be sent, if so."""
    if len(order.task) < MOST_ORDER // 2:  # nothing becomes twice as long
        return None
    length = len(encoded(order))
    return f"its command and script are too long for YARN: {length} bytes packed" if length > MOST_ORDER else None


def reason_of(status: str | None) -> EndReason | None:
    """A reason as the application master wrote it."""
    return EndReason(status) if status in set(EndReason) else None


def names_like(federation: str, name: RunName) -> bool:
    """Whether a run of this name looks like one of this federation's."""
    return name.startswith(f"{federation}-")
