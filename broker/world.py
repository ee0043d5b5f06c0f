"""The records, typed and indexed: what loops and the API read. Changed by the mirror alone, read on the loop only."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.ids import Ids
from broker.jobs.model import JobSpec, JobState, Phase, Shape, Together, Wish, shape_of
from broker.records import Audit, Booking, LinkStatus, Member, Pause, Restore, SiteStatus, Submission, Tenant, Unresolved
from broker.signals import Signals
from broker.store import keys as kinds
from broker.store.mirror import Entry, Mirror
from topology.dataset import Dataset, DatasetId, Replica
from topology.link import Link
from topology.site import Site


@dataclass(frozen=True, slots=True)
class Job:
    """A job as all its records tell it, with the revisions that a write must name."""

    wish: Wish
    spec: JobSpec
    state: JobState
    wish_revision: int
    state_revision: int

    @property
    def id(self) -> str:
        """The job's id."""
        return self.wish.id

    @property
    def is_asked_to_end(self) -> bool:
        """Whether its wish is to cancel it, or to stop its current attempt; one that has ended need not be stopped."""
        stop, state = self.wish.stop, self.state
        is_stopped = stop is not None and state.phase.is_at_site and stop.attempt == state.number
        return self.wish.cancel is not None or is_stopped


Sort = tuple[str, ...]
"""`("tenant", T)`, `("label", NAME, VALUE)` or `("site", S)`."""

Word = tuple[str, Together, str]
"""A tenant, and by which rule and word jobs of it belong together."""

JobWatcher = Callable[[Job | None, Job | None], None]
"""Told of each change of a job: as it was and as it is; None for one that is not there."""


