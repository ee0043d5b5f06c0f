"""What the federation is made of: sites, links, datasets with replicas, tenants. PUT declares, GET shows, DELETE removes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, TypeVar

from aiohttp import web

from broker.api.admission import admit, close
from broker.api.auth import caller_of, default_tenant, sees, tenant_asked, with_tenant
from broker.api.bodies import body_of_request, check_name, raw_of
from broker.api.changes import TRIES, fresh, is_saved, remove, update, update_at
from broker.api.finding import newest_version
from broker.api.health import site_health
from broker.api.matching import Wanted, tagged, wanted
from broker.api.services import SERVICES, Services, answer
from broker.api.uses import check_dataset_unused, check_site_idle, check_site_unused, check_tenant_unused, datasets_at
from broker.api.views import Shown
from broker.auditing import entry
from broker.documents import DatasetBody, LinkBody, SiteBody, TenantBody, body_of, dataset_of, link_of, site_of, tenant_of
from broker.documents.reading import check, load_json
from broker.errors import Fault, FedError, InConflict, Invalid, NotFound
from broker.jobs.model import DEFAULT_TENANT
from broker.placement.filters import may_not_enter
from broker.records import Tenant
from broker.store import keys as kinds
from broker.store.base import Expect
from broker.store.ledger import Erase, Save
from broker.submission import known_tenant
from broker.world import World
from topology.dataset import Dataset, DatasetId, Replica
from topology.link import Link
from topology.site import Site

routes = web.RouteTableDef()

T = TypeVar("T")


@routes.put("/v1/sites/{name}")
async def put_site(request: web.Request) -> web.Response:
    """A cordon stays unless the body says otherwise. Engine kind and storage stay while jobs are there."""
    services = request.app[SERVICES]
    body = await body_of_request(request, SiteBody)
    check_name(request, body.name)
    declared, key, who = site_of(body), _key(services, kinds.SITES, body.name), caller_of(request)
    known, before = wanted(request), services.context.world.sites.get(body.name)
    closed = before if before is not None and _is_moved(before, declared) else None
    if closed:
        known = Wanted(frozenset([await _closed(services, closed, who, known, check_site_idle)]))

    def changed(old: Site | None) -> Site:
        if old is None:
            return declared
        if _is_moved(old, declared) and not closed:
            raise InConflict(f"site {old.name} was changed meanwhile: look at it, and try again")
        admission = closed.admission if closed else old.admission
        return declared if "admission" in body.model_fields_set else replace(declared, admission=admission)

    try:
        site, revision = await update_at(services, key, changed, who, wanted=known)
    except FedError:
        if closed:
            await admit(services, closed.name, closed.admission, who)
        raise
    return tagged(answer(_site_view(services, site)), revision)


@routes.put("/v1/links/{name}")
async def put_link(request: web.Request) -> web.Response:
    """One direction, between registered sites."""
    services = request.app[SERVICES]
    body = await body_of_request(request, LinkBody)
    link = link_of(body)
    check_name(request, link.name)
    _check_sites(services.context.world, {"from": link.source, "to": link.target})
    _, revision = await _declare(request, _key(services, kinds.LINKS, link.name), lambda _: link)
    return tagged(answer(_link_view(services, link)), revision)


@routes.put("/v1/datasets/{name}")
async def put_dataset(request: web.Request) -> web.Response:
    """A version never changes; replicas are added to those that are known. Its regions stay unless the body says otherwise."""
    services = request.app[SERVICES]
    body = check(DatasetBody, with_tenant(request, load_json(await raw_of(request))))
    world = services.context.world
    if request.match_info["name"] not in (body.name, f"{body.name}@{body.version}"):
        check_name(request, f"{body.name}@{body.version}")
    known_tenant(world.tenants, body.tenant)
    _check_sites(world, {f"replicas.{number}.site": each.site for number, each in enumerate(body.replicas)})
    declared, replicas = dataset_of(body, services.context.clock.now())

    def changed(old: Dataset | None) -> Dataset:
        regions = declared.regions if old is None or "regions" in body.model_fields_set else old.regions
        _check_regions(world, replace(declared, regions=regions), replicas)
        if old is None:
            return declared
        for name in ("size_bytes", "checksum"):
            said, known = getattr(declared, name), getattr(old, name)
            if said is not None and known is not None and said != known:
                raise InConflict(f"{name}: {declared.id} has {known}, and a version never changes: declare a new version")
        size_bytes = declared.size_bytes if old.size_bytes is None else old.size_bytes
        return replace(old, size_bytes=size_bytes, checksum=old.checksum or declared.checksum, regions=regions)

    keys = world.mirror.keys
    dataset, revision = await _declare(request, keys.dataset(declared.id), changed)
    for each in replicas:
        await _add_replica(services, each, caller_of(request))
    return tagged(answer(dataset_view(services, dataset)), revision)


async def _add_replica(services: Services, replica: Replica, who: str) -> None:
    """A copy that somebody says is there, at a site that is still registered. Raises InConflict."""
    key = services.context.world.mirror.keys.replica(replica.dataset, replica.site)
    site_key = _key(services, kinds.SITES, replica.site)
    for _ in range(TRIES):
        (old, revision), (site, of_site) = await fresh(services, key), await fresh(services, site_key)
        if old == replica:
            return
        if site is None:
            break
        audited = entry(services.context, who, "change" if old else "create", key, old, replica)
        (result,) = await services.context.ledger.commit([[Save(key, replica, revision), Expect(site_key, of_site), audited]])
        if is_saved(result):
            return
    raise InConflict(f"site {replica.site} was removed or changed meanwhile: look at it, and try again")


@routes.put("/v1/tenants/{name}")
async def put_tenant(request: web.Request) -> web.Response:
    """Who jobs and datasets belong to."""
    services = request.app[SERVICES]
    tenant = tenant_of(await body_of_request(request, TenantBody))
    check_name(request, tenant.name)
    _check_parent(services.context.world, tenant)
    sites = {f"quotas.{number}.site": quota.site for number, quota in enumerate(tenant.quotas) if quota.site}
    _check_sites(services.context.world, sites)
    _, revision = await _declare(request, _key(services, kinds.TENANTS, tenant.name), lambda _: tenant)
    return tagged(answer(_tenant_view(services, tenant)), revision)


@routes.get("/v1/sites")
async def list_sites(request: web.Request) -> web.Response:
    """All of them, with health."""
    services = request.app[SERVICES]
    return _listed(_site_view(services, site) for _, site in sorted(services.context.world.sites.items()))


@routes.get("/v1/links")
async def list_links(request: web.Request) -> web.Response:
    """All of them, as declared and as measured."""
    services = request.app[SERVICES]
    return _listed(_link_view(services, link) for _, link in sorted(services.context.world.links.items()))


@routes.get("/v1/datasets")
async def list_datasets(request: web.Request) -> web.Response:
    """All of them with their replicas; `tenant` narrows it."""
    services, tenant = request.app[SERVICES], request.query.get("tenant")
    found = sorted(services.context.world.datasets.items())
    shown = (dataset for name, dataset in found if tenant in (None, name.tenant) and _reads(request, name.tenant))
    return _listed(dataset_view(services, dataset) for dataset in shown)


@routes.get("/v1/tenants")
async def list_tenants(request: web.Request) -> web.Response:
    """All of them; `default` is always there."""
    services = request.app[SERVICES]
    found = [tenant for name, tenant in sorted(_tenants(services.context.world).items()) if sees(request, name)]
    return _listed(_tenant_view(services, tenant) for tenant in found)


@routes.get("/v1/sites/{name}")
async def show_site(request: web.Request) -> web.Response:
    """One site."""
    services = request.app[SERVICES]
    site = _one(services.context.world.sites, "site", request)
    return _shown(services, _key(services, kinds.SITES, site.name), _site_view(services, site))


@routes.get("/v1/links/{name}")
async def show_link(request: web.Request) -> web.Response:
    """One link, by `from:to`."""
    services = request.app[SERVICES]
    link = _one(services.context.world.links, "link", request)
    return _shown(services, _key(services, kinds.LINKS, link.name), _link_view(services, link))


@routes.get("/v1/datasets/{name}")
async def show_dataset(request: web.Request) -> web.Response:
    """One version of a dataset: `name@version`, or the newest."""
    services = request.app[SERVICES]
    dataset = services.context.world.datasets.get(_dataset_id(services.context.world, request))
    if dataset is None:
        raise NotFound(f"dataset {request.match_info['name']} has copies at sites and no record: delete it, or declare it anew")
    return _shown(services, services.context.world.mirror.keys.dataset(dataset.id), dataset_view(services, dataset))


@routes.get("/v1/tenants/{name}")
async def show_tenant(request: web.Request) -> web.Response:
    """One tenant."""
    services = request.app[SERVICES]
    tenant = _one(_tenants(services.context.world), "tenant", request)
    if not sees(request, tenant.name):
        raise NotFound(f"no tenant is named {tenant.name}")
    return _shown(services, _key(services, kinds.TENANTS, tenant.name), _tenant_view(services, tenant))


@routes.delete("/v1/sites/{name}")
async def delete_site(request: web.Request) -> web.Response:
    """A site that nothing uses, with the replicas and the status that are known of it; it is cordoned first. Its files stay."""
    services = request.app[SERVICES]
    world, keys = services.context.world, services.context.world.mirror.keys
    site = _one(world.sites, "site", request)
    who = caller_of(request)
    revision = await _closed(services, site, who, wanted(request), check_site_unused)
    await remove(services, [keys.replica(dataset, site.name) for dataset in datasets_at(world, site.name)])
    key = keys.of(kinds.SITES, site.name)
    audited = entry(services.context, who, "delete", key, site, None)
    (result,) = await services.context.ledger.commit([[Erase(key, revision), audited]])
    if not is_saved(result):
        raise InConflict(f"site {site.name} was changed meanwhile: try again")
    await remove(services, [keys.of(kinds.SITE_STATUS, site.name)])
    return web.Response(status=HTTPStatus.NO_CONTENT)


@routes.delete("/v1/links/{name}")
async def delete_link(request: web.Request) -> web.Response:
    """Transfers under way over it go on."""
    services = request.app[SERVICES]
    link = _one(services.context.world.links, "link", request)
    await remove(services, [_key(services, kinds.LINKS, link.name)], caller_of(request), wanted(request))
    await remove(services, [_key(services, kinds.LINK_STATUS, link.name)])
    return web.Response(status=HTTPStatus.NO_CONTENT)


@routes.delete("/v1/datasets/{name}")
async def delete_dataset(request: web.Request) -> web.Response:
    """One version that no unfinished job reads. Its files stay."""
    services = request.app[SERVICES]
    world, keys = services.context.world, services.context.world.mirror.keys
    dataset = _dataset_id(world, request)
    tenant_asked(request, dataset.tenant)
    check_dataset_unused(world, dataset)
    await _taken_away(services, dataset, caller_of(request), wanted(request))
    await remove(services, [keys.replica(dataset, site) for site in world.replicas.get(dataset, ())])
    return web.Response(status=HTTPStatus.NO_CONTENT)


@routes.delete("/v1/tenants/{name}")
async def delete_tenant(request: web.Request) -> web.Response:
    """One that has neither jobs nor datasets."""
    services = request.app[SERVICES]
    tenant = _one(services.context.world.tenants, "tenant", request)
    check_tenant_unused(services.context.world, tenant.name)
    await remove(services, [_key(services, kinds.TENANTS, tenant.name)], caller_of(request), wanted(request))
    return web.Response(status=HTTPStatus.NO_CONTENT)


async def _closed(services: Services, site: Site, who: str, known: Wanted | None, check: Callable[[World, str], None]) -> int:
    """Close a site that is to go, or to be worked in another way; the revision of its record. Raises what `check` does before or
    after, with the site open again, and Outdated where it is not as `known`."""
    world = services.context.world
    check(world, site.name)
    _, revision = await close(services, site.name, who, known)
    try:
        check(world, site.name)
    except InConflict:
        await admit(services, site.name, site.admission, who)
        raise
    return revision


def _is_moved(old: Site, new: Site) -> bool:
    """Whether jobs that are there would be lost sight of."""
    return (old.engine.kind, old.storage.url) != (new.engine.kind, new.storage.url)


async def _taken_away(services: Services, dataset: DatasetId, who: str, known: Wanted | None) -> None:
    """Remove a dataset's record. A placement names the record it relied on, so that once the mirror has seen this, it knows of
    all jobs that were placed with it, and no more are. Raises InConflict, with the record put back, if there are any, and
    Outdated where the record is not as `known`."""
    world, key = services.context.world, services.context.world.mirror.keys.dataset(dataset)
    value, revision = await fresh(services, key)
    if known:
        known.check(revision)
    if value is None:
        return
    audited = entry(services.context, who, "delete", key, value, None)
    (result,) = await services.context.ledger.commit([[Erase(key, revision), audited]])
    if not is_saved(result):
        raise InConflict(f"dataset {dataset} was changed meanwhile: try again")
    await world.mirror.reached(result.revision)
    try:
        check_dataset_unused(world, dataset)
    except InConflict:
        await update(services, key, lambda now: now or value, who)
        raise


def _site_view(services: Services, site: Site) -> Shown:
    return {**body_of(site), **site_health(services, site.name)}


def _link_view(services: Services, link: Link) -> Shown:
    measured = services.context.world.link_statuses.get(link.name)
    return {"name": link.name, **body_of(link), "measured_gbps": measured.gbps if measured else None}


def dataset_view(services: Services, dataset: Dataset) -> Shown:
    """As it was declared, with its replicas and who reads it. A temporary one is kept until then, and while jobs read it."""
    world = services.context.world
    replicas = world.replicas.get(dataset.id, {})
    readers = len(world.used_by.get(dataset.id, ()))
    known = {"sites": sorted(replicas), "read_by": readers, "created_at": dataset.created_at}
    until = dataset.created_at + services.context.settings.keep_temporary_hours * 3600 if dataset.is_temporary else None
    return {**body_of(dataset, replicas.values()), **known, "temporary_until": until}


def _tenant_view(services: Services, tenant: Tenant) -> Shown:
    return {**body_of(tenant), "pending": services.context.world.pending_of(tenant.name)}


def _check_parent(world: World, tenant: Tenant) -> None:
    """Raise Invalid where the parent is unknown, or below the tenant itself."""
    known = _tenants(world)
    above = tenant.parent
    if above is not None and above not in known:
        raise Invalid(faults=[Fault("parent", f"no tenant is named {above}: apply it first")])
    for _ in known:
        if above == tenant.name:
            raise Invalid(faults=[Fault("parent", f"{tenant.parent} is {tenant.name} itself or below it: a tree has no circles")])
        above = known[above].parent if above and above in known else None


def _tenants(world: World) -> Mapping[str, Tenant]:
    return {DEFAULT_TENANT: Tenant(DEFAULT_TENANT), **world.tenants}


async def _declare(request: web.Request, key: str, change: Callable[[Any], T]) -> tuple[T, int]:
    """What is stored now, with its revision. Raises Outdated, InConflict and TooLarge."""
    return await update_at(request.app[SERVICES], key, change, caller_of(request), wanted=wanted(request))


def _shown(services: Services, key: str, view: Shown) -> web.Response:
    return tagged(answer(view), services.context.world.revision(key))


def _listed(items: Iterable[Shown]) -> web.Response:
    return answer({"items": list(items), "next": None})


def _one(table: Mapping[str, T], what: str, request: web.Request) -> T:
    name = request.match_info["name"]
    if name not in table:
        raise NotFound(f"no {what} is named {name}")
    return table[name]


def _reads(request: web.Request, tenant: str) -> bool:
    """Whether the datasets of a tenant are the caller's to read: the own, and those of the default tenant, which is for all."""
    return tenant == DEFAULT_TENANT or sees(request, tenant)


