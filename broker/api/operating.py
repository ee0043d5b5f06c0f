"""For who runs the federation: pause and resume, and who changed what."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

from aiohttp import web

from broker.api.auth import caller_of
from broker.api.changes import remove, update
from broker.api.finding import whole_number
from broker.api.health import pause_view
from broker.api.pages import last_of, token_of
from broker.api.services import SERVICES, answer
from broker.errors import InConflict
from broker.jobs.model import Ask
from broker.records import Audit, Pause, Restore
from broker.store import keys as kinds

routes = web.RouteTableDef()

PAGE, LONGEST_PAGE = 100, 1_000
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
    services = request.app[SERVICES]
    limit = whole_number(request, "limit", PAGE, 1, LONGEST_PAGE)
    filters = {name: request.query[name] for name in FILTERS if name in request.query}
    cursor = request.query.get("cursor")
    of_this_list = {**filters, "list": "audit"}
    before = await last_of(services, cursor, of_this_list) if cursor is not None else None
    entries = services.context.world.audit
    found = (
        {"id": name, **_shown(entries[name])}
        for name in sorted(entries, reverse=True)
        if (before is None or name < before)
        and all(getattr(entries[name], field) == filters[field] for field in ("who", "what") if field in filters)
        and entries[name].record.startswith(filters.get("record", ""))
    )
    page = list(islice(found, limit + 1))
    further = await token_of(services, page[limit - 1]["id"], of_this_list) if len(page) > limit else None
    return answer({"items": page[:limit], "next": further})


def _shown(entry: Audit) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("at", "who", "what", "record", "before", "after")}
