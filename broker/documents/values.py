"""From bodies to the plain values inside, and back to the shape in which they were written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from adapters.base import Spark
from broker.documents.bodies import ALL, DatasetBody, LinkBody, PoolBody, QuotaBody, SiteBody, TenantBody
from broker.documents.faults import DocumentError
from broker.documents.job import OBJECTIVES, JobBody, SparkBody
from broker.errors import Fault, Invalid
from broker.jobs.model import Ending, GpuRequest, JobSpec, Retry, SiteRules, Spread, TaskResources, Weights
from broker.records import Quota, Tenant
from topology.dataset import Dataset, DatasetId, Replica
from topology.link import Link
from topology.resources import Resources
from topology.site import Admission, Engine, Fabric, Location, Pool, Power, Price, Site, Storage

NOTHING = {"hours": 0.0, "money": 0.0, "carbon_kg": 0.0}

Resolve = Callable[[str, str, str | None], DatasetId]
"""Tenant, dataset and version (None: the newest) to the dataset meant. Raises Invalid when there is none."""


def site_of(body: SiteBody) -> Site:
    """The site that a body declares."""
    settings = {name: item for name, item in body.engine.items() if name != "kind"}
    return Site(
        name=body.name,
        engine=Engine(body.engine["kind"], settings),
        pools=tuple(_pool(pool) for pool in body.pools),
        storage=Storage(body.storage.url, tuple(body.storage.file_systems), body.storage.options),
        region=body.region,
        location=Location(body.location.lat, body.location.lon) if body.location else None,
        fabric=Fabric(body.fabric),
        price=Price(body.price.currency, body.price.cpu_hour, body.price.gpu_hour),
        carbon_g_per_kwh=body.carbon_g_per_kwh,
        admission=Admission(body.admission),
        queue_ahead=body.queue_ahead,
        allows_preemption=body.allows_preemption,
    )


def _pool(body: PoolBody) -> Pool:
    node = Resources.of(body.per_node.cpus, body.per_node.memory_gib, body.per_node.gpus)
    return Pool(body.name, body.nodes, node, body.speed, Power(body.power.cpu_w, body.power.gpu_w))


def link_of(body: LinkBody) -> Link:
    """The link that a body declares."""
    return Link(body.source, body.target, body.bandwidth_gbps, body.latency_ms, body.price_per_gib)


def dataset_of(body: DatasetBody, now: float) -> tuple[Dataset, tuple[Replica, ...]]:
    """The dataset that a body declares, created `now`, with its replicas."""
    dataset = DatasetId(body.tenant, body.name, body.version)
    replicas = tuple(Replica(dataset, replica.site, replica.path) for replica in body.replicas)
    return Dataset(dataset, body.size_bytes, body.checksum, now, regions=tuple(body.regions)), replicas


def tenant_of(body: TenantBody) -> Tenant:
    """The tenant that a body declares."""
    quotas = tuple(_quota(quota) for quota in body.quotas)
    return Tenant(body.name, body.max_pending, body.max_requests_per_second, body.parent, body.weight, quotas)


def _quota(body: QuotaBody) -> Quota:
    resource = body.resources[0]
    return Quota(resource, float(getattr(body, resource)), body.site, body.gpu_type, body.borrow)


def job_of(body: JobBody, resolve: Resolve) -> tuple[str, JobSpec]:
    """A job's name and spec, each input pinned to what `resolve` says, which is asked for the job's tenant where an input names
    none. Raises DocumentError with a fault for every input that nobody has."""
    wanted, weights, read = body.resources, body.objective, _pinned(body, resolve)
    return body.name, JobSpec(
        tenant=body.tenant,
        command=tuple(body.command or ()),
        script=body.script,
        tasks=body.tasks,
        resources=TaskResources(wanted.cpus, wanted.memory_gib, GpuRequest(wanted.gpus.count, tuple(wanted.gpus.types))),
        inputs=read,
        outputs=tuple(each.dataset for each in body.outputs),
        run_time_s=body.run_time,
        walltime_s=body.walltime,
        objective=Weights(weights.hours, weights.money, weights.carbon_kg),
        max_wait_s=body.max_wait,
        deadline_s=body.deadline,
        sites=SiteRules(
            regions=tuple(body.sites.require.region),
            names=tuple(body.sites.require.site),
            exclude=tuple(body.sites.exclude),
            fabric=body.sites.fabric,
            file_system=body.sites.file_system,
            prefer=tuple(body.sites.prefer),
            spill_after_s=body.sites.spill_after or 0.0,
            affinity=body.sites.affinity,
            spread=Spread(body.sites.spread.word, body.sites.spread.per_site) if body.sites.spread else None,
        ),
        retry=Retry(body.retry.attempts, tuple(Ending(reason) for reason in body.retry.reasons)),
        priority=body.priority,
        env=body.env,
        image=body.image,
        spark=_spark(body.spark),
        workdir=read[-1] if body.workdir else None,
        max_cost=body.max_cost,
        preemptible=body.preemptible,
        checkpoint_s=body.checkpoint,
    )


def _spark(body: SparkBody | None) -> Spark | None:
    if body is None:
        return None
    executors = (body.executors, body.executor_cpus, body.executor_memory_gib)
    return Spark(body.file, body.main_class, tuple(body.arguments), *executors, body.conf)


def _pinned(body: JobBody, resolve: Resolve) -> tuple[DatasetId, ...]:
    found: list[DatasetId] = []
    faults = []
    for field, each in body.reads:
        try:
            tenant, name, version = each.parts
            found.append(resolve(tenant or body.tenant, name, version))
        except Invalid as error:
            message = "; ".join(fault.message for fault in error.faults) or error.detail
            faults.append(Fault(".".join(map(str, field)), message))
    if faults:
        raise DocumentError(faults=faults)
    return tuple(found)


def body_of(value: Site | Link | Dataset | Tenant | JobSpec, replicas: Iterable[Replica] = (), name: str = "") -> dict[str, Any]:
    """The document that declares a value, as `PUT` takes it. A dataset's `replicas` and a job's `name` are kept apart from it."""
    match value:
        case Site():
            return _site_body(value)
        case Link():
            cost = {"latency_ms": value.latency_ms, "price_per_gib": value.price_per_gib}
            return {"from": value.source, "to": value.target, "bandwidth_gbps": value.bandwidth_gbps, **cost}
        case Dataset():
            copies = [{"site": replica.site, "path": replica.path} for replica in sorted(replicas, key=lambda each: each.site)]
            measured = {"size_bytes": value.size_bytes, "checksum": value.checksum, "regions": list(value.regions)}
            return {"tenant": value.id.tenant, "name": value.id.name, "version": value.id.version, **measured, "replicas": copies}
        case Tenant():
            limits = {"max_pending": value.max_pending, "max_requests_per_second": value.max_requests_per_second}
            quotas = [_quota_body(quota) for quota in value.quotas]
            return {"name": value.name, **limits, "parent": value.parent, "weight": value.weight, "quotas": quotas}
        case JobSpec():
            return _job_body(value, name)


def _quota_body(quota: Quota) -> dict[str, Any]:
    amount = int(quota.amount) if quota.resource == "gpus" else quota.amount
    scope = {"site": quota.site, "gpu_type": quota.gpu_type}
    said = {field: value for field, value in scope.items() if value is not None}
    return {**said, quota.resource: amount, "borrow": ALL if quota.borrow is None else quota.borrow}


def _site_body(site: Site) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": site.name,
        "region": site.region,
        "engine": {"kind": site.engine.kind, **site.engine.settings},
        "pools": [
            {
                "name": pool.name,
                "nodes": pool.nodes,
                "per_node": {
                    "cpus": pool.per_node.cpus,
                    "memory_gib": pool.per_node.memory_gib,
                    "gpus": dict(pool.per_node.gpus),
                },
                "speed": pool.speed,
                "power": {"cpu_w": pool.power.cpu_w, "gpu_w": pool.power.gpu_w},
            }
            for pool in site.pools
        ],
        "fabric": str(site.fabric),
        "storage": {
            "url": site.storage.url,
            "file_systems": list(site.storage.file_systems),
            "options": dict(site.storage.options),
        },
        "price": {"currency": site.price.currency, "cpu_hour": site.price.cpu_hour, "gpu_hour": dict(site.price.gpu_hour)},
        "carbon_g_per_kwh": site.carbon_g_per_kwh,
        "admission": str(site.admission),
        "queue_ahead": site.queue_ahead,
        "allows_preemption": site.allows_preemption,
    }
    if site.location:
        body["location"] = {"lat": site.location.lat, "lon": site.location.lon}
    return body


def _job_body(spec: JobSpec, name: str) -> dict[str, Any]:
    gpus = {"count": spec.resources.gpus.count, "types": list(spec.resources.gpus.types)}
    weights = {"hours": spec.objective.hours, "money": spec.objective.money, "carbon_kg": spec.objective.carbon_kg}
    body: dict[str, Any] = {
        "name": name,
        "tenant": spec.tenant,
        "command": list(spec.command) or None,
        "script": spec.script,
        "tasks": spec.tasks,
        "resources": {"cpus": spec.resources.cpus, "memory_gib": spec.resources.memory_gib, "gpus": gpus},
        "inputs": [{"dataset": str(dataset)} for dataset in spec.inputs if dataset != spec.workdir],
        "workdir": str(spec.workdir) if spec.workdir else None,
        "outputs": [{"dataset": output} for output in spec.outputs],
        "run_time": spec.run_time_s,
        "walltime": spec.walltime_s,
        "image": spec.image,
        "spark": _spark_body(spec.spark) if spec.spark else None,
        "objective": next((word for word, named in OBJECTIVES.items() if {**NOTHING, **named} == weights), weights),
        "max_wait": spec.max_wait_s,
        "deadline": spec.deadline_s,
        "max_cost": spec.max_cost,
        "preemptible": spec.preemptible,
        "checkpoint": spec.checkpoint_s,
        "sites": _sites_body(spec.sites),
        "retry": {"attempts": spec.retry.attempts, "reasons": [str(reason) for reason in spec.retry.reasons]},
        "priority": spec.priority,
        "env": dict(spec.env),
    }
    return {field: value for field, value in body.items() if value is not None}


def _sites_body(rules: SiteRules) -> dict[str, Any]:
    return {
        "require": {"region": list(rules.regions), "site": list(rules.names)},
        "exclude": list(rules.exclude),
        "fabric": rules.fabric,
        "file_system": rules.file_system,
        "prefer": list(rules.prefer),
        "spill_after": rules.spill_after_s or None,
        "affinity": rules.affinity,
        "spread": {"word": rules.spread.word, "per_site": rules.spread.per_site} if rules.spread else None,
    }


def _spark_body(spark: Spark) -> dict[str, Any]:
    body = asdict(spark)
    return {**body, "arguments": list(spark.arguments), "conf": dict(spark.conf)}
