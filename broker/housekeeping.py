"""The leader's slow loop: finished jobs, specs that no job has and old idempotency keys are deleted, and history is compacted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice

from broker.context import Context
from broker.members import Right
from broker.store import keys as kinds
from broker.store.base import Conflict, Store, StoreUnavailable
from broker.store.ledger import Draft, Erase
from broker.uploads import is_expired

log = logging.getLogger(__name__)

INTERVAL_S = 20.0
BATCH = 500
"""Deletions at a time."""
KEEP_SUBMISSIONS_S = 24 * 3600.0
"""How long an idempotency key is remembered."""
KEEP_AUDIT_S = 90 * 86_400.0
KEEP_AUDIT = 20_000
"""So long, and so many, entries of the audit stay."""
SPEC_GRACE_S = 600.0
"""How long a spec must have been without a job. One that a new job brings is written anew, and the deletion then fails."""


class Housekeeping:
    """Keeps the store small while its process leads."""

    def __init__(self, context: Context, store: Store) -> None:
        self._context = context
        self._store = store
        self._unused: dict[str, tuple[int, float]] = {}
        """Keys of specs without a job: their revision, and since when."""

    async def run(self, right: Right) -> None:
        """Take turns for ever. Raises Fenced when leadership is lost."""
        while True:
            try:
                await self.turn(right)
            except StoreUnavailable as error:
                log.warning("housekeeping waits for the store: %s", error)
            await self._context.clock.sleep(INTERVAL_S)

    async def turn(self, right: Right) -> None:
        """Delete what has been kept long enough. Raises Fenced and other StoreErrors."""
        for drafts in (self._finished(), self._submissions(), self._specs(), self._audit(), self._temporary()):
            while batch := list(islice(drafts, BATCH)):
                results = await self._context.ledger.commit(batch, right.fence)
                conflicts = sum(isinstance(result, Conflict) for result in results)
                self._context.metrics.conflicts.labels("housekeeping").inc(conflicts)
        await self._compact()

    async def _compact(self) -> None:
        """Let the store forget what is further back than anybody needs it: each write leaves the value before it there, and a
        busy federation's would fill any quota within minutes."""
        last = self._context.world.mirror.revision - self._context.settings.keep_history_revisions
        if last > 0:
            await self._store.compact(last)

    def _finished(self) -> Iterator[Draft]:
        """Jobs that ended too long ago, and the oldest of too many: wish and state go together. Drafted as they are asked for,
        since there may be a hundred thousand of them."""
        world, keep = self._context.world, self._context.settings.keep_finished
        oldest = self._context.clock.now() - keep.hours * 3600
        ended = sorted(world.finished, key=world.finished.__getitem__)
        surplus = max(len(ended) - keep.count, 0)
        keys = world.mirror.keys
        for position, name in enumerate(ended):
            if name not in world.finished:
                continue  # somebody else deleted it while we wrote
            if position >= surplus and world.finished[name] >= oldest:
                return
            job = world.jobs[name]
            wish = Erase(keys.of(kinds.WISHES, name), job.wish_revision)
            yield [wish, Erase(keys.of(kinds.STATES, name), job.state_revision)]

    def _submissions(self) -> Iterator[Draft]:
        world, oldest = self._context.world, self._context.clock.now() - KEEP_SUBMISSIONS_S
        old = [names for names, submission in world.submissions.items() if submission.created_at < oldest]
        return (self._erase(world.mirror.keys.of(kinds.SUBMISSIONS, *names)) for names in old)

    def _audit(self) -> Iterator[Draft]:
        world, keys = self._context.world, self._context.world.mirror.keys
        oldest = self._context.clock.now() - KEEP_AUDIT_S
        surplus = set(sorted(world.audit)[: max(len(world.audit) - KEEP_AUDIT, 0)])
        gone = [name for name, entry in world.audit.items() if name in surplus or entry.at < oldest]
        return (self._erase(keys.of(kinds.AUDIT, name)) for name in gone)

    def _temporary(self) -> Iterator[Draft]:
        """Temporary datasets whose time is over and that no site has any more: each site's owner removes its copy first."""
        world, keys = self._context.world, self._context.world.mirror.keys
        over = [dataset for dataset, each in world.datasets.items() if is_expired(self._context, each)]
        return (self._erase(keys.dataset(dataset)) for dataset in over if not world.replicas.get(dataset))

    def _specs(self) -> Iterator[Draft]:
        """Specs that no wish has named for a while. `_unused` forgets one that is used, or was written, since."""
        world, now = self._context.world, self._context.clock.now()
        used = {job.wish.spec_hash for job in world.jobs.values()}
        self._unused = self._still_unused((spec for spec in world.specs if spec not in used), now)
        ripe = [] if world.frozen else [key for key, (_, since) in self._unused.items() if since <= now - SPEC_GRACE_S]
        return ([Erase(key, self._unused[key][0])] for key in ripe)

    def _still_unused(self, specs: Iterable[str], now: float) -> dict[str, tuple[int, float]]:
        world, found = self._context.world, {}
        for spec in specs:
            key = world.mirror.keys.of(kinds.SPECS, spec)
            revision, since = self._unused.get(key, (0, 0.0))
            newest = world.revision(key)
            found[key] = (revision, since) if revision == newest else (newest, now)
        return found

    def _erase(self, key: str) -> Draft:
        return [Erase(key, self._context.world.revision(key))]
