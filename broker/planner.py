"""The leader's loop: what waits is placed, in batches; what was cancelled or has waited too long is ended."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, islice

from broker.accuracy import RunTimes
from broker.context import Context
from broker.jobs.lifecycle import Cancelled, Event, GaveUp, Placed, Staged, fold
from broker.jobs.model import BROKER, Ask, Phase, Shape, Stop
from broker.members import Right
from broker.placement.memory import Memory
from broker.placement.standing import Standing, left_over, standing
from broker.placement.view import Eviction, Passed, Placement, Plan, PlanInput
from broker.placement.words import span
from broker.plan_process import Runner, plan_here
from broker.records import Booking
from broker.snapshot import HOLDING, Snapshots
from broker.store import keys as kinds
from broker.store.base import Conflict, Expect, Saved, StoreUnavailable
from broker.store.ledger import Draft, Erase, Save
from broker.tracing.tracer import Span
from broker.usage import Usage
from broker.world import Job, World
from topology.site import Admission

log = logging.getLogger(__name__)

TOPICS = (
    kinds.WISHES,
    kinds.STATES,
    kinds.SITES,
    kinds.SITE_STATUS,
    kinds.LINKS,
    kinds.TENANTS,
    kinds.DATASETS,
    kinds.REPLICAS,
    kinds.BOOKINGS,
    kinds.UNRESOLVED,
)
"""News of these may let a job be placed, or end one."""

BATCH = 256
"""Jobs written at a time: encoding more would hold the loop."""

LEAST_PAUSE_S = 0.002
"""Between turns, so that what arrives together is planned together. A turn that took longer is followed by a pause twice as long
as it: a long queue never takes the loop for itself."""


@dataclass(frozen=True, slots=True)
class _Placing:
    """One job's placement, to be written; `makes` are the keys of the bookings that are made with it."""

    job: str
    placement: Placement
    makes: frozenset[str]


