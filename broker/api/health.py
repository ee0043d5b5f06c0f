"""How it goes: sites, store and members in one answer; whether this process lives and is ready; counters."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

from aiohttp import web
from prometheus_client import generate_latest

from broker.api.auth import caller_of
from broker.api.changes import update
from broker.api.services import SERVICES, Services, answer
from broker.api.views import Shown
from broker.errors import InConflict
from broker.jobs.model import Ask, Phase
from broker.records import Health, Restore, SiteStatus
from broker.store import keys as kinds
from broker.world import World

routes = web.RouteTableDef()


@routes.get("/v1/health")
async def show_health(request: web.Request) -> web.Response:
    """Sites with their health and since when; the store with its room; the members and who leads."""
    services = request.app[SERVICES]
    world = services.context.world
    return answer(
        {
            "sites": [site_health(services, name) for name in sorted(world.sites)],
            "store": _store(services),
            "members": [
                {"id": each.id, "url": each.url, "version": each.version, "started_at": each.started_at}
                for each in world.members.values()
            ],
            "leader": holder(services, kinds.LEADER),
            "me": services.members.me.id,
            "lease_remaining_s": services.members.remaining_s(),
            "paused": _pause(world),
            "tokens": services.tokens.objection if services.tokens else "",
            "unreadable_jobs": dict(world.frozen),
            "unwritable": dict(services.context.ledger.rejected),
        }
    )


@routes.post("/v1/resume")
async def resume(request: web.Request) -> web.Response:
    """An admin has looked at what a restore of the store brought back: act again, under new epochs."""
    services = request.app[SERVICES]
    world, now = services.context.world, services.context.clock.now()

    def resumed(restore: Restore | None) -> Restore:
        if restore is None or restore.resumed or world.mirror.rewind:
            raise InConflict("nothing to resume: no restore of the store waits to be looked at")
        return replace(restore, resumed=Ask(caller_of(request), request.query.get("why", ""), now))

    await update(services, world.mirror.keys.of(kinds.RESTORE), resumed)
    return answer({"paused": _pause(world)})


@routes.get("/healthz")
async def show_life(request: web.Request) -> web.Response:
    """This process answers."""
    return answer({"status": "ok"})


@routes.get("/readyz")
async def show_readiness(request: web.Request) -> web.Response:
    """Whether this process knows the records and holds its lease."""
    services = request.app[SERVICES]
    missing = [
        why
        for is_so, why in (
            (services.context.world.mirror.is_live, "the records are not being followed"),
            (services.members.remaining_s() > 0, "no lease is held"),
        )
        if not is_so
    ]
    status = HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK
    return answer({"status": "not ready" if missing else "ok", "missing": missing}, status=status)


@routes.get("/metrics")
async def show_metrics(request: web.Request) -> web.Response:
    """Counters in Prometheus' text format."""
    services = request.app[SERVICES]
    world, metrics = services.context.world, services.context.metrics
    for phase in Phase:
        metrics.jobs_phase.labels(phase).set(len(world.by_phase[phase]))
    metrics.site_health.clear()
    for name in world.sites:
        metrics.site_health.labels(name, world.statuses.get(name, SiteStatus(name)).health).set(1)
    metrics.is_leader.set(services.members.is_leader)
    return web.Response(body=generate_latest(metrics.registry), content_type="text/plain", charset="utf-8")


def site_health(services: Services, name: str) -> Shown:
    """What is known of a site, and who works it."""
    world = services.context.world
    status = world.statuses.get(name, SiteStatus(name))
    return {
        "name": name,
        "health": status.health,
        "takes_jobs": status.health.takes_jobs and world.sites[name].admission == "open",
        "admission": world.sites[name].admission,
        "reason": status.reason or ("not probed yet" if status.health is Health.UNKNOWN else ""),
        "since": status.since or None,
        "is_lost": status.is_lost,
        "observed_at": status.observed_at or None,
        "checks": status.checks,
        "owner": holder(services, kinds.OWNERS, name),
        "jobs": world.count_at(name),
        "unresolved": len(world.unresolved.get(name, ())),
    }


def holder(services: Services, *names: str) -> str | None:
    """The member that holds leadership, or a site."""
    mirror = services.context.world.mirror
    entry = mirror.entries.get(mirror.keys.of(*names))
    return entry.value.member if entry and entry.value else None


def _pause(world: World) -> Shown | None:
    """Why nothing is placed, submitted or stopped, and what to do; None when all goes on."""
    if not world.is_paused:
        return None
    cure = "look whether jobs are as you expect them, then `fed resume` (POST /v1/resume)"
    return {"reason": f"the store was restored from a backup and has gone back: {cure}", "restore": world.restore}


def _store(services: Services) -> Shown:
    vitals, mirror = services.vitals, services.context.world.mirror
    status = vitals.status
    return {
        "version": status.version if status else None,
        "size_bytes": status.size_bytes if status else None,
        "quota_bytes": vitals.quota_bytes,
        "has_nospace_alarm": status.has_nospace_alarm if status else None,
        "members": status.members if status else None,
        "takes_new_jobs": vitals.objection() is None,
        "reason": vitals.objection() or "",
        "failing_since": vitals.failing_since,
        "mirror": {"is_live": mirror.is_live, "revision": mirror.revision},
    }