class World:
    """Typed records with the indexes that the loops need. `signals` wake those who wait for a topic."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.signals = Signals()
        self.sites: dict[str, Site] = {}
        self.statuses: dict[str, SiteStatus] = {}
        self.links: dict[str, Link] = {}
        self.link_statuses: dict[str, LinkStatus] = {}
        self.datasets: dict[DatasetId, Dataset] = {}
        self.replicas: dict[DatasetId, dict[str, Replica]] = defaultdict(dict)
        self.versions: dict[tuple[str, str], dict[DatasetId, Dataset]] = defaultdict(dict)
        """Datasets by tenant and name."""
        self.tenants: dict[str, Tenant] = {}
        self.bookings: dict[str, dict[DatasetId, Booking]] = defaultdict(dict)
        """By target site."""
        self.unresolved: dict[str, dict[tuple[str, int], Unresolved]] = defaultdict(dict)
        """By site, then by job and attempt number."""
        self.submissions: dict[tuple[str, str], Submission] = {}
        self.members: dict[str, Member] = {}
        self.restore: Restore | None = None
        self.pause: Pause | None = None
        """Set while an operator wants nothing to be placed."""
        self.audit: dict[str, Audit] = {}
        """By id; ids sort by time."""
        self.jobs: dict[str, Job] = {}
        self.specs: dict[str, None] = {}
        """Hashes of the specs that are records of their own."""
        self.frozen: dict[str, str] = {}
        """Jobs with a record that cannot be read, and why: nobody works them."""
        self.names: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        """Job ids by tenant and name; ids sort by age."""
        self.ids = Ids()
        """All jobs."""
        self.sorts: dict[Sort, Ids] = {}
        """The jobs of a tenant, with a label, or last placed at a site; no sort is empty."""
        self.by_phase: dict[Phase, dict[str, None]] = {phase: {} for phase in Phase}
        self.job_watchers: list[JobWatcher] = []
        self.finished: dict[str, float] = {}
        """Job ids in a terminal phase and when they got there."""
        self.used_by: dict[DatasetId, set[str]] = defaultdict(set)
        """Unfinished jobs by the datasets they read."""
        self._at: dict[tuple[str, Phase], dict[str, None]] = defaultdict(dict)
        self._together: dict[Word, Counter[str]] = defaultdict(Counter)
        self._asked: dict[str, None] = {}
        self._queue: dict[Shape, list[tuple[float, str]]] = {}
        self._queued: dict[str, Shape] = {}
        self._delayed: list[tuple[float, str]] = []
        self._pending: dict[str, int] = defaultdict(int)
        mirror.listen(self)

    @property
    def is_halted(self) -> bool:
        """Whether the store was restored from a backup, and no admin has looked yet: nobody may act on what it holds."""
        return self.mirror.rewind is not None or (self.restore is not None and self.restore.resumed is None)

    def at(self, site: str, *phases: Phase) -> list[Job]:
        """Jobs whose current attempt is at `site`, in one of `phases` (all phases at a site when none is named)."""
        wanted = phases or tuple(phase for phase in Phase if phase.is_at_site)
        return [self.jobs[job] for phase in wanted for job in self._at.get((site, phase), ())]

    def count_at(self, site: str, *phases: Phase) -> int:
        """How many `at` would give."""
        wanted = phases or tuple(phase for phase in Phase if phase.is_at_site)
        return sum(len(self._at.get((site, phase), ())) for phase in wanted)

    def together(self, word: Word) -> Mapping[str, int]:
        """How many unfinished jobs of a word are at each site; those that wait are not."""
        return self._together.get(word, {})

    def asked_to_end(self) -> list[Job]:
        """Unfinished jobs whose wish is to end, or to stop the current attempt; wherever they are."""
        return [self.jobs[job] for job in self._asked]

    def queue(self, now: float) -> Mapping[Shape, Sequence[tuple[float, str]]]:
        """Jobs to place, by class: (created at, id), oldest first. Held, delayed and ending ones are left out."""
        while self._delayed and self._delayed[0][0] <= now:
            _, job = heapq.heappop(self._delayed)
            if job in self.jobs:
                self._index(self.jobs[job], now)
        return self._queue

    def older_of_class(self, job: Job, shape: Shape) -> int:
        """How many jobs of its class are placed before a job that waits."""
        return bisect_left(self._queue.get(shape, []), (job.wish.created_at, job.id))

    def pending_of(self, tenant: str) -> int:
        """How many jobs of a tenant are not placed."""
        return self._pending[tenant]

    def revision(self, key: str) -> int:
        """The revision of a record; 0 when absent."""
        entry = self.mirror.entries.get(key)
        return entry.revision if entry else 0

    def on_change(self, kind: str, names: tuple[str, ...], entry: Entry | None) -> None:
        """The mirror's word: a record came, changed or went."""
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self, names, entry)
        self.signals.mark(kind)

    def on_batch(self) -> None:
        """Wake those who wait for what was marked."""
        self.signals.wake()

    def _on_wish(self, names: tuple[str, ...], entry: Entry | None) -> None:
        self._on_job(names[0])

    _on_state = _on_wish

    def _on_job(self, job: str) -> None:
        """Rebuild one job from its records and index it anew."""
        old = self.jobs.pop(job, None)
        if old:
            self._unindex(old)
        self._rebuild(job)
        new = self.jobs.get(job)
        self._sort_in(job, old, new)
        for watch in self.job_watchers:
            watch(old, new)

    def _sort_in(self, job: str, old: Job | None, new: Job | None) -> None:
        """Most changes are of a state, and cost nothing here: a wish has tenant and labels, and attempts seldom change site."""
        if old is None or new is None:
            (self.ids.discard if new is None else self.ids.add)(job)
        if old is None or new is None or old.wish is not new.wish:
            self._sort_anew(job, _of_wish(old), _of_wish(new))
        was, now = _last_site(old), _last_site(new)
        if was != now:
            self._sort_anew(job, {("site", was)} if was else set(), {("site", now)} if now else set())

    def _sort_anew(self, job: str, was: set[Sort], now: set[Sort]) -> None:
        for sort in was - now:
            self.sorts[sort].discard(job)
            if not self.sorts[sort]:
                del self.sorts[sort]
        for sort in now - was:
            self.sorts.setdefault(sort, Ids()).add(job)

    def _rebuild(self, job: str) -> None:
        self.frozen.pop(job, None)
        entries, keys = self.mirror.entries, self.mirror.keys
        wish_entry = entries.get(keys.of(kinds.WISHES, job))
        state_entry = entries.get(keys.of(kinds.STATES, job))
        if wish_entry is None:
            return
        spec = self._spec(wish_entry)
        error = wish_entry.error or (state_entry.error if state_entry else "") or ("" if spec else "its spec is missing")
        if error or spec is None:
            self.frozen[job] = error
            return
        state: JobState = state_entry.value if state_entry else JobState(job)
        new = Job(wish_entry.value, spec, state, wish_entry.revision, state_entry.revision if state_entry else 0)
        self.jobs[job] = new
        self._index(new, None)

    def _spec(self, wish: Entry) -> JobSpec | None:
        if wish.value is None:
            return None
        if wish.value.spec is not None:
            return wish.value.spec  # type: ignore[no-any-return]
        entry = self.mirror.entries.get(self.mirror.keys.of(kinds.SPECS, wish.value.spec_hash))
        return entry.value if entry else None

    def _index(self, job: Job, now: float | None) -> None:
        """Enter a job into the indexes. With `now`, a delay that is over counts no more."""
        state, name = job.state, (job.wish.tenant, job.wish.name)
        self.names[name][job.id] = None
        self.by_phase[state.phase][job.id] = None
        if state.phase.is_terminal:
            self.finished[job.id] = state.finished_at or 0.0
            return
        for dataset in job.spec.inputs:
            self.used_by[dataset].add(job.id)
        if job.is_asked_to_end:
            self._asked[job.id] = None
        if state.phase is not Phase.PENDING:
            self._at[state.attempt.site, state.phase][job.id] = None
            for rule, word in job.spec.sites.words:
                self._together[job.spec.tenant, rule, word][state.attempt.site] += 1
            return
        if job.id not in self._queued and now is None:
            self._pending[job.wish.tenant] += 1
        if job.wish.cancel or job.wish.hold:
            return
        if state.not_before is not None and (now is None or state.not_before > now):
            heapq.heappush(self._delayed, (state.not_before, job.id))
            return
        if job.id not in self._queued:
            shape = shape_of(job.spec, state)
            self._queued[job.id] = shape
            insort(self._queue.setdefault(shape, []), (job.wish.created_at, job.id))

    def _unindex(self, job: Job) -> None:
        """Take a job out of all indexes, as `_index` entered it."""
        names = self.names[job.wish.tenant, job.wish.name]
        names.pop(job.id, None)
        self.by_phase[job.state.phase].pop(job.id, None)
        if not names:
            del self.names[job.wish.tenant, job.wish.name]
        self.finished.pop(job.id, None)
        self._asked.pop(job.id, None)
        for dataset in job.spec.inputs:
            self.used_by[dataset].discard(job.id)
        if job.state.phase.is_at_site:
            self._at[job.state.attempt.site, job.state.phase].pop(job.id, None)
            self._leave_together(job)
        elif job.state.phase is Phase.PENDING:
            self._pending[job.wish.tenant] -= 1
            self._leave_queue(job)

    def _leave_together(self, job: Job) -> None:
        for rule, word in job.spec.sites.words:
            key = (job.spec.tenant, rule, word)
            at = self._together[key]
            at[job.state.attempt.site] -= 1
            self._together[key] = +at
            if not self._together[key]:
                del self._together[key]

    def _leave_queue(self, job: Job) -> None:
        shape = self._queued.pop(job.id, None)
        if shape is None:
            return
        members = self._queue[shape]
        del members[bisect_left(members, (job.wish.created_at, job.id))]
        if not members:
            del self._queue[shape]

    def _on_spec(self, names: tuple[str, ...], entry: Entry | None) -> None:
        if entry is None:
            self.specs.pop(names[0], None)
        else:
            self.specs[names[0]] = None
        waiting = [job for job, why in self.frozen.items() if why == "its spec is missing"]
        for job in waiting if entry else ():
            self._on_job(job)

    def _on_site(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.sites, names[0], entry)

    def _on_link(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.links, names[0], entry)

    def _on_dataset(self, names: tuple[str, ...], entry: Entry | None) -> None:
        dataset = _dataset_id(names)
        _keep(self.datasets, dataset, entry)
        _keep(self.versions[dataset.tenant, dataset.name], dataset, entry)

    def _on_replica(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.replicas[_dataset_id(names)], names[2], entry)

    def _on_status(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.statuses, names[0], entry)

    def _on_link_status(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.link_statuses, names[0], entry)

    def _on_tenant(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.tenants, names[0], entry)

    def _on_booking(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.bookings[names[0]], _dataset_id(names[1:]), entry)

    def _on_unresolved(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.unresolved[names[0]], (names[1], int(names[2])), entry)

    def _on_submission(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.submissions, (names[0], names[1]), entry)

    def _on_member(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.members, names[0], entry)

    def _on_pause(self, names: tuple[str, ...], entry: Entry | None) -> None:
        self.pause = entry.value if entry else None

    def _on_audit(self, names: tuple[str, ...], entry: Entry | None) -> None:
        _keep(self.audit, names[0], entry)

    def _on_restore(self, names: tuple[str, ...], entry: Entry | None) -> None:
        self.restore = entry.value if entry else None


