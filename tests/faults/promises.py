"""What the broker promises, checked at every write, at every start of a program, and at the end."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from adapters.base import RunName
from broker.jobs.lifecycle import NEXT
from broker.jobs.model import Attempt, Ending, JobSpec, JobState, Phase, Wish, parse_run_name, run_name
from broker.records import Booking, Holder, Unresolved
from broker.sites.layout import output_path
from broker.snapshot import HOLDING
from broker.storage import Tree
from broker.store import codec
from broker.store import keys as kinds
from broker.store.base import Change, Delete, Put, Record
from broker.store.keys import Keys
from tests.faults.process import current
from tests.faults.sites import Engine, tree_of
from tests.faults.trace import Trace
from topology.dataset import DatasetId
from topology.link import Link
from topology.resources import EPSILON, Resources
from topology.site import Site

MAY_HAVE_RUN = (
    Ending.SITE_LOST,
    Ending.VANISHED,
    Ending.CLAIMED,
    Ending.NODE_LOST,
    Ending.CANCELLED,
    Ending.PROGRAM_FAILED,
    Ending.WALLTIME,
    Ending.OUTPUT_MISSING,
)
"""Ends of attempts whose program may have run; of all others it never starts."""


def _reachable() -> Mapping[Phase, frozenset[Phase]]:
    """What one writer may make of a phase in one write: any path of `NEXT` that does not lead on from pending."""

    def onward(phase: Phase, found: set[Phase]) -> set[Phase]:
        for next_phase in NEXT[phase].values():
            if next_phase not in found:
                found.add(next_phase)
                if next_phase is not Phase.PENDING:
                    onward(next_phase, found)
        return found

    return {phase: frozenset(onward(phase, set())) for phase in Phase}


REACHABLE = _reachable()


class Promises:
    """Holds what is stored, and what went against a promise in `broken`."""

    def __init__(
        self,
        keys: Keys,
        trace: Trace,
        sites: Mapping[str, Site],
        links: Mapping[str, Link],
        engines: Mapping[str, Engine],
        trees: Mapping[tuple[str, str], Tree],
        held: Callable[[str], Record | None],
    ) -> None:
        self.broken: list[str] = []
        self.acknowledged: set[str] = set()
        self.wishes: dict[str, Wish] = {}
        self.states: dict[str, JobState] = {}
        self.endings: Counter[str] = Counter()
        self._specs: dict[str, JobSpec] = {}
        self._keys = keys
        self._trace = trace
        self._sites = sites
        self._links = links
        self._engines = engines
        self._trees = trees
        self._held = held
        self._starts: dict[RunName, int] = defaultdict(int)
        self._superseded: dict[RunName, str] = {}
        """Runs of attempts that were given up for good: they run no more, and never start."""
        self.bookings: dict[str, Booking] = {}
        self.unresolved: dict[str, Unresolved] = {}

    def spec(self, job: str) -> JobSpec:
        """What a job asks for."""
        wish = self.wishes[job]
        return wish.spec or self._specs[wish.spec_hash or ""]

    def breaks(self, what: str) -> None:
        """A promise is broken, now."""
        self._trace.add(f"BROKEN: {what}")
        if len(self.broken) < 20:
            self.broken.append(f"{asyncio.get_running_loop().time():.4f} {current() or 'world'}: {what}")

    def about_to_write(self, puts: Sequence[Put]) -> None:
        """See `store.Watcher`."""

    def has_written(self, puts: Sequence[Put], changes: Sequence[Change], revision: int) -> None:
        """See `store.Watcher`."""
        removed = [self._keys.split(part.key)[0] for change in changes for part in change if isinstance(part, Delete)]
        notes = set()
        states: list[JobState] = []
        for put in puts:
            kind, names = self._keys.split(put.key)
            if kind in (kinds.MEMBERS, kinds.LEADER, kinds.OWNERS):
                self._trace.add(f"{kind} {'/'.join(names)}, revision {revision}")
                continue
            if kind in (kinds.SITE_STATUS, kinds.SUBMISSIONS, kinds.SITES, kinds.LINK_STATUS) and not self._trace.is_on:
                continue
            value = codec.decode(kind, put.value)
            if kind == kinds.STATES:
                states.append(value)
            elif kind == kinds.WISHES:
                self._wished(value)
            elif kind == kinds.SPECS:
                self._specs[names[0]] = value
            elif kind == kinds.BOOKINGS:
                self.bookings[put.key] = value
                self._check_links()
            elif kind == kinds.UNRESOLVED:
                self.unresolved[put.key] = value
                notes.add((value.job, value.attempt))
                self._trace.add(f"unresolved: attempt {value.attempt} of {value.job} at {value.site}")
            elif self._trace.is_on:
                self._trace.add(f"{kind} {'/'.join(names)}: {value}")
        for state in states:
            self._changed(state, (state.id, state.number) in notes, revision)
        if removed:
            self._removed(changes)

    def started(self, site: str, name: RunName) -> None:
        """A program began to run, past its claim."""
        self._trace.add(f"{site}: {name} starts")
        self._starts[name] += 1
        if self._starts[name] > 1:
            self.breaks(f"{name} was started {self._starts[name]} times")
        if name in self._superseded:
            self.breaks(f"{name} starts, though its attempt was given up: {self._superseded[name]}")
        job, number = self._parsed(name)
        state = self.states.get(job)
        if state is None or state.number < number:
            self.breaks(f"{name} starts, and no stored attempt is its own")

    def forgotten(self, site: str, name: RunName) -> None:
        """A site is told that it may clean up a run."""
        job, number = self._parsed(name)
        state = self.states.get(job)
        attempt = state.attempt_of(number) if state else None
        if attempt is None or attempt.end is None:
            self.breaks(f"{site} is told to forget {name}, whose end is not stored")

    def at_end(self) -> None:
        """What must hold once all is quiet."""
        for job in self.acknowledged:
            if self._held(self._keys.of(kinds.WISHES, job)) is None:
                self.breaks(f"job {job} was acknowledged and is not there")
        for job in self.wishes.keys() - self.acknowledged:
            self.breaks(f"job {job} is there, and its user was told of another")
        for job in self.wishes:
            state = self.states.get(job, JobState(job))
            if not state.phase.is_terminal:
                self.breaks(f"job {job} is {state.phase} still: {state.reason}")
            else:
                self._check_ended(state)
        for key in self.bookings:
            self.breaks(f"left over: {key}")
        for key in self.unresolved:
            self.breaks(f"left over: {key}")
        for engine in self._engines.values():
            for name in engine.running():
                self.breaks(f"{name} runs on at {engine.site}")

    def _wished(self, wish: Wish) -> None:
        if wish.id not in self.wishes:
            self._trace.add(f"job {wish.id} is wished for")
        elif wish.cancel:
            self._trace.add(f"job {wish.id} is asked to end")
        self.wishes[wish.id] = wish

    def _changed(self, state: JobState, is_noted: bool, revision: int) -> None:
        old = self.states.get(state.id, JobState(state.id))
        if self._trace.is_on:
            attempt = f", attempt {state.number} at {state.attempts[-1].site}" if state.attempts else ""
            self._trace.add(f"job {state.id}: {old.phase} -> {state.phase}{attempt} {state.reason} (revision {revision})")
        self.states[state.id] = state
        self._check_writer(old)
        if old.phase.is_terminal:
            self.breaks(f"job {state.id} was {old.phase} and is now {state.phase}")
            return
        if state.phase not in REACHABLE[old.phase]:
            self.breaks(f"job {state.id} went from {old.phase} to {state.phase}")
        grown = state.number - old.number
        may_grow = (0, 1) if old.phase is Phase.PENDING else (0,)
        told = len(state.attempts) + state.folded == state.number
        earlier = [each for each in old.attempts[:-1] if state.attempt_of(each.number) != each]
        changed = [each for each in earlier if state.attempt_of(each.number) or not _is_unsent(each)]
        if grown not in may_grow or not told or changed:
            self.breaks(f"job {state.id}: its earlier attempts changed")
        if grown == 1:
            self._check_room(state)
        if old.phase.is_at_site and old.attempt.end is None and state.attempt.end is not None:
            self._ended(state, is_noted)

    def _check_writer(self, old: JobState) -> None:
        """Pending is the leader's; a job at a site is the owner's."""
        pending = old.phase is Phase.PENDING
        key = self._keys.of(kinds.LEADER) if pending else self._keys.of(kinds.OWNERS, old.attempt.site)
        record = self._held(key)
        kind, _ = self._keys.split(key)
        holder: Holder | None = codec.decode(kind, record.value) if record else None
        if holder is None or holder.member != current():
            self.breaks(f"job {old.id}, {old.phase}, was written by {current()}; {key} is held by {holder}")

    def _ended(self, state: JobState, is_noted: bool) -> None:
        """An attempt is over: nothing of it runs now or starts later, unless a note says that this cannot be known, or claims
        stop nobody there."""
        attempt = state.attempt
        assert attempt.end
        name = run_name(self._keys.federation, state.id, attempt.number)
        self.endings[str(attempt.end.ending)] += 1
        ending = attempt.end.ending
        if ending is Ending.SITE_LOST and Ending.SITE_LOST not in self.spec(state.id).retry.reasons:
            self.breaks(f"job {state.id} was taken from its lost site, and does not want that")
        if is_noted or not self._engines[attempt.site].has_claims:
            return
        self._superseded[name] = str(ending)
        if ending is Ending.CLAIMED and self._engines[attempt.site].has_started(name):
            self.breaks(f"{name} is known at {attempt.site} to have started, and its attempt is ended as {ending}")
        for engine in self._engines.values():
            if name in engine.running():
                self.breaks(f"{name} runs while its attempt is ended as {ending}")
        if self._starts[name] and ending is not None and ending not in MAY_HAVE_RUN and not self._was_asked(state):
            self.breaks(f"{name} was started, and its attempt is ended as {ending}")

    def _was_asked(self, state: JobState) -> bool:
        wish = self.wishes[state.id]
        return wish.cancel is not None or wish.stop is not None

    def _check_ended(self, state: JobState) -> None:
        job, spec = state.id, self.spec(state.id)
        self._check_verdict(state, spec)
        names = [run_name(self._keys.federation, job, number + 1) for number in range(state.number)]
        if state.phase is Phase.SUCCEEDED:
            if self._starts[names[-1]] != 1:
                self.breaks(f"job {job} succeeded, and its last attempt was started {self._starts[names[-1]]} times")
            expected = tuple(DatasetId(spec.tenant, output, job) for output in spec.outputs)
            if state.outputs != expected:
                self.breaks(f"job {job} has outputs {state.outputs}")
            for dataset in expected:
                self._check_output(dataset, names[-1], state.attempt.site)
        runs = sum(self._starts[name] for name in names)
        may_have = (*MAY_HAVE_RUN, *((Ending.WITHDRAWN,) if self._was_asked(state) else ()))
        again = [attempt for attempt in state.attempts[:-1] if attempt.end and attempt.end.ending in may_have]
        if runs > 1 + len(again):
            self.breaks(f"job {job} was run {runs} times in {state.number} attempts")

    def _check_verdict(self, state: JobState, spec: JobSpec) -> None:
        """How the job ended is what its program did, or what its user asked for, or what its retries allow."""
        _, seconds, exit_code, leaves = spec.command
        overruns = spec.walltime_s is not None and float(seconds) > spec.walltime_s
        has_failed, lacks_output = exit_code != "0" or overruns, bool(spec.outputs) and leaves != "yes"
        last = state.attempts[-1].end.ending if state.attempts and state.attempts[-1].end else None
        counted = [attempt for attempt in state.attempts if attempt.end and attempt.end.ending is not Ending.WITHDRAWN]
        match state.phase:
            case Phase.SUCCEEDED:
                is_right = not has_failed and not lacks_output
            case Phase.CANCELLED:
                is_right = self.wishes[state.id].cancel is not None
            case _ if last is Ending.PROGRAM_FAILED:
                is_right = exit_code != "0"
            case _ if last is Ending.WALLTIME:
                is_right = overruns
            case _ if last is Ending.OUTPUT_MISSING:
                is_right = lacks_output and not has_failed
            case _:
                has_waited = spec.max_wait_s is not None and state.reason.startswith("waited")
                is_worn_out = len(counted) >= spec.retry.attempts or last not in spec.retry.reasons
                is_right = has_waited or (last is not None and is_worn_out)
        if not is_right:
            self.breaks(f"job {state.id} is {state.phase} after {last}: {state.reason}; it is {' '.join(spec.command)}")

    def _check_output(self, dataset: DatasetId, name: RunName, site: str) -> None:
        path = output_path(name, dataset.name)
        record = self._held(self._keys.replica(dataset, site))
        if record is None or codec.decode(kinds.REPLICAS, record.value).path != path:
            self.breaks(f"{dataset} is not the replica at {path}")
        if self._trees.get((site, path)) != tree_of(name):
            self.breaks(f"{dataset} at {path} is not what {name} wrote")

    def _check_links(self) -> None:
        used: dict[str, float] = defaultdict(float)
        for booking in self.bookings.values():
            for link in booking.links:
                used[link] += booking.share_gbps
        for link, gbps in used.items():
            if gbps > self._links[link].bandwidth_gbps + 1e-6:
                self.breaks(f"link {link} is booked for {gbps} of {self._links[link].bandwidth_gbps} Gbps")

    def _check_room(self, state: JobState) -> None:
        """All that is placed in the pool, and what may still run there, fits its nodes."""
        attempt = state.attempt
        held = [other for other in self.states.values() if other.phase in HOLDING]
        numbers = [(other.id, other.number) for other in held]
        numbers += [(note.job, note.attempt) for note in self.unresolved.values()]
        total = Resources()
        for job, number in numbers:
            at = self.states[job].attempt_of(number)
            assert at
            if (at.site, at.pool) == (attempt.site, attempt.pool):
                spec = self.spec(job)
                total = total + spec.resources.on(at.gpu_type) * spec.tasks
        pool = self._sites[attempt.site].pool(attempt.pool)
        assert pool
        if total.cpus > pool.per_node.cpus * pool.nodes + EPSILON:
            self.breaks(f"{total} are placed at {attempt.site}/{attempt.pool}")

    def _removed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            for part in change:
                if isinstance(part, Delete):
                    self.bookings.pop(part.key, None)
                    if self.unresolved.pop(part.key, None):
                        self._trace.add(f"resolved: {part.key}")

    def _parsed(self, name: RunName) -> tuple[str, int]:
        parsed = parse_run_name(self._keys.federation, name)
        assert parsed
        return parsed


def _is_unsent(attempt: Attempt) -> bool:
    return attempt.staged_at is None and attempt.end is not None and attempt.end.ending is Ending.WITHDRAWN
