"""Collect: the outputs of runs that ended well are measured, and become replicas in the same change as the success."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from broker.jobs.lifecycle import Succeeded
from broker.jobs.model import End, Ending, Phase
from broker.sites import owed
from broker.sites.layout import output_path
from broker.sites.loops import Pause
from broker.sites.owed import Step
from broker.sites.owned import OwnedSite
from broker.storage import StorageError, Unfit
from broker.world import Job
from topology.dataset import Dataset, DatasetId, Replica

log = logging.getLogger(__name__)

AT_ONCE = 8
SOONEST_S = 0.01
WAIT_S = 0.5
IDLE_S = 5.0
RETRY_S = 5.0


class Collect:
    """One turn may be repeated, and may be cut off anywhere."""

    def __init__(self, site: OwnedSite) -> None:
        self._site = site
        self._measuring: dict[str, asyncio.Task[Step]] = {}
        self._put_off: dict[str, float] = {}

    async def turn(self) -> Pause:
        """Begin what is due, as far as there are hands for it; store all that is measured."""
        site = self._site
        now = site.context.clock.now()
        self._put_off = {job: until for job, until in self._put_off.items() if until > now}
        for job in site.world.at(site.name, Phase.COLLECTING):
            if len(self._measuring) >= AT_ONCE:
                break
            if job.id not in self._measuring and job.id not in self._put_off:
                self._measuring[job.id] = asyncio.create_task(self._measure(job))
        if not self._measuring:
            return Pause(SOONEST_S, RETRY_S if self._put_off else IDLE_S)
        await asyncio.wait(self._measuring.values(), timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        await self._store(self._done())
        return Pause(0.0, 0.0)

    async def close(self) -> None:
        """Leave what is being measured: the next owner measures it again."""
        tasks = list(self._measuring.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _store(self, steps: Sequence[Step]) -> None:
        """Write what became of jobs; one whose end is not stored now is not measured again at once."""
        site = self._site
        await site.write(steps)
        now = site.context.clock.now()
        still = [step.job.id for step in steps if site.world.jobs.get(step.job.id) is step.job]
        self._put_off.update((job, now + RETRY_S) for job in still)

    def _done(self) -> list[Step]:
        """Steps of what is measured; what storage did not answer for is put off."""
        steps = []
        for job, task in [(job, task) for job, task in self._measuring.items() if task.done()]:
            del self._measuring[job]
            try:
                steps.append(task.result())
            except StorageError as error:
                log.warning("%s: outputs of job %s cannot be read yet: %s", self._site.name, job, error)
                self._put_off[job] = self._site.context.clock.now() + RETRY_S
            except Exception:  # noqa: BLE001 - counted and logged with its traceback by bug()
                self._site.bug("collect")
                self._put_off[job] = self._site.context.clock.now() + RETRY_S
        return steps

    async def _measure(self, job: Job) -> Step:
        """What the outputs of one job make of it."""
        site, attempt = self._site, job.state.attempt
        records: list[Dataset | Replica] = []
        for output in job.spec.outputs:
            path = output_path(owed.name_of(job, site.federation), output)
            try:
                tree = await site.storage.measure(site.site, path)
                problem = "" if tree else "the run left nothing there"
            except Unfit as error:
                tree, problem = None, str(error)
            now = site.context.clock.now()
            if tree is None:
                end = End(attempt.end.at if attempt.end else now, Ending.OUTPUT_MISSING, 0, None, f"output {output}: {problem}")
                return Step(job, (owed.end_with(job, end),))
            dataset = DatasetId(job.spec.tenant, output, job.id)
            records += [Dataset(dataset, tree.size_bytes, tree.checksum, now), Replica(dataset, site.name, path)]
        outputs = tuple(record.id for record in records if isinstance(record, Dataset))
        return Step(job, (Succeeded(site.context.clock.now(), outputs),), tuple(records))
