"""Which job a caller means, and what a query asks for."""

from __future__ import annotations

import re

from aiohttp import web

from broker.api.auth import sees, tenant_asked
from broker.api.changes import catch_up
from broker.api.services import SERVICES, Services
from broker.errors import Fault, InConflict, Invalid, NotFound
from broker.jobs.model import DEFAULT_TENANT
from broker.store import keys as kinds
from broker.world import Job, World
from topology.dataset import DatasetId

LEAST_SUFFIX = 5
"""So many last characters of an id may stand for it, where only one job's ends so."""


async def job_of_request(request: web.Request) -> Job:
    """The job that the path names, by id, or by the end of an id or a name, if only one job has it. Raises NotFound and
    InConflict."""
    services = request.app[SERVICES]
    name = request.match_info["job"]
    tenant = tenant_asked(request, request.query.get("tenant"))
    job = _known(services, name, tenant)
    if job is None and await catch_up(services, services.context.world.mirror.keys.of(kinds.WISHES, name)):
        job = _known(services, name, tenant)
    if job is None or not sees(request, job.wish.tenant):
        raise NotFound(f"no job has the id or name {name}")
    return job


def _known(services: Services, name: str, tenant: str | None) -> Job | None:
    world = services.context.world
    if name in world.jobs:
        return world.jobs[name]
    if name in world.frozen and tenant is None:
        raise InConflict(f"a record of job {name} cannot be read, so it is left alone: {world.frozen[name]}")
    tenants = [tenant] if tenant else {DEFAULT_TENANT, *world.tenants}
    found = [job for owner in tenants for job in world.names.get((owner, name), ())]
    if len(found) > 1:
        raise InConflict(f"{len(found)} jobs are named {name}: use an id, such as {max(found)} for the newest")
    if not found and len(name) >= LEAST_SUFFIX:
        found = [job for job in world.ids if job.endswith(name) and tenant in (None, world.jobs[job].wish.tenant)]
        if len(found) > 1:
            raise InConflict(f"the ids of {len(found)} jobs end in {name}: give more of it, such as {max(found)} for the newest")
    return world.jobs[found[0]] if found else None


def newest_version(world: World, tenant: str, name: str) -> DatasetId | None:
    """A dataset's version that was made last; None when there is none."""
    versions = world.versions.get((tenant, name), {}).values()
    return max(versions, key=lambda dataset: (dataset.created_at, dataset.id.version)).id if versions else None


def whole_number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """A query's number. Raises Invalid."""
    given = request.query.get(name, str(default))
    if not re.fullmatch("[0-9]{1,19}", given) or not least <= int(given) <= most:
        raise Invalid(faults=[Fault(name, f"{given!r} is no whole number from {least} to {most}")])
    return int(given)


def reason_of(request: web.Request, cure: str) -> str:
    """What the query's `why` says. Raises Invalid where it says nothing, with the cure."""
    why = request.query.get("why", "").strip()
    if not why:
        raise Invalid(faults=[Fault("why", cure)])
    return why


def flag(request: web.Request, name: str) -> bool:
    """A query's yes or no; absent is no. Raises Invalid."""
    given = request.query.get(name, "false").lower()
    if given not in ("true", "false", "1", "0"):
        raise Invalid(faults=[Fault(name, f"{given!r} is neither true nor false")])
    return given in ("true", "1")
