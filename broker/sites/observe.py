"""Observe: one listing of a site, and everything that follows from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.base import EndReason, Observation, Report, RunName, RunRef, SiteState
from broker.jobs.model import JobState, Phase, parse_run_name, run_name
from broker.records import SiteStatus
from broker.sites import owed
from broker.sites.loops import Pause
from broker.sites.owed import OPEN, Standing, Step
from broker.sites.owned import OwnedSite
from broker.store import codec
from broker.store import keys as kinds
from broker.store.ledger import Erase
from broker.world import Job

log = logging.getLogger(__name__)

SOONEST_S = 0.05
CALL_SHARE = 4
"""A listing that takes long is asked for less often: at most a fifth of the time goes into it."""
IDLE_FACTOR = 4
"""Where nothing is, the site is looked at so many times less often."""
ASK_AGAIN_S = 5.0

AS_STORED = {(Phase.QUEUED, SiteState.QUEUED), (Phase.RUNNING, SiteState.RUNNING)}
"""What a listing says of most runs most of the time: nothing new."""


@dataclass(slots=True)
class Known:
    """What we ask the site about: an open attempt's run, and since when we know that it was accepted (epoch seconds)."""

    attempt: int
    ref: RunRef
    accepted_seen: float | None = None
    claimed_seen: float | None = None
    """Since when all that is listed of it is a start that found its claim taken."""


