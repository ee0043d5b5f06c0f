"""For who runs the federation: pause and resume, and who changed what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace

from aiohttp import web

from broker.api.auth import caller_of
from broker.api.changes import remove, update
from broker.api.health import pause_view
from broker.api.pages import page_of
from broker.api.services import SERVICES, answer
from broker.errors import InConflict
from broker.jobs.model import Ask
from broker.records import Audit, Pause, Restore
from broker.store import keys as kinds

routes = web.RouteTableDef()

FILTERS = ("who", "what", "record")


@routes.post("/v1/pause")
async def pause(request: web.Request) -> web.Response:
    """Nothing is placed any more, anywhere, until resumed; what is at a site goes on."""
    services = request.app[SERVICES]
    world = services.context.world
    ask = Ask(caller_of(request), request.query.get("why", ""), services.context.clock.now())
    await update(services, world.mirror.keys.of(kinds.PAUSE), lambda old: old or Pause(ask), ask.who, "pause")
    return answer({"paused": pause_view(world)})


@routes.post("/v1/resume")
async def resume(request: web.Request) -> web.Response:
    """End a pause. After a restore of the store: an admin has looked at what it brought back, and brokers act again, under new
    epochs."""
    services = request.app[SERVICES]
    world, who = services.context.world, caller_of(request)
    ask = Ask(who, request.query.get("why", ""), services.context.clock.now())
    keys = world.mirror.keys

    def resumed(restore: Restore | None) -> Restore:
        if restore is None or restore.resumed or world.mirror.rewind:
            raise InConflict("nothing to resume: nobody has paused, and no restore of the store waits to be looked at")
        if not restore.is_whole:
            raise InConflict("the restore is not whole: `fed restore` is still at work, or was cut off; run it again")
        return replace(restore, resumed=ask)

    was_paused = world.pause is not None
    await remove(services, [keys.of(kinds.PAUSE)], who)
    if world.is_halted or not was_paused:
        await update(services, keys.of(kinds.RESTORE), resumed, who, "resume")
    return answer({"paused": pause_view(world)})


@routes.get("/v1/audit")
async def list_audit(request: web.Request) -> web.Response:
    """Who changed what, newest first; `who`, `what` and `record` (the beginning of its name, such as `sites/ams`) narrow it."""
    entries = request.app[SERVICES].context.world.audit
    filters = {name: request.query[name] for name in FILTERS if name in request.query}

    def found(before: str | None) -> Iterator[tuple[str, Audit]]:
        for name in sorted(entries, reverse=True):
            if (before is None or name < before) and _is_meant(entries[name], filters):
                yield name, entries[name]

    page, further = await page_of(request, {**filters, "list": "audit"}, found, lambda item: item[0])
    return answer({"items": [{"id": name, **asdict(entry)} for name, entry in page], "next": further})


def _is_meant(entry: Audit, filters: Mapping[str, str]) -> bool:
    who, what = filters.get("who", entry.who), filters.get("what", entry.what)
    return (entry.who, entry.what) == (who, what) and entry.record.startswith(filters.get("record", ""))
