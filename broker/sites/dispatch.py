"""Dispatch: what is staged goes on, and what is placed is submitted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from adapters.base import Accepted, AdapterError, Outcome, Refused, Run, RunName
from broker.jobs.model import Phase
from broker.sites import owed
from broker.sites.loops import Pause
from broker.sites.owed import Doubt, Step
from broker.sites.owned import OwnedSite
from broker.world import Job

BATCH = 500
"""Runs in one submit call."""
GATHER_S = 0.01
"""What is placed within this time goes into one call."""
SCAN_SHARE = 10
"""Looking through what waits takes at most about a tenth of the time."""
WAITING_S = 0.5
IDLE_S = 5.0
UNKNOWN_S = 1.0
"""A run of which the site said that it cannot tell is not sent again before this."""
PUT_OFF_S = 60.0
"""A run that makes our code raise is tried again after this."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the site said to a submit, until it is stored. `doubt` was there before: an earlier submit may yet arrive."""

    job: str
    attempt: int
    outcome: Accepted | Refused
    doubt: Doubt | None


class Dispatch:
    """One turn may be repeated, and may be cut off anywhere."""

    def __init__(self, site: OwnedSite) -> None:
        self._site = site
        self._answers: dict[RunName, Answer] = {}
        self._put_off: dict[str, float] = {}
        self._batch = BATCH

    async def turn(self) -> Pause:
        """Everything that is due now."""
        boottime = self._site.context.clock.boottime
        began = boottime()
        steps = [*self._staged(), *self._gone()]
        took = boottime() - began
        await self._site.write(steps)
        await self._store_answers()
        began = boottime()
        due = self._due()
        took += boottime() - began
        while due:
            batch, due = due[: self._batch], due[self._batch :]
            await self._submit(await self._with_ids(batch))
        is_waiting = self._site.world.count_at(self._site.name, Phase.PLACED) > 0
        return Pause(max(GATHER_S, took * SCAN_SHARE), WAITING_S if is_waiting else IDLE_S)

    def _staged(self) -> Sequence[Step]:
        site, world = self._site, self._site.world
        staging = world.at(site.name, Phase.STAGING)
        if not staging:
            return ()
        return owed.staged(staging, site.name, world.replicas, world.bookings.get(site.name, {}), site.context.clock.now())

    def _gone(self) -> Sequence[Step]:
        site = self._site
        if not site.memory.doubts:
            return ()
        placed = site.world.at(site.name, Phase.PLACED)
        return owed.gone(placed, site.memory.doubts, site.federation, site.context.clock.now())

    def _due(self) -> list[Job]:
        """Jobs to submit, in the order they came."""
        site, memory = self._site, self._site.memory
        placed = site.world.at(site.name, Phase.PLACED)
        if not placed:
            return []
        now = site.context.clock.now()
        self._put_off = {job: until for job, until in self._put_off.items() if until > now}
        waiting = self._answers.keys() | memory.in_flight
        has_unique_names = site.adapter.capabilities.unique_names
        due = owed.submissions(placed, site.right.fence.created, memory.doubts, waiting, has_unique_names, site.federation)
        return [job for job in due if job.id not in self._put_off]

    async def _with_ids(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Those that have their id, where the site gives it first. For the others it is asked and stored, which makes them due in
        the next turn: an id that is used before it is stored would be lost with us."""
        site = self._site
        if not site.adapter.capabilities.reserves:
            return jobs
        without = [job for job in jobs if job.state.attempt.native_id is None]
        if without:
            names = [owed.name_of(job, site.federation) for job in without]
            ids = await site.calls.make("reserve", lambda call: site.adapter.reserve(names, call))
            await site.write(owed.reserved(without, ids, site.federation))
        return [job for job in jobs if job.state.attempt.native_id is not None]

    async def _submit(self, jobs: Sequence[Job]) -> None:
        """One call for all of them. Who has no answer afterwards is in doubt, and was so already while the call went on."""
        memory, clock, known = self._site.memory, self._site.context.clock, self._site.world.jobs
        # What has changed since it was found due, while an earlier batch was on its way, is left to the next turn.
        due = [(run, job) for run, job in await self._runs(jobs) if known.get(job.id) is job]
        if not due:
            return
        before = {run.name: memory.doubts.get(run.name) for run, _ in due}
        doubt = Doubt(clock.now())
        memory.doubts.update((run.name, doubt) for run, _ in due)
        memory.in_flight.update(before)
        try:
            outcomes = await self._call([run for run, _ in due])
        finally:
            doubt = Doubt(clock.now())
            memory.doubts.update((run.name, doubt) for run, _ in due)
            memory.in_flight.difference_update(before)
        for run, job in due:
            outcome = outcomes.get(run.name)
            if isinstance(outcome, Accepted | Refused):
                self._answers[run.name] = Answer(job.id, job.state.attempt.number, outcome, before[run.name])
            else:
                self._put_off[job.id] = doubt.since + UNKNOWN_S
        await self._store_answers()
        self._site.has_submitted.set()

    async def _call(self, runs: Sequence[Run]) -> Mapping[RunName, Outcome]:
        """The outcomes. A run that makes our code raise is found by halving the batches, and put off: the others go on."""
        site = self._site
        try:
            outcomes = await site.calls.make("submit", lambda call: site.adapter.submit(runs, call))
        except AdapterError:
            raise
        except Exception:
            self._batch = max(len(runs) // 2, 1)
            if len(runs) == 1:
                self._put_off[runs[0].job] = site.context.clock.now() + PUT_OFF_S
            raise
        self._batch = min(self._batch * 2, BATCH)
        return outcomes

    async def _runs(self, jobs: Iterable[Job]) -> list[tuple[Run, Job]]:
        """The runs to submit. A job whose input left the site goes back to the queue, once it surely never starts here."""
        site = self._site
        runs: list[tuple[Run, Job]] = []
        stranded = {}
        for job in jobs:
            here = owed.inputs_here(job, site.name, site.world.replicas)
            if here is None:
                stranded[owed.name_of(job, site.federation)] = job
            else:
                runs.append((owed.run_of(job, site.federation, here), job))
        if stranded:
            taken = await site.claim(stranded)
            now, why = site.context.clock.now(), f"an input is no longer at {site.name}"
            await site.write([owed.taken_back(stranded[name], why, now) for name, is_ours in taken.items() if is_ours])
        return runs

    async def _store_answers(self) -> None:
        """Write what the site answered to jobs that are still placed."""
        if not self._answers:
            return
        waits = await self._refusals_to_wait()
        self._keep_answers()
        now = self._site.context.clock.now()
        steps = []
        for name, answer in self._answers.items():
            if name not in waits:
                job = self._site.world.jobs[answer.job]
                steps.append(Step(job, owed.after_submit(job, answer.outcome, now)))
        await self._site.write(steps)
        self._keep_answers()

    async def _refusals_to_wait(self) -> Collection[RunName]:
        """A refusal may cross an earlier submit that is still on its way: it counts once the claim is ours. Where a run has made
        the claim, the refusal counts not at all, and the run is looked for."""
        crossed = [name for name, answer in self._answers.items() if answer.doubt and isinstance(answer.outcome, Refused)]
        if not crossed:
            return ()
        taken = await self._site.claim(crossed)
        for name, is_ours in taken.items():
            if not is_ours:
                del self._answers[name]
        return [name for name in crossed if name not in taken]

    def _keep_answers(self) -> None:
        """Forget the answers whose attempt is no longer placed: they, or something newer, are stored. So goes the doubt."""
        for name, answer in list(self._answers.items()):
            job = self._site.world.jobs.get(answer.job)
            if job is None or job.state.phase is not Phase.PLACED or job.state.number != answer.attempt:
                del self._answers[name]
                self._site.memory.doubts.pop(name, None)