class Observe:
    """One turn may be repeated, and may be cut off anywhere."""

    def __init__(self, site: OwnedSite) -> None:
        self._site = site
        self._known: dict[str, Known] = {}
        self._asked_to_stop: dict[RunName, float] = {}
        """Runs that a linearizable read showed to be of ended attempts, and when they were last asked to stop."""

    async def turn(self) -> Pause:
        """List, settle, look for what is missing and for what should not be there; then tell of the rooms."""
        site, clock = self._site, self._site.context.clock
        asked, began = clock.boottime(), clock.now()
        self._renew_known(began)
        known = [item.ref for item in self._known.values()]
        seen = await site.calls.make("observe", lambda call: site.adapter.observe(known, call))
        seen = replace(seen, began_at=min(began, seen.began_at))
        site.memory.reports = seen.reports
        await self._settle(seen)
        if seen.is_whole:
            self._look_for_doubtful(seen)
            await self._resolve(seen)
        await self._tell(seen)
        await self._clear_away(seen)
        return self._pause(clock.boottime() - asked, bool(seen.reports))

    def _renew_known(self, now: float) -> None:
        """Every open attempt's run. What is stored as accepted now was accepted before a listing that begins now."""
        site, known = self._site, {}
        for job in site.world.at(site.name, *OPEN):
            state = job.state
            item = self._known.get(job.id)
            if item is None or item.attempt != state.number:
                item = Known(state.number, site.ref(job))
            if item.accepted_seen is None and state.phase is not Phase.PLACED:
                item.accepted_seen = now
                item.ref = RunRef(item.ref.name, state.attempt.native_id)
            known[job.id] = item
        self._known = known

    async def _settle(self, seen: Observation) -> None:
        """Bring the jobs to what the site says of their runs."""
        site, reports = self._site, seen.reports
        now = site.context.clock.now()
        steps: list[Step] = []
        nowhere: dict[RunName, Job] = {}
        for job in site.world.at(site.name, *OPEN):
            item = self._known.get(job.id)
            name = item.ref.name if item and item.attempt == job.state.number else owed.name_of(job, site.federation)
            report = reports.get(name)
            if report is None or report.reason is EndReason.CLAIMED:
                if item and item.ref.name == name and self._is_nowhere(item, report, seen, now):
                    nowhere[name] = job
            elif (job.state.phase, report.state) not in AS_STORED:
                steps += self._steps(job, report, now)
        await site.write(steps)
        if any(step.job.spec.outputs for step in steps):
            site.has_exits.set()
        if nowhere:
            await self._end(nowhere, seen)

    def _is_nowhere(self, item: Known, report: Report | None, seen: Observation, now: float) -> bool:
        """Whether the site surely has no such run, but perhaps starts of it that found the claim taken and left."""
        if report is None:
            since = item.accepted_seen
        else:
            since = item.claimed_seen = item.claimed_seen or now
        settling_s = self._site.adapter.capabilities.settling_s
        return seen.is_whole and since is not None and owed.is_missing(since, seen.began_at, settling_s)

    async def _end(self, nowhere: Mapping[RunName, Job], seen: Observation) -> None:
        """End attempts that are nowhere, with their claims in hand. One that left because the claim was ours never started."""
        site = self._site
        taken = await site.claim(nowhere)
        now = site.context.clock.now()
        steps: list[Step] = []
        for name, is_ours in taken.items():
            report = seen.reports.get(name)
            if report is not None and is_ours:
                steps += self._steps(nowhere[name], report, now)
            else:
                steps.append(owed.vanished(nowhere[name], now))
        await site.write(steps)

    def _steps(self, job: Job, report: Report, now: float) -> Sequence[Step]:
        """What one report says; one that makes our code raise leaves its job where it is, and the others go on."""
        try:
            events = owed.settle(job, report, now)
        except Exception:  # noqa: BLE001 - counted and logged with its traceback by bug()
            self._site.bug("a report that cannot be settled")
            return ()
        return (Step(job, events),) if events else ()

    def _look_for_doubtful(self, seen: Observation) -> None:
        """One more look for each run in doubt; forget the doubts of attempts that are no longer placed."""
        site, memory = self._site, self._site.memory
        if not memory.doubts:
            return
        settings = site.context.settings
        apart_s = min(settings.call_timeout_s, settings.lease_ttl_s) + site.adapter.capabilities.settling_s
        placed = {owed.name_of(job, site.federation) for job in site.world.at(site.name, Phase.PLACED)}
        for name, doubt in list(memory.doubts.items()):
            if name in memory.in_flight:
                continue
            if name not in placed:
                del memory.doubts[name]
            elif name not in seen.reports:
                memory.doubts[name] = owed.look(doubt, seen.began_at, apart_s)

    async def _resolve(self, seen: Observation) -> None:
        """Close the notes on attempts given up while the site was away: the claim is taken, and the run is not there."""
        site, memory, keys = self._site, self._site.memory, self._site.world.mirror.keys
        drafts = []
        for (job, number), since in list(memory.claimed.items()):
            key = keys.of(kinds.UNRESOLVED, site.name, job, str(number))
            revision = site.world.revision(key)
            if not revision:
                del memory.claimed[job, number]
                continue
            report = seen.reports.get(run_name(site.federation, job, number))
            is_gone = report is None or report.state.is_over
            if is_gone and owed.is_missing(since, seen.began_at, site.adapter.capabilities.settling_s):
                drafts.append([Erase(key, revision)])
        if drafts:
            await site.commit(drafts)

    async def _tell(self, seen: Observation) -> None:
        """The rooms, after the phases: counting something twice is safe, forgetting it would overcommit."""

        def told(status: SiteStatus) -> SiteStatus:
            return replace(status, rooms=dict(seen.rooms), life=seen.life, observed_at=seen.began_at)

        await self._site.save_status(told)

    async def _clear_away(self, seen: Observation) -> None:
        """Forget what is over and stored; ask stale runs to stop; report what no record speaks of."""
        site = self._site
        over, stale, unread = self._sort_strangers(seen)
        verdicts = await self._read_again([*stale, *unread]) if stale or unread else {}
        ended = [name for name, verdict in verdicts.items() if verdict is Standing.ENDED and name not in over]
        self._asked_to_stop = {name: at for name, at in self._asked_to_stop.items() if name in seen.reports}
        self._quarantine([name for name, verdict in verdicts.items() if verdict is Standing.UNREADABLE], seen)
        now = site.context.clock.now()
        again = [name for name, at in self._asked_to_stop.items() if at + ASK_AGAIN_S <= now]
        to_stop = [name for name in (*ended, *again) if not seen.reports[name].state.is_over]
        self._asked_to_stop.update((name, now) for name in to_stop)
        if to_stop:
            log.info("%s: %d runs of ended attempts are asked to stop, %s first", site.name, len(to_stop), to_stop[0])
            await site.calls.make("cancel", lambda call: site.adapter.cancel(_refs(to_stop, seen.reports), call))
        if over:
            await site.calls.make("forget", lambda call: site.adapter.forget(_refs(over, seen.reports), call))

    def _sort_strangers(self, seen: Observation) -> tuple[list[RunName], list[RunName], list[RunName]]:
        """Listed runs that are no open attempt's, by what our records say: over and stored; stale; unreadable."""
        site, world = self._site, self._site.world
        over, stale, unread = [], [], []
        open_names = {item.ref.name for item in self._known.values()}
        for name in seen.reports.keys() - open_names:
            parsed = parse_run_name(site.federation, name)
            job = world.jobs.get(parsed[0]) if parsed else None
            verdict = owed.standing(job.state if job else None, parsed[1] if parsed else 0, site.name)
            if verdict is Standing.UNREADABLE and name not in site.memory.quarantined:
                unread.append(name)
            elif verdict is Standing.ENDED and seen.reports[name].state.is_over:
                over.append(name)
            elif verdict is Standing.ENDED and name not in self._asked_to_stop:
                stale.append(name)
        return over, stale, unread

    async def _read_again(self, names: Sequence[RunName]) -> Mapping[RunName, Standing]:
        """Standings by the store itself: the mirror may lag, and nothing is stopped or reported on old news."""
        site, keys = self._site, self._site.world.mirror.keys
        parsed = {name: parse_run_name(site.federation, name) for name in names}
        wanted = {name: keys.of(kinds.STATES, found[0]) for name, found in parsed.items() if found}
        records = dict(zip(wanted, await site.store.get(list(wanted.values())), strict=True)) if wanted else {}
        verdicts = {}
        for name, found in parsed.items():
            record = records.get(name)
            state: JobState | None = None
            if record is not None:
                try:
                    state = codec.decode(kinds.STATES, record.value)
                except codec.Unreadable as error:
                    log.error("%s: the record of run %s cannot be read: %s", site.name, name, error)
            verdicts[name] = owed.standing(state, found[1] if found else 0, site.name)
        return verdicts

    def _quarantine(self, names: Sequence[RunName], seen: Observation) -> None:
        memory = self._site.memory
        names = [*names, *(name for name in seen.foreign if name not in memory.quarantined)]
        for name in names:
            log.error("%s: run %s is listed and no record speaks of it: it is left alone", self._site.name, name)
        listed = (*memory.quarantined, *names)
        memory.quarantined = frozenset(name for name in listed if name in seen.reports or name in seen.foreign)

    def _pause(self, took: float, is_busy: bool) -> Pause:
        site = self._site
        interval = site.context.settings.observe_interval_s
        has_work = is_busy or site.world.count_at(site.name, *OPEN) or site.world.unresolved.get(site.name)
        least = max(SOONEST_S, took * CALL_SHARE)
        return Pause(least, max(least, interval if has_work else interval * IDLE_FACTOR))


def _refs(names: Sequence[RunName], reports: Mapping[RunName, Report]) -> list[RunRef]:
    return [RunRef(name, reports[name].native_id) for name in names]
