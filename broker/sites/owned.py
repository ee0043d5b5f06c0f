"""A site in its owner's hands: what the loops of one site share, and how they write."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapters.base import Report, RunRef, SiteAdapter, Unreachable
from broker.context import Context
from broker.jobs.lifecycle import ImpossibleEvent, fold
from broker.jobs.model import Phase
from broker.members import Right
from broker.records import SiteStatus, Unresolved
from broker.sites import health
from broker.sites.calls import Calls
from broker.sites.health import Probing
from broker.sites.layout import claim_path
from broker.sites.owed import Doubt, Step, name_of
from broker.storage import Claims, Storage, StorageError
from broker.store import keys as kinds
from broker.store.base import Conflict, Saved, Store
from broker.store.ledger import Draft, Save
from broker.world import Job, World
from topology.dataset import Dataset, Replica
from topology.site import Site

log = logging.getLogger(__name__)

CLAIMS_AT_ONCE = 200
CLAIMS_IN_FLIGHT = 8


@dataclass(slots=True)
class Memory:
    """What one ownership knows beside the records. Losing it is safe: it begins with everything in doubt."""

    doubts: dict[str, Doubt]
    in_flight: set[str] = field(default_factory=set)
    """Names of runs that a submit call carries now."""
    reports: Mapping[str, Report] = field(default_factory=dict)
    """The last listing."""
    claimed: dict[tuple[str, int], float] = field(default_factory=dict)
    """Unresolved attempts whose claim is taken, and when."""
    quarantined: frozenset[str] = frozenset()
    """Listed runs of which no record speaks."""
    probing: Probing = Probing()


class OwnedSite:
    """One site, one ownership."""

    def __init__(
        self,
        context: Context,
        store: Store,
        right: Right,
        site: Site,
        adapter: SiteAdapter,
        calls: Calls,
        claims: Claims,
        storage: Storage,
    ) -> None:
        self.context = context
        self.store = store
        self.right = right
        self.site = site
        self.adapter = adapter
        self.calls = calls
        self.storage = storage
        self.name = right.site
        self.federation = context.settings.federation
        self.has_submitted = asyncio.Event()
        """Wakes the observer."""
        self.has_exits = asyncio.Event()
        """Wakes the collector."""
        self._claims = claims
        self._saving = asyncio.Lock()
        self.status = self.world.statuses.get(self.name, SiteStatus(self.name))
        """As of now; what is stored of it may be a little older."""
        now = context.clock.now()
        placed = self.world.at(self.name, Phase.PLACED)
        self.memory = Memory({name_of(job, self.federation): Doubt(now) for job in placed})

    @property
    def world(self) -> World:
        """The records."""
        return self.context.world

    @property
    def is_lost(self) -> bool:
        """Whether the site is stored as lost, and our own last probe failed as well."""
        stored = self.world.statuses.get(self.name)
        return stored is not None and stored.is_lost and self.memory.probing.failed_at is not None

    def ref(self, job: Job) -> RunRef:
        """The current attempt's run, by the id that the site last told."""
        name = name_of(job, self.federation)
        report = self.memory.reports.get(name)
        return RunRef(name, report.native_id if report else job.state.attempt.native_id)

    def bug(self, what: str) -> None:
        """Log the exception being handled as ours, and count it."""
        log.exception("%s: %s", self.name, what)
        self.context.metrics.bugs.labels(f"sites: {what}").inc()

    async def write(self, steps: Sequence[Step]) -> None:
        """Fold each step's events into its job's state and store all; one that lost to a newer record is left to the next turn,
        one too large to be stored is reported by the ledger and stays as it is. Raises what `Store.commit` raises."""
        drafts, events = [], []
        for step in steps:
            draft = self._draft(step)
            if draft is not None:
                drafts.append(draft)
                events.append(step.events)
        if not drafts:
            return
        counts: Counter[str] = Counter()
        for result, told in zip(await self.commit(drafts), events, strict=True):
            if result:
                counts.update(type(event).__name__ for event in told)
        for event, count in counts.items():
            self.context.metrics.events.labels(event).inc(count)

    async def commit(self, drafts: Sequence[Draft]) -> list[bool]:
        """Which of the drafts are stored, all under the owner's fence. Raises what `Store.commit` raises."""
        results = await self.context.ledger.commit(drafts, self.right.fence)
        conflicts = sum(isinstance(result, Conflict) for result in results)
        if conflicts:
            self.context.metrics.conflicts.labels("sites").inc(conflicts)
        return [isinstance(result, Saved) for result in results]

    def _draft(self, step: Step) -> Draft | None:
        try:
            state = fold(step.job.state, step.events)
        except ImpossibleEvent:
            self.bug("an event that the job's phase does not allow")
            return None
        keys = self.world.mirror.keys
        draft: list[Save] = [Save(keys.of(kinds.STATES, step.job.id), state, step.job.state_revision)]
        for record in step.beside:
            key = self._key(record)
            draft.append(Save(key, record, self.world.revision(key)))
        return draft

    def _key(self, record: Unresolved | Dataset | Replica) -> str:
        keys = self.world.mirror.keys
        match record:
            case Unresolved(site, job, attempt):
                return keys.of(kinds.UNRESOLVED, site, job, str(attempt))
            case Dataset(dataset):
                return keys.dataset(dataset)
            case Replica(dataset, site):
                return keys.replica(dataset, site)

    async def claim(self, names: Iterable[str]) -> Mapping[str, bool]:
        """Take the claims of these runs, some hundreds at most: whether each is ours. Those that storage did not answer for are
        left out, to be tried again."""
        gate = asyncio.Semaphore(CLAIMS_IN_FLIGHT)

        async def take(name: str) -> bool:
            async with gate:
                return await self.calls.make("claim", lambda _: self._claims.create(self.site, claim_path(name)))

        wanted = list(names)[:CLAIMS_AT_ONCE]
        answers = await asyncio.gather(*(take(name) for name in wanted), return_exceptions=True)
        failures = [answer for answer in answers if not isinstance(answer, bool)]
        for failure in failures:
            if not isinstance(failure, StorageError | Unreachable):
                raise failure
        if failures:
            log.warning("%s: %d of %d claims cannot be taken now: %s", self.name, len(failures), len(wanted), failures[0])
        taken = {name: answer for name, answer in zip(wanted, answers, strict=True) if isinstance(answer, bool)}
        self._note_started([name for name, is_ours in taken.items() if not is_ours])
        return taken

    def _note_started(self, names: Iterable[str]) -> None:
        """Runs that have made their claim: while they are not accepted, they are looked for."""
        now = self.context.clock.now()
        for name in names:
            doubt = self.memory.doubts.get(name)
            if doubt is None or not doubt.has_started:
                self.memory.doubts[name] = Doubt(now, has_started=True)

    async def save_status(self, change: Callable[[SiteStatus], SiteStatus]) -> None:
        """Change the status, and store it when others must hear of it."""
        async with self._saving:
            stored = self.world.statuses.get(self.name, SiteStatus(self.name))
            self.status = replace(change(self.status), site=self.name)
            key = self.world.mirror.keys.of(kinds.SITE_STATUS, self.name)
            revision = self.world.revision(key)
            if revision == 0 or health.is_worth_writing(stored, self.status):
                await self.commit([[Save(key, self.status, revision)]])