_HANDLERS = {
    kinds.WISHES: World._on_wish,
    kinds.STATES: World._on_state,
    kinds.SPECS: World._on_spec,
    kinds.SITES: World._on_site,
    kinds.SITE_STATUS: World._on_status,
    kinds.LINKS: World._on_link,
    kinds.LINK_STATUS: World._on_link_status,
    kinds.DATASETS: World._on_dataset,
    kinds.REPLICAS: World._on_replica,
    kinds.TENANTS: World._on_tenant,
    kinds.BOOKINGS: World._on_booking,
    kinds.UNRESOLVED: World._on_unresolved,
    kinds.SUBMISSIONS: World._on_submission,
    kinds.MEMBERS: World._on_member,
    kinds.RESTORE: World._on_restore,
    kinds.PAUSE: World._on_pause,
    kinds.AUDIT: World._on_audit,
}


def _of_wish(job: Job | None) -> set[Sort]:
    return {("tenant", job.wish.tenant), *(("label", *label) for label in job.wish.labels.items())} if job else set()


def _last_site(job: Job | None) -> str | None:
    return job.state.attempts[-1].site if job and job.state.attempts else None


def _keep(table: dict[Any, Any], name: Any, entry: Entry | None) -> None:
    """Hold what a record says now; one that cannot be read is as if absent, and the mirror has logged it."""
    if entry is None or entry.value is None:
        table.pop(name, None)
    else:
        table[name] = entry.value


def _dataset_id(names: tuple[str, ...]) -> DatasetId:
    name, _, version = names[1].partition("@")
    return DatasetId(names[0], name, version)
