"""Who still uses a site, dataset or tenant, and so keeps it from being removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from broker.errors import InConflict
from broker.jobs.model import DEFAULT_TENANT
from broker.world import World
from topology.dataset import DatasetId

MOST_NAMED = 5


def check_site_idle(world: World, site: str) -> None:
    """Raise InConflict while jobs are at a site, or may be."""
    _refuse_jobs(f"site {site}", "are at it", [job.id for job in world.at(site)], "cancel them or wait, and cordon the site")
    unresolved = [job for job, _ in world.unresolved.get(site, ())]
    _refuse_jobs(f"site {site}", "may still run there, out of reach", unresolved, "it must come back first")


def check_site_unused(world: World, site: str) -> None:
    """Raise InConflict while jobs are at a site, it holds the last copy of what unfinished jobs read, something is brought from
    it, links lead to it, or quotas name it."""
    check_site_idle(world, site)
    for dataset in datasets_at(world, site):
        if len(world.replicas[dataset]) == 1:
            readers = world.used_by.get(dataset, ())
            _refuse_jobs(f"site {site}", f"read {dataset}, which only it has", readers, "cancel them or wait")
    bookings = [booking for at in world.bookings.values() for booking in at.values()]
    leaving = [f"{each.dataset} to {each.target}" for each in bookings if each.source == site]
    if leaving:
        raise InConflict(f"site {site} is in use: transfers bring {_named(leaving)} from it: wait, or cancel what needs them")
    links = [link.name for link in world.links.values() if site in (link.source, link.target)]
    if links:
        raise InConflict(f"site {site} is used by links {_named(links)}: delete them first")
    bound = [tenant.name for tenant in world.tenants.values() if any(quota.site == site for quota in tenant.quotas)]
    if bound:
        raise InConflict(f"site {site} is named by quotas of {_named(bound)}: take them out first")


def check_dataset_unused(world: World, dataset: DatasetId) -> None:
    """Raise InConflict while unfinished jobs read it."""
    _refuse_jobs(f"dataset {dataset}", "read it", world.used_by.get(dataset, ()), "cancel them or wait")


def check_tenant_unused(world: World, tenant: str) -> None:
    """Raise InConflict while a tenant has tenants below it, jobs or datasets."""
    children = [child.name for child in world.tenants.values() if child.parent == tenant]
    if children:
        raise InConflict(f"tenant {tenant} is the parent of {_named(children)}: give them another first")
    if tenant == DEFAULT_TENANT:
        return
    jobs = list(world.sorts.get(("tenant", tenant), ()))
    _refuse_jobs(f"tenant {tenant}", "belong to it", jobs, "finished ones go after `keep_finished`")
    datasets = [str(dataset) for dataset in world.datasets if dataset.tenant == tenant]
    if datasets:
        raise InConflict(f"tenant {tenant} is used by datasets {_named(datasets)}: delete them first")


def datasets_at(world: World, site: str) -> list[DatasetId]:
    """Datasets with a replica at a site."""
    return [dataset for dataset, at in world.replicas.items() if site in at]


def _refuse_jobs(what: str, how: str, jobs: Collection[str], cure: str) -> None:
    if jobs:
        raise InConflict(f"{what} is in use: {len(jobs)} jobs {how}, {_named(jobs)}: {cure}")


def _named(names: Iterable[str]) -> str:
    names = sorted(names)
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])
