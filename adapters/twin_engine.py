"""The engine that the twin's adapter speaks to. All time is the given clock's, and states are worked out when somebody looks."""

from __future__ import annotations

import heapq
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

from adapters.base import (
    Accepted,
    Capabilities,
    EndReason,
    Layer,
    NativeId,
    Outcome,
    Refused,
    Report,
    Run,
    RunName,
    SiteState,
    StaleEpoch,
    Unknown,
)
from adapters.twin_runs import Behaviour, Held, Start, TwinClock, packed, rank
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

SIGTERM = 15


@dataclass
class EngineTwin:
    """One site's engine. `claims` is the site's storage as far as claims go, shared with whoever creates claims there."""

    clock: TwinClock
    pools: Sequence[Pool]
    capabilities: Capabilities = Capabilities(unique_names=True, refuses_stale_epochs=True, settling_s=0.0)
    behave: Callable[[Run], Behaviour] = lambda run: Behaviour()
    claims: MutableMapping[str, str] = field(default_factory=dict)
    forgets_after: float = float("inf")
    is_whole: bool = True
    starts: list[Start] = field(default_factory=list)
    life: int = 1
    failing: frozenset[Layer] = frozenset()
    """Layers whose probe fails; with the first two every other call does too."""

    def __post_init__(self) -> None:
        self._runs: dict[NativeId, Held] = {}
        self._by_name: dict[RunName, list[NativeId]] = {}
        self._gone: set[RunName] = set()
        self._printed: dict[RunName, bytes] = {}
        """What forgotten runs printed, if anything: sites keep output beyond the engine's own memory of a run."""
        self._queued: dict[NativeId, None] = {}
        self._over: dict[NativeId, float] = {}
        self._ends: list[tuple[float, NativeId]] = []
        self._late: list[tuple[float, int, Run, Behaviour]] = []
        self._free: dict[str, list[Resources]] = {pool.name: [pool.per_node] * pool.nodes for pool in self.pools}
        self._empty = {pool.name: pool.empty for pool in self.pools}
        self._last_id = 0
        self._epochs: dict[str, int] = {}

    def guard(self, epoch: int, federation: str = "") -> None:
        """Raise StaleEpoch for an owner that is not the federation's newest; with no federation named, the newest of all."""
        newest = max(self._epochs.get(federation, 0), self._epochs.get("", 0))
        if self.capabilities.refuses_stale_epochs and epoch < newest:
            raise StaleEpoch(f"epoch {epoch} is over: the site has served {newest}")
        self._epochs[federation] = max(newest, epoch)

    def reserve(self) -> NativeId:
        """An id for a run to come."""
        self._last_id += 1
        return str(self._last_id)

    def submit(self, run: Run) -> Outcome:
        """Take one run. One whose id was used before has no effect."""
        known = self._by_name.get(run.name)
        if self.capabilities.reserves and run.native_id is None:
            return Refused("it has no id")
        if self.capabilities.reserves and run.native_id in self._runs:
            return Accepted(self._runs[run.native_id].native_id)
        if self.capabilities.unique_names:
            if run.name in self._gone:
                return Refused("this name was used and forgotten")
            if known:
                held = self._runs[known[0]]
                return Accepted(held.native_id) if held.run == run else Refused("another run has this name")
        behaviour = self.behave(run)
        if behaviour.refusal:
            return Refused(behaviour.refusal)
        if run.pool not in self._free:
            return Refused(f"there is no pool {run.pool}")
        if self._empty[run.pool].fit(run.per_task) < run.tasks:
            return Refused(f"pool {run.pool} never holds {run.tasks} tasks of {run.per_task}")
        if behaviour.arrives_after is not None:
            self._last_id += 1
            heapq.heappush(self._late, (self.clock.now() + behaviour.arrives_after, self._last_id, run, behaviour))
            return Unknown("no answer in time")
        return Accepted(self._accept(run, behaviour, self.clock.now()))

    def advance(self) -> None:
        """Bring every run to where it is now, in the order of time."""
        now = self.clock.now()
        while True:
            next_end = self._ends[0][0] if self._ends else float("inf")
            next_late = self._late[0][0] if self._late else float("inf")
            at = min(next_end, next_late)
            if at > now:
                break
            if next_end <= next_late:
                _, native_id = heapq.heappop(self._ends)
                if native_id in self._runs and self._runs[native_id].ends == at:
                    self._finish(self._runs[native_id], at)
                    self._start_waiting(at)
            else:
                _, _, run, behaviour = heapq.heappop(self._late)
                if not (self.capabilities.unique_names and (run.name in self._gone or run.name in self._by_name)):
                    self._accept(run, behaviour, at)
        if self.forgets_after < float("inf"):
            for native_id in [native_id for native_id, at in self._over.items() if at + self.forgets_after <= now]:
                self._forget(native_id)

    def reports(self, federation: str) -> dict[RunName, Report]:
        """What is listed of a federation; of several runs of one name that which matters most: running, over, queued."""
        self.advance()
        found: dict[RunName, Report] = {}
        for held in self._runs.values():
            if held.run.federation != federation:
                continue
            other = found.get(held.run.name)
            if other is None or rank(held.report) > rank(other):
                found[held.run.name] = held.report
        return found

    def foreign(self, federation: str) -> tuple[RunName, ...]:
        """Runs of other federations whose names begin as those of this one do."""
        prefix = f"{federation}-"
        others = (held.run for held in self._runs.values() if held.run.federation != federation)
        return tuple(run.name for run in others if run.name.startswith(prefix))

    def rooms(self, federation: str) -> dict[str, Room]:
        """By pool, what is free and what runs of the federation hold."""
        free = {pool: list(nodes) for pool, nodes in self._free.items()}
        for held in self._runs.values():
            if held.nodes and held.run.federation == federation:
                for node, tasks in held.nodes:
                    free[held.run.pool][node] += held.run.per_task * tasks
        return {pool: Room.of((node, 1) for node in nodes) for pool, nodes in free.items()}

    def cancel(self, name: RunName, federation: str) -> None:
        """Stop every run of that name and federation. One that is still to arrive is not reached."""
        self.advance()
        for native_id in self._by_name.get(name, ()):
            held = self._runs[native_id]
            if not held.report.state.is_over and held.run.federation == federation:
                has_started = held.report.started_at is not None
                self._end(held, self.clock.now(), SiteState.CANCELLED, signal=SIGTERM if has_started else None)
        self._start_waiting(self.clock.now())

    def forget(self, name: RunName, federation: str) -> None:
        """Clean up runs of that name and federation that are over."""
        for native_id in list(self._by_name.get(name, ())):
            held = self._runs[native_id]
            if held.report.state.is_over and held.run.federation == federation:
                self._forget(native_id)

    def restart(self, loses_since: float = float("inf"), reuses_ids: bool = False) -> None:
        """The engine died and came again: runs accepted at or after `loses_since` are gone without having started anew."""
        self.advance()
        self.life += 1
        for native_id in [held.native_id for held in self._runs.values() if held.accepted >= loses_since]:
            self._release(self._runs[native_id])
            self._drop(native_id)
            if reuses_ids:
                self._last_id -= 1
        self._start_waiting(self.clock.now())

    def start_again(self, name: RunName) -> None:
        """The engine itself starts a running run once more, as after the loss of a node: its claim is there, so it leaves."""
        self.advance()
        for native_id in self._by_name.get(name, ()):
            held = self._runs[native_id]
            if held.report.state is SiteState.RUNNING:
                self._end(held, self.clock.now(), SiteState.FAILED, reason=EndReason.CLAIMED, message="its claim exists")
        self._start_waiting(self.clock.now())

    def output(self, name: RunName) -> bytes:
        """What the run has printed: all of it once it runs."""
        for native_id in self._by_name.get(name, ()):
            held = self._runs[native_id]
            if held.report.started_at is not None:
                return held.behaviour.output
        return self._printed.get(name, b"")

    def is_live(self, name: RunName) -> bool:
        """Whether a run of that name is queued or running."""
        self.advance()
        return any(not self._runs[native_id].report.state.is_over for native_id in self._by_name.get(name, ()))

    def _accept(self, run: Run, behaviour: Behaviour, at: float) -> NativeId:
        native_id = run.native_id or self.reserve()
        self._runs[native_id] = Held(run, native_id, behaviour, at, Report(run.name, native_id, SiteState.QUEUED, pool=run.pool))
        self._by_name.setdefault(run.name, []).append(native_id)
        if not self._start(self._runs[native_id], at):
            self._queued[native_id] = None
        return native_id

    def _start(self, held: Held, at: float) -> bool:
        """Start it if its pool has room; False when it must wait."""
        run = held.run
        nodes = packed(run, self._free[run.pool])
        if nodes is None:
            return False
        if run.claim:
            if run.claim in self.claims:
                held.report = replace(
                    held.report, state=SiteState.FAILED, ended_at=at, reason=EndReason.CLAIMED, message="its claim exists"
                )
                self._over[held.native_id] = at
                return True
            self.claims[run.claim] = held.native_id
        self.starts.append(Start(run.name, held.native_id, at))
        held.report = Report(run.name, held.native_id, SiteState.RUNNING, at, pool=run.pool)
        seconds = held.behaviour.seconds if run.walltime_s is None else min(held.behaviour.seconds, run.walltime_s)
        held.ends = at + seconds
        if seconds <= 0:
            self._finish(held, at)  # takes no time, so it takes no room
            return True
        held.nodes = nodes
        for node, tasks in nodes:
            self._free[run.pool][node] -= run.per_task * tasks
        heapq.heappush(self._ends, (held.ends, held.native_id))
        return True

    def _finish(self, held: Held, at: float) -> None:
        """It ran its time, or into its walltime."""
        behaviour, walltime = held.behaviour, held.run.walltime_s
        if walltime is not None and behaviour.seconds > walltime:
            self._end(held, at, SiteState.FAILED, signal=SIGTERM, reason=EndReason.WALLTIME, message="walltime is over")
        elif behaviour.exit_code or behaviour.signal:
            code = None if behaviour.signal else behaviour.exit_code
            self._end(held, at, SiteState.FAILED, code, behaviour.signal, EndReason.PROGRAM_FAILED)
        else:
            self._end(held, at, SiteState.SUCCEEDED, 0)

    def _end(
        self,
        held: Held,
        at: float,
        state: SiteState,
        exit_code: int | None = None,
        signal: int | None = None,
        reason: EndReason | None = None,
        message: str = "",
    ) -> None:
        self._queued.pop(held.native_id, None)
        self._release(held)
        began = held.report.started_at
        held.report = Report(held.run.name, held.native_id, state, began, at, exit_code, signal, reason, message, held.run.pool)
        held.ends = float("inf")
        self._over[held.native_id] = at

    def _start_waiting(self, at: float) -> None:
        """Start what waits and now has room, in the order it came."""
        for native_id in list(self._queued):
            if self._start(self._runs[native_id], at):
                self._queued.pop(native_id, None)

    def _release(self, held: Held) -> None:
        for node, tasks in held.nodes:
            self._free[held.run.pool][node] += held.run.per_task * tasks
        held.nodes = ()

    def _forget(self, native_id: NativeId) -> None:
        name = self._runs[native_id].run.name
        self._gone.add(name)
        if printed := self.output(name):
            self._printed[name] = printed
        self._drop(native_id)

    def _drop(self, native_id: NativeId) -> None:
        held = self._runs.pop(native_id)
        self._over.pop(native_id, None)
        self._queued.pop(native_id, None)
        ids = self._by_name[held.run.name]
        ids.remove(native_id)
        if not ids:
            del self._by_name[held.run.name]