def _dataset_id(world: World, request: web.Request) -> DatasetId:
    """The version that the path names, or the newest. Raises NotFound."""
    name, _, version = request.match_info["name"].partition("@")
    tenant = request.query.get("tenant", default_tenant(request))
    found = newest_version(world, tenant, name) if not version else DatasetId(tenant, name, version)
    if found is None or not _reads(request, tenant) or (found not in world.datasets and not world.replicas.get(found)):
        raise NotFound(f"tenant {tenant} has no dataset {request.match_info['name']}")
    return found


def _check_sites(world: World, named: Mapping[str, str]) -> None:
    """Raise Invalid for each field that names a site which is not registered."""
    unknown = {field: site for field, site in named.items() if site not in world.sites}
    faults = [Fault(field, f"no site is named {site}: apply it first") for field, site in unknown.items()]
    if faults:
        raise Invalid(faults=faults)


def _check_regions(world: World, dataset: Dataset, replicas: Iterable[Replica]) -> None:
    """Raise Invalid for each new replica at a site of a region that the dataset may not enter; what is known already may stay."""
    known = world.replicas.get(dataset.id, {})
    found = [(number, world.sites.get(each.site)) for number, each in enumerate(replicas) if each.site not in known]
    faults = [fault for number, site in found if site and (fault := region_fault(f"replicas.{number}.site", dataset, site))]
    if faults:
        raise Invalid(faults=faults)


def region_fault(field: str, dataset: Dataset, site: Site) -> Fault | None:
    """The fault of a field that names a site which the dataset may not enter; None where it may."""
    if dataset.may_enter(site.region):
        return None
    return Fault(field, f"{site.name} is in {site.region or 'no region'}: {may_not_enter(dataset).text}")


def _key(services: Services, kind: str, name: str) -> str:
    return services.context.world.mirror.keys.of(kind, name)
