"""How jobs come to be: one, or up to a thousand together, never lost once answered and never made twice for one key.

Ids derive from a seed and the position in the request. With an idempotency key the seed is stored first, so that a retry makes
the same ids, and what a crash cut is completed: each job is put only if it is absent. The answer comes when all are stored.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from broker.context import Context
from broker.errors import Fault, InConflict, Invalid, TooLarge, TooMany
from broker.jobs.model import DEFAULT_TENANT, JobSpec, Wish
from broker.records import Submission, Tenant
from broker.store import codec
from broker.store import keys as kinds
from broker.store.base import Rejected, Saved, Store
from broker.store.ledger import Draft, Save
from broker.store.vitals import Vitals

MOST_JOBS = 1_000
"""In one request: more would hold the loop and the store for too long at a time."""
INLINE_BYTES = 4_096
"""A larger spec is a record of its own."""
MOST_SPEC_BYTES = 100_000
TOGETHER = 8
"""So few jobs are stored with their submission in one transaction, whatever their specs hold."""
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Base 32 by Crockford, in lower case: sorts as it counts."""
SEED_DIGITS = 10


@dataclass(frozen=True, slots=True)
class NewJob:
    """One job of a request, with its inputs pinned."""

    name: str
    spec: JobSpec
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """Jobs to make together, all of one tenant. `body_hash` tells one body from another under the same key."""

    tenant: str
    who: str
    jobs: Sequence[NewJob]
    body_hash: str
    key: str | None = None
    trace: str = ""
    """See `Wish.trace`."""


class Submissions:
    """Makes jobs."""

    def __init__(self, context: Context, store: Store, vitals: Vitals) -> None:
        self._context = context
        self._store = store
        self._vitals = vitals
        self._coming: Counter[str] = Counter()

    async def create(self, request: Request) -> Sequence[Wish]:
        """The jobs' wishes in the order of the request; all are stored. Raises Invalid, InConflict and TooMany, and what
        the store raises: then some may be stored, and the same request with the same key completes them."""
        known = self._context.world.submissions.get((request.tenant, request.key)) if request.key else None
        if known is None:
            with self._admitted(request.tenant, len(request.jobs)):
                seed = "".join(secrets.choice(DIGITS) for _ in range(SEED_DIGITS))
                submission = self._submission(request, seed)
                wishes = await self._begin(request, submission)
            if wishes is not None:
                return wishes
            known = await self._stored(request)
        if known.body_hash != request.body_hash:
            raise InConflict(f"Idempotency-Key {request.key}: used before with another body; use a new key for other jobs")
        return await self._complete(request, known)

    def _submission(self, request: Request, seed: str) -> Submission:
        count, now = len(request.jobs), self._context.clock.now()
        return Submission(request.tenant, request.key or "", request.body_hash, seed, count, now, is_complete=count <= TOGETHER)

    async def _begin(self, request: Request, submission: Submission) -> Sequence[Wish] | None:
        """Store a new request's jobs; None when its key turns out to be in use."""
        wishes, specs = written(request, submission)
        first: list[Save] = [Save(self._key(submission), submission, 0)] if request.key else []
        if submission.is_complete:
            draft = [*first, *self._specs(specs), *(self._wish(wish) for wish in wishes)]
            if not await self._commit([draft]):
                return None
        else:
            if first and not await self._commit([first]):
                return None
            await self._store_wishes(wishes, specs)
            if first:
                await self._finish(submission)
        self._context.metrics.jobs_accepted.inc(len(wishes))
        return wishes

    async def _complete(self, request: Request, submission: Submission) -> Sequence[Wish]:
        """What an earlier try of the same request made, and what it did not come to make."""
        wishes, specs = written(request, submission)
        if submission.is_complete:
            return wishes
        keys = self._context.world.mirror.keys
        held = await self._store.get([keys.of(kinds.WISHES, wish.id) for wish in wishes])
        await self._store_wishes([wish for wish, record in zip(wishes, held, strict=True) if record is None], specs)
        await self._finish(submission)
        return wishes

    async def _finish(self, submission: Submission) -> None:
        """Say that all its jobs are stored, unless that was said before, or the record has gone since."""
        key = self._key(submission)
        record = (await self._store.get([key]))[0]
        if record is not None and codec.decode(kinds.SUBMISSIONS, record.value) == submission:
            await self._commit([[Save(key, replace(submission, is_complete=True), record.revision)]])

    async def _store_wishes(self, wishes: Sequence[Wish], specs: Mapping[str, JobSpec]) -> None:
        """Each on its own, but for the first of each shared spec: the spec is written anew with it, so that housekeeping,
        which removes specs that no job has, never takes one away under a new job. A wish that is there already may stay."""
        firsts: list[Draft] = []
        rest: list[Draft] = []
        seen = set()
        for wish in wishes:
            if wish.spec_hash is None or wish.spec_hash in seen:
                rest.append([self._wish(wish)])
            else:
                seen.add(wish.spec_hash)
                firsts.append([*self._specs({wish.spec_hash: specs[wish.spec_hash]}), self._wish(wish)])
        for drafts in (firsts, rest):
            if drafts:
                await self._commit(drafts)

    async def _commit(self, drafts: Sequence[Draft]) -> bool:
        """Whether all are stored. Raises TooLarge for one that no store takes."""
        results = await self._context.ledger.commit(drafts)
        rejected = next((result for result in results if isinstance(result, Rejected)), None)
        if rejected:
            raise TooLarge(rejected.reason)
        return all(isinstance(result, Saved) for result in results)

    async def _stored(self, request: Request) -> Submission:
        """The submission under the request's key, as the store has it now."""
        key = self._context.world.mirror.keys.of(kinds.SUBMISSIONS, request.tenant, request.key or "")
        record = (await self._store.get([key]))[0]
        if record is None:
            raise InConflict(f"Idempotency-Key {request.key}: another request with it is under way; send this one again")
        submission: Submission = codec.decode(kinds.SUBMISSIONS, record.value)
        return submission

    def _specs(self, specs: Mapping[str, JobSpec]) -> list[Save]:
        keys = self._context.world.mirror.keys
        return [Save(keys.of(kinds.SPECS, name), spec, None) for name, spec in specs.items()]

    def _wish(self, wish: Wish) -> Save:
        return Save(self._context.world.mirror.keys.of(kinds.WISHES, wish.id), wish, 0)

    def _key(self, submission: Submission) -> str:
        return self._context.world.mirror.keys.of(kinds.SUBMISSIONS, submission.tenant, submission.key)

    @contextmanager
    def _admitted(self, tenant: str, count: int) -> Iterator[None]:
        """Count the jobs as coming while they are being stored. Raises TooMany."""
        world = self._context.world
        most = world.tenants.get(tenant, Tenant(tenant)).max_pending
        pending = world.pending_of(tenant) + self._coming[tenant]
        if pending + count > most:
            raise TooMany(f"tenant {tenant} has {pending} pending jobs and may have {most}: {count} more are too many for now")
        objection = self._vitals.objection()
        if objection:
            raise TooMany(objection)
        self._coming[tenant] += count
        try:
            yield
        finally:
            self._coming[tenant] -= count


