"""How it goes: sites, store and members in one answer; whether this process lives and is ready; counters."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from aiohttp import web
from prometheus_client import generate_latest

from broker.api.auth import caller
from broker.api.services import SERVICES, Services, answer
from broker.api.views import Shown
from broker.jobs.model import Phase
from broker.records import Health, SiteStatus
from broker.store import keys as kinds
from broker.world import World

routes = web.RouteTableDef()


@routes.get("/v1/health")
async def show_health(request: web.Request) -> web.Response:
    """Sites with their health and since when; the store with its room; the members and who leads; what is wrong
    with records and tokens is told only to those who are of all tenants."""
    services = request.app[SERVICES]
    world, is_of_all = services.context.world, caller(request).tenant is None
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
            "now": services.context.clock.now(),
            "lease_remaining_s": services.members.remaining_s(),
            "paused": pause_view(world),
            "tokens": services.tokens.objection if services.tokens and is_of_all else "",
            "unreadable_jobs": dict(world.frozen) if is_of_all else {},
            "unwritable": dict(services.context.ledger.rejected) if is_of_all else {},
        }
    )


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
    page = await asyncio.to_thread(generate_latest, metrics.registry)  # thousands of lines: the loop goes on meanwhile
    return web.Response(body=page, content_type="text/plain", charset="utf-8")


def site_health(services: Services, name: str) -> Shown:
    """What is known of a site, and who works it."""
    world = services.context.world
    status = world.statuses.get(name, SiteStatus(name))
    return {
        "name": name,
        "health": status.health,
        "takes_jobs": status.health.takes_jobs and world.sites[name].admission == "open",
        "admission": world.sites[name].admission,
        "drained": world.sites[name].admission.is_draining and not world.count_at(name) and not world.unresolved.get(name),
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


def paused_by(world: World) -> tuple[str, str] | None:
    """Why nothing is placed, or nothing is done at all, and what to do; None when all goes on."""
    if world.is_halted:
        cure = "look whether jobs are as you expect them, then `fed resume` (POST /v1/resume)"
        return "the store was restored from a backup and has gone back", cure
    if world.pause:
        return f"placement is paused by {world.pause.ask.words}", "`fed resume` ends it"
    return None


def pause_view(world: World) -> Shown | None:
    """The same as an answer: with since when, or after which restore."""
    paused = paused_by(world)
    if paused is None:
        return None
    reason = "; ".join(paused)
    if world.is_halted:
        return {"reason": reason, "restore": world.restore}
    return {"reason": reason, "since": world.pause.ask.at if world.pause else None, "restore": None}


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
