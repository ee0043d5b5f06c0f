"""Stop: what users asked to end, what leaves a lost site, and what was given up while the site was away."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.base import RunName, RunRef
from broker.jobs.model import Phase, run_name
from broker.sites import health, owed
from broker.sites.loops import Pause
from broker.sites.owned import CLAIMS_AT_ONCE, OwnedSite
from broker.world import Job

ASK_AGAIN_S = 5.0
GATHER_S = 0.05
BUSY_S = 0.5
IDLE_S = 1.0
EVICT_AT_ONCE = 500


class Stop:
    """One turn may be repeated, and may be cut off anywhere."""

    def __init__(self, site: OwnedSite) -> None:
        self._site = site
        self._asked: dict[RunName, float] = {}

    async def turn(self) -> Pause:
        """Everything that is due now."""
        if self._site.is_lost:
            await self._leave()
            return Pause(GATHER_S, IDLE_S)
        await self._claim_unresolved()
        jobs = self._asked_to_end()
        self._asked = {name: at for name, at in self._asked.items() if name in jobs}
        if jobs:
            await self._end(jobs)
        return Pause(GATHER_S, BUSY_S if jobs else IDLE_S)

    def _asked_to_end(self) -> dict[RunName, Job]:
        site = self._site
        asked = [job for job in site.world.asked_to_end() if job.state.phase.is_at_site and job.state.attempt.site == site.name]
        return {owed.name_of(job, site.federation): job for job in asked}

    async def _end(self, jobs: dict[RunName, Job]) -> None:
        """Never sent: at once. Never accepted: with the claim in hand. Accepted: the site is asked, and the listing tells."""
        site = self._site
        now = site.context.clock.now()
        await site.write([owed.stopped(job, now) for job in jobs.values() if job.state.phase is Phase.STAGING])
        placed = [name for name, job in jobs.items() if job.state.phase is Phase.PLACED and name not in site.memory.in_flight]
        running = {name: job for name, job in jobs.items() if job.state.phase in (Phase.QUEUED, Phase.RUNNING)}
        if placed:
            running.update(await self._give_up(placed, jobs))
        due = [name for name in running if self._asked.get(name, now - ASK_AGAIN_S) + ASK_AGAIN_S <= now]
        if due:
            refs: Sequence[RunRef] = [site.ref(running[name]) for name in due]
            self._asked.update((name, now) for name in due)
            await site.calls.make("cancel", lambda call: site.adapter.cancel(refs, call))

    async def _give_up(self, names: Sequence[RunName], jobs: dict[RunName, Job]) -> dict[RunName, Job]:
        """End what was never accepted: with a claim of ours it has not started and never will. The others have started, and are
        to be asked to stop."""
        site = self._site
        taken = await site.claim(names)
        now = site.context.clock.now()
        await site.write([owed.stopped(jobs[name], now) for name, is_ours in taken.items() if is_ours])
        return {name: jobs[name] for name, is_ours in taken.items() if not is_ours}

    async def _leave(self) -> None:
        """The site is lost: who may be moved goes, unless so many sites fail that the fault may be ours. Who was asked to end
        ends in any case."""
        site, settings = self._site, self._site.context.settings
        sites = site.world.sites
        statuses = [status for name, status in site.world.statuses.items() if name in sites]
        jobs = site.world.at(site.name)
        if health.is_our_fault(statuses, len(sites), settings.suspect_ourselves_share):
            jobs = [job for job in jobs if job.is_asked_to_end]
        steps = owed.evictions(jobs, site.name, site.context.clock.now())
        for first in range(0, len(steps), EVICT_AT_ONCE):
            await site.write(steps[first : first + EVICT_AT_ONCE])

    async def _claim_unresolved(self) -> None:
        """Take the claims of attempts that were given up while the site was away; the listings stop their runs."""
        site, memory = self._site, self._site.memory
        notes = site.world.unresolved.get(site.name)
        if not notes:
            return
        names = {run_name(site.federation, *note): note for note in notes if note not in memory.claimed}
        taken = await site.claim(list(names)[:CLAIMS_AT_ONCE])
        now = site.context.clock.now()
        memory.claimed.update((names[name], now) for name in taken)
