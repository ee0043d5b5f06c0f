"""A site that will never come back is taken out, whatever our records still say is there."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from broker.api.admission import close
from broker.api.auth import caller_of
from broker.api.changes import is_saved, remove
from broker.api.finding import reason_of
from broker.api.services import SERVICES, Services, answer
from broker.api.uses import datasets_at
from broker.auditing import entry
from broker.errors import InConflict, NotFound
from broker.jobs.lifecycle import step
from broker.jobs.model import End, Ending
from broker.sites.owed import end_with
from broker.store import keys as kinds
from broker.store.base import Saved
from broker.store.ledger import Draft, Erase, Save
from broker.world import Job

routes = web.RouteTableDef()

TURNS = 10
"""Its owner may still write to its jobs; what was lost to that is read again."""
TOGETHER = 500


@routes.post("/v1/sites/{name}/forget")
async def forget_site(request: web.Request) -> web.Response:
    """Take out a site that is gone for good. Its jobs end there as site-lost, and go elsewhere where their retries allow; links,
    replicas and notes of what may still run there go with it. What does still run there runs twice, so a site that answers is not
    forgotten: drain and delete that. `why` stays in the audit."""
    services, name = request.app[SERVICES], request.match_info["name"]
    world, keys = services.context.world, services.context.world.mirror.keys
    who, why = caller_of(request), reason_of(request, "say what became of the site: it stays in the audit")
    if name not in world.sites:
        raise NotFound(f"no site is named {name}")
    status = world.statuses.get(name)
    if status is not None and status.health.takes_jobs:
        raise InConflict(f"site {name} is {status.health}: what runs there would run twice. Drain it, then delete it")
    site, revision = await close(services, name, who)
    jobs = await _emptied(services, name, who, f"site {name} was forgotten by {who}: {why}")
    await remove(services, [keys.of(kinds.UNRESOLVED, name, job, str(number)) for job, number in world.unresolved.get(name, ())])
    await remove(services, [keys.booking(dataset, name) for dataset in world.bookings.get(name, ())])
    links = [link.name for link in world.links.values() if name in (link.source, link.target)]
    await remove(services, [keys.of(kinds.LINKS, link) for link in links], who)
    await remove(services, [keys.of(kinds.LINK_STATUS, link) for link in links])
    held = datasets_at(world, name)
    lost = sorted(str(dataset) for dataset in held if len(world.replicas[dataset]) == 1)
    await remove(services, [keys.replica(dataset, name) for dataset in held])
    key = keys.of(kinds.SITES, name)
    audited = entry(services.context, who, "forget", key, site, None)
    (result,) = await services.context.ledger.commit([[Erase(key, revision), audited]])
    if not is_saved(result):
        raise InConflict(f"site {name} was changed meanwhile: try again")
    await remove(services, [keys.of(kinds.SITE_STATUS, name)])
    return answer({"name": name, "jobs": jobs, "links": links, "datasets_lost": lost})


async def _emptied(services: Services, name: str, who: str, why: str) -> int:
    """End the attempts there; how many. Raises InConflict when others keep writing to them."""
    context, ended = services.context, 0
    for _ in range(TURNS):
        jobs = context.world.at(name)
        if not jobs:
            return ended
        for first in range(0, len(jobs), TOGETHER):
            ended += await _ended(services, jobs[first : first + TOGETHER], who, why)
    raise InConflict(f"site {name}: others keep changing its jobs: try again")


async def _ended(services: Services, jobs: Sequence[Job], who: str, why: str) -> int:
    context = services.context
    drafts: list[Draft] = []
    for job in jobs:
        key = context.world.mirror.keys.of(kinds.STATES, job.id)
        after = step(job.state, end_with(job, End(context.clock.now(), Ending.SITE_LOST, message=why)))
        drafts.append([Save(key, after, job.state_revision), entry(context, who, "forget", key, job.state, after)])
    results = await context.ledger.commit(drafts)
    return sum(isinstance(result, Saved) for result in results)