def written(request: Request, submission: Submission) -> tuple[Sequence[Wish], Mapping[str, JobSpec]]:
    """The wishes of a request, and by their hash the specs that are records of their own. Raises Invalid."""
    encoded = [codec.encode(job.spec) for job in request.jobs]
    times = Counter(encoded)
    shared: dict[bytes, str] = {}
    specs: dict[str, JobSpec] = {}
    wishes = []
    for position, (job, raw) in enumerate(zip(request.jobs, encoded, strict=True)):
        if len(raw) > MOST_SPEC_BYTES:
            cure = f"{len(raw)} bytes; {MOST_SPEC_BYTES} at most: move the script to a dataset"
            raise Invalid(faults=[Fault(f"jobs.{position}", cure)])
        is_shared = times[raw] > 1 or len(raw) > INLINE_BYTES
        if is_shared and raw not in shared:
            shared[raw] = hashlib.sha256(raw).hexdigest()[:32]
            specs[shared[raw]] = job.spec
        wishes.append(
            Wish(
                id=job_id(submission.created_at, submission.seed, position),
                name=job.name,
                tenant=request.tenant,
                created_at=submission.created_at,
                created_by=request.who,
                spec=None if is_shared else job.spec,
                spec_hash=shared[raw] if is_shared else None,
                labels=job.labels,
                trace=request.trace,
            )
        )
    return wishes, specs


def job_id(created_at: float, seed: str, position: int) -> str:
    """22 characters of a-z and 0-9, the first a letter: milliseconds, seed, position. Ids sort by the time of creation."""
    return f"j{_digits(int(created_at * 1000), 9)}{seed}{_digits(position, 2)}"


def known_tenant(world_tenants: Mapping[str, Tenant], tenant: str) -> str:
    """The tenant, if it is registered or the default one. Raises Invalid."""
    if tenant != DEFAULT_TENANT and tenant not in world_tenants:
        raise Invalid(faults=[Fault("tenant", f"no tenant {tenant} is registered: apply `kind: Tenant` with that name first")])
    return tenant


def _digits(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits = DIGITS[digit] + digits
    return digits
