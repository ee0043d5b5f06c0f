"""Datasets by their bytes: a tar archive is written at a site, and is a dataset there once it is whole."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from broker.api.auth import caller_of, tenant_asked
from broker.api.changes import TRIES, fresh, is_saved
from broker.api.finding import flag
from broker.api.matching import tagged
from broker.api.peers import pass_on
from broker.api.resources import dataset_view, region_fault
from broker.api.services import SERVICES, Services, answer
from broker.auditing import entry
from broker.documents import DatasetBody
from broker.documents.reading import check
from broker.errors import Fault, InConflict, Invalid, Unavailable
from broker.jobs.model import DEFAULT_TENANT
from broker.packing import version_of
from broker.records import SiteStatus
from broker.storage import StorageError, Tree
from broker.store import keys as kinds
from broker.store.base import Expect
from broker.store.ledger import Save
from broker.submission import known_tenant
from broker.uploads import CutOff
from broker.world import World
from topology.dataset import Dataset, DatasetId, Replica
from topology.site import Admission, Site

routes = web.RouteTableDef()

TAR = "application/x-tar"


@routes.put("/v1/datasets/{name}/content", name="upload")
async def put_content(request: web.Request) -> web.StreamResponse:
    """A dataset's files as a tar archive, kept at `site`: `name@version`, or a version that follows from the content. A version
    never changes: the same content again is well, other content is in conflict."""
    services = request.app[SERVICES]
    if request.content_type != TAR:
        raise web.HTTPUnsupportedMediaType(reason=f"send Content-Type: {TAR}")
    body, is_temporary = _asked(request), flag(request, "temporary")
    known_tenant(services.context.world.tenants, body.tenant)
    site = _site_of(services.context.world, request.query.get("site"), _known(services.context.world, body))
    if services.sites.adapter(site.name) is None:
        return await pass_on(request, services, site.name, {"site": site.name})
    path, tree = await _taken(request, services, site)
    is_kept = False
    try:
        if body.checksum not in (None, tree.checksum):
            raise Invalid(faults=[Fault("checksum", f"what came has {tree.checksum}: did it change while it was sent?")])
        version = body.version if "version" in body.model_fields_set else version_of(tree.checksum)
        dataset = DatasetId(body.tenant, body.name, version)
        made = Dataset(dataset, tree.size_bytes, tree.checksum, services.context.clock.now(), is_temporary)
        is_kept, stored, revision = await _stored(services, made, Replica(dataset, site.name, path), site, caller_of(request))
    finally:
        if not is_kept:
            await services.uploads.remove(site, path)
    return tagged(answer(dataset_view(services, stored)), revision)


def _asked(request: web.Request) -> DatasetBody:
    """Name, version, tenant and checksum, as a document would have them. Raises DocumentError."""
    name, _, version = request.match_info["name"].partition("@")
    tenant = tenant_asked(request, request.query.get("tenant")) or DEFAULT_TENANT
    said = {"version": version or None, "checksum": request.query.get("checksum")}
    return check(DatasetBody, {"name": name, "tenant": tenant, **{field: value for field, value in said.items() if value}})


def _known(world: World, body: DatasetBody) -> Dataset | None:
    """The version that is named, where it is declared already."""
    is_named = "version" in body.model_fields_set
    return world.datasets.get(DatasetId(body.tenant, body.name, body.version)) if is_named else None


def _site_of(world: World, name: str | None, dataset: Dataset | None) -> Site:
    """Where it is to be kept: the site that is named, else the largest that takes jobs and that the dataset, where it is known,
    may enter. Raises FedErrors."""
    if name is not None:
        if name not in world.sites:
            raise Invalid(faults=[Fault("site", f"no site is named {name}: see `fed get sites`")])
        _check_region(dataset, world.sites[name])
        status = world.statuses.get(name, SiteStatus(name))
        if not status.health.takes_jobs:
            raise Unavailable(f"site {name} is {status.health}, so nothing is sent there: {status.reason or 'it is being asked'}")
        return world.sites[name]
    if not world.sites:
        raise InConflict("there is no site that could keep it: `fed apply` one")
    fit = [
        site
        for site in world.sites.values()
        if site.admission is Admission.OPEN and world.statuses.get(site.name, SiteStatus(site.name)).health.takes_jobs
    ]
    if not fit:
        raise Unavailable("no site takes anything just now: see `fed health`")
    fit = [site for site in fit if dataset is None or dataset.may_enter(site.region)]
    if not fit and dataset is not None:
        raise Unavailable(f"no site takes it just now: {dataset.id} may only be brought to {' or '.join(dataset.regions)}")
    return max(fit, key=lambda site: (sum(pool.nodes * pool.per_node.cpus for pool in site.pools), site.name))


def _check_region(dataset: Dataset | None, site: Site) -> None:
    """Raise Invalid where a dataset may not be brought to a site."""
    fault = region_fault("site", dataset, site) if dataset is not None else None
    if fault:
        raise Invalid(faults=[fault])


async def _taken(request: web.Request, services: Services, site: Site) -> tuple[str, Tree]:
    try:
        return await services.uploads.take(site, request.content)
    except StorageError as error:
        raise Unavailable(f"site {site.name} does not take it: {error}") from error
    except CutOff as error:
        raise Invalid(faults=[Fault("body", "broke off")]) from error


async def _stored(services: Services, made: Dataset, replica: Replica, site: Site, who: str) -> tuple[bool, Dataset, int]:
    """Whether the replica is the dataset's now, and not an older one at the site; and the dataset as it is stored, with its
    revision. Raises InConflict, and Invalid where the dataset may not be at the site."""
    keys = services.context.world.mirror.keys
    key, replica_key, site_key = keys.dataset(made.id), keys.replica(made.id, site.name), keys.of(kinds.SITES, site.name)
    for _ in range(TRIES):
        old, revision = await fresh(services, key)
        stored = _merged(old, made, services.context.world)
        there, _ = await fresh(services, replica_key)
        now, site_revision = await fresh(services, site_key)
        if now is None or now.storage != site.storage:
            raise InConflict(f"the storage of site {site.name} was changed meanwhile: send it again")
        audited = entry(services.context, who, "upload", key, old, stored)
        draft: list[Save | Expect] = [Save(key, stored, revision), Expect(site_key, site_revision), audited]
        if there is None:
            _check_region(stored, site)
            draft.append(Save(replica_key, replica, 0))
        (result,) = await services.context.ledger.commit([draft])
        if is_saved(result):
            return there is None, stored, result.revision
    raise InConflict("others keep changing it: try again")


def _merged(old: Dataset | None, made: Dataset, world: World) -> Dataset:
    """What is stored of a version that somebody sends. Raises InConflict where it is another's content."""
    if old is None:
        return made
    if old.checksum is None and world.replicas.get(made.id):
        raise InConflict(f"{made.id} is there, and is being measured: try again in a moment")
    if old.checksum not in (None, made.checksum):
        raise InConflict(f"{made.id} has other content ({old.checksum}), and a version never changes: name a new version")
    is_temporary = old.is_temporary and made.is_temporary
    created_at = made.created_at if is_temporary else old.created_at
    return replace(made, created_at=created_at, is_temporary=is_temporary, regions=old.regions)