class Planner:
    """Plans while its process leads. `reasons` tells, by class, why what waits was passed over in the last plan."""

    def __init__(self, context: Context, runner: Runner = plan_here) -> None:
        self.reasons: Mapping[Shape, Passed] = {}
        self._last: tuple[PlanInput, Plan] | None = None
        self._queue: PlanInput | None = None
        self._told: frozenset[str] = frozenset()
        """Faults of the last plan: each is logged and counted when it comes, not every turn."""
        self._context = context
        self._runner = runner
        self.snapshots = Snapshots(context.world, Usage(context.world, context.settings.share_half_life_hours))
        self.run_times = RunTimes(context.world)
        self.memory = Memory()

    async def run(self, right: Right) -> None:
        """Take turns for ever: on news, and at least every `plan_interval_s`. Raises Fenced when leadership is lost."""
        clock, most = self._context.clock, self._context.settings.plan_interval_s
        news = self._context.world.signals.subscribe(*TOPICS)
        try:
            while True:
                news.clear()
                began = clock.boottime()
                is_cut = False
                try:
                    is_cut = await self.turn(right)
                except StoreUnavailable as error:
                    log.warning("the planner waits for the store: %s", error)
                    await clock.sleep(most)
                if not is_cut:
                    await clock.sleep(min(max(2 * (clock.boottime() - began), LEAST_PAUSE_S), most))
                    await self._wait(news, most)
        finally:
            self.reasons, self._last, self._queue = {}, None, None
            self._context.world.signals.unsubscribe(news)

    @property
    def last(self) -> Plan:
        """The last plan; an empty one in a process that does not lead, and before there is one."""
        return self._last[1] if self._last else Plan()

    def standing(self, shape: Shape, before: int = 0) -> Standing | None:
        """Where a class, and in it a job with so many before it, stands in the queue that the last plan left; None where there is
        none."""
        if self._last is None:
            return None
        self._queue = self._queue or left_over(*self._last)
        return standing(shape, self._queue, before)

    async def turn(self, right: Right) -> bool:
        """End what was cancelled, place what can be, give up what has waited too long. Returns whether a limit cut the plan
        short, so that the next turn may come at once. Raises Fenced and other StoreErrors."""
        if self._context.world.is_halted:
            return False
        with self._context.tracer.span("plan") as span:
            return await self._turn(right, span)

    async def _turn(self, right: Right, span: Span) -> bool:
        await self._cancel_asked(right)
        if self._context.world.pause is not None:
            return False
        given, ids = self.snapshots.take(self._context.clock.now())
        made = await self._runner(given) if given.classes else Plan()
        self.reasons = made.passed
        self._last, self._queue = (given, made), None
        for fault in set(made.faults) - self._told:
            log.error("a class of jobs cannot be planned, by our fault, and waits:\n%s", fault)
            self._context.metrics.bugs.labels("plan").inc()
        self._told = frozenset(made.faults)
        written = await self._write(made, ids, right)
        await self._evict(made.evictions, right)
        span.tell("fed.plan.classes", len(given.classes))
        span.tell("fed.plan.placed", written)
        await self._give_up_waiting(right)
        return made.is_cut and written > 0

    async def _wait(self, news: asyncio.Event, seconds: float) -> None:
        """Until there is news or, on the broker's clock, that much time has passed."""
        waits = [asyncio.ensure_future(news.wait()), asyncio.ensure_future(self._context.clock.sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _write(self, made: Plan, ids: Mapping[Shape, Sequence[str]], right: Right) -> int:
        """Write placements; how many are stored. First the one job of each new booking that makes it, then the jobs that rely on
        what is stored by then, all in the plan's order."""
        placings = self._placings(made, ids)
        makers = [placing for placing in placings if placing.makes]
        others = [placing for placing in placings if not placing.makes]
        written = 0
        for group in (makers, others):
            for start in range(0, len(group), BATCH):
                written += await self._place(group[start : start + BATCH], right)
        return written

    def _placings(self, made: Plan, ids: Mapping[Shape, Sequence[str]]) -> list[_Placing]:
        left = {shape: iter(members) for shape, members in ids.items()}
        keys = self._context.world.mirror.keys
        to_make = {keys.booking(booking.dataset, booking.target) for booking in made.bookings}
        placings = []
        for placement in made.placements:
            needed = {keys.booking(booking.dataset, booking.target) for booking in placement.bookings}
            for job in islice(left[placement.shape], placement.count):
                makes = frozenset(needed & to_make)
                to_make -= makes
                placings.append(_Placing(job, placement, makes))
        return placings

    async def _place(self, placings: Sequence[_Placing], right: Right) -> int:
        drafts: list[Draft] = []
        sites: list[str] = []
        for placing in placings:
            draft = self._draft(placing)
            if draft:
                drafts.append(draft)
                sites.append(placing.placement.site)
        saved = await self._commit(drafts, "Placed", right)
        for site, count in Counter(compress(sites, saved)).items():
            self._context.metrics.placements.labels(site).inc(count)
        return sum(saved)

    def _draft(self, placing: _Placing) -> Draft | None:
        """A placement as it is to be stored; None when the job, or what it relies on, is not as it was."""
        world, keys, now = self._context.world, self._context.world.mirror.keys, self._context.clock.now()
        job, placement = world.jobs.get(placing.job), placing.placement
        site = world.sites.get(placement.site)
        if job is None or not _is_waiting(job) or site is None or site.admission is not Admission.OPEN:
            return None
        events: list[Event] = [Placed(now, placement.site, placement.pool, placement.gpu_type, placement.decision)]
        made = {keys.booking(booking.dataset, booking.target): booking for booking in placement.bookings}
        if not all(_may_begin(booking, world) for key, booking in made.items() if key in placing.makes):
            return None
        if not made:
            events.append(Staged(now))
        brought = {booking.dataset for booking in placement.bookings}
        here = [keys.replica(dataset, placement.site) for dataset in job.spec.inputs if dataset not in brought]
        relied = [*made, *here, *map(keys.dataset, job.spec.inputs), keys.of(kinds.SITES, placement.site)]
        expected = [Expect(key, world.revision(key)) for key in relied if key not in placing.makes]
        if not all(each.revision for each in expected):
            return None
        return [*self._step(job, events), *expected, *(Save(key, made[key], 0) for key in sorted(placing.makes))]

    async def _cancel_asked(self, right: Right) -> None:
        """Pending jobs whose wish is to be cancelled are: nothing runs anywhere."""
        now = self._context.clock.now()
        drafts = [
            self._step(job, [Cancelled(now, f"cancelled by {cancel.who}{f': {cancel.why}' if cancel.why else ''}")])
            for job in self._context.world.asked_to_end()
            if (cancel := job.wish.cancel) and job.state.phase is Phase.PENDING
        ]
        await self._commit_all(drafts, "Cancelled", right)

    async def _evict(self, evictions: Sequence[Eviction], right: Right) -> None:
        """Wish the stop of what is to give way: of each the attempt that the plan saw. The owners of its sites see to it."""
        jobs = self._context.world.jobs
        found = [(each, job) for each in evictions if (job := jobs.get(each.job)) and _may_be_asked(job, each)]
        for start in range(0, len(found), BATCH):
            some = found[start : start + BATCH]
            results = await self._context.ledger.commit([self._stop(job, each.why) for each, job in some], right.fence)
            for (each, _), result in zip(some, results, strict=True):
                self._context.metrics.evictions.labels(each.site).inc(isinstance(result, Saved))

    def _stop(self, job: Job, why: str) -> Draft:
        keys, ask = self._context.world.mirror.keys, Ask(BROKER, why, self._context.clock.now())
        wish = replace(job.wish, stop=Stop(job.state.number, ask))
        return [
            Save(keys.of(kinds.WISHES, job.id), wish, job.wish_revision),
            Expect(keys.of(kinds.STATES, job.id), job.state_revision),
        ]

    async def _give_up_waiting(self, right: Right) -> None:
        """Jobs that have waited for `max_wait_s`, since they were made or since their last attempt ended, fail with the reason
        for which they were last passed over."""
        world, now = self._context.world, self._context.clock.now()
        drafts = []
        for shape, members in world.queue(now).items():
            if shape.max_wait_s is None:
                continue
            passed = self.reasons.get(shape)
            reason = f"waited {span(shape.max_wait_s / 3600)}{f': {passed.reason}' if passed else ''}"
            for created, name in members:
                if created + shape.max_wait_s > now:
                    break
                if _waits_since(world.jobs[name]) + shape.max_wait_s <= now:
                    drafts.append(self._step(world.jobs[name], [GaveUp(now, reason)]))
        await self._commit_all(drafts, "GaveUp", right)

    async def _commit_all(self, drafts: Sequence[Draft], event: str, right: Right) -> None:
        for start in range(0, len(drafts), BATCH):
            await self._commit(drafts[start : start + BATCH], event, right)

    async def _commit(self, drafts: Sequence[Draft], event: str, right: Right) -> list[bool]:
        """Which of the drafts are stored; a job that lost to a newer record is left to the next turn."""
        if not drafts:
            return []
        results = await self._context.ledger.commit(drafts, right.fence)
        saved = [isinstance(result, Saved) for result in results]
        self._context.metrics.events.labels(event).inc(sum(saved))
        conflicts = sum(isinstance(result, Conflict) for result in results)
        self._context.metrics.conflicts.labels("planner").inc(conflicts)
        return saved

    def _step(self, job: Job, events: Sequence[Event]) -> list[Save | Erase | Expect]:
        """A pending job's state after `events`, if neither it nor the user's wish has changed meanwhile."""
        keys = self._context.world.mirror.keys
        state = Save(keys.of(kinds.STATES, job.id), fold(job.state, events), job.state_revision)
        return [state, Expect(keys.of(kinds.WISHES, job.id), job.wish_revision)]


def _is_waiting(job: Job) -> bool:
    return job.state.phase is Phase.PENDING and not job.is_asked_to_end and not job.wish.hold


def _may_be_asked(job: Job, eviction: Eviction) -> bool:
    """Whether its attempt is still where the plan saw it, and nobody asked for its end meanwhile."""
    state = job.state
    return not job.is_asked_to_end and state.phase in HOLDING and state.attempt.site == eviction.site


def _may_begin(booking: Booking, world: World) -> bool:
    """Whether the source of a transfer still has the dataset, and its target may still get it."""
    dataset, target = world.datasets.get(booking.dataset), world.sites.get(booking.target)
    has_source = booking.source in world.sites and booking.source in world.replicas.get(booking.dataset, {})
    return has_source and dataset is not None and target is not None and dataset.may_enter(target.region)


def _waits_since(job: Job) -> float:
    """When a pending job last came into the queue (epoch seconds)."""
    end = job.state.attempts[-1].end if job.state.attempts else None
    return end.at if end else job.wish.created_at
