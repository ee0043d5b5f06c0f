"""The sites of a simulated world: engines and storage that all brokers share, and each broker's faulty way to them.

What a run does is in its command: `run <seconds> <exit code> <leaves outputs>`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from adapters.base import (
    Call,
    EndReason,
    Observation,
    Outcome,
    Report,
    Run,
    RunName,
    RunRef,
    SiteState,
    StaleEpoch,
    Unknown,
    Unreachable,
)
from adapters.twin import Behaviour, EngineTwin, TwinAdapter
from adapters.twin_runs import rank
from broker.sites.layout import replica_path
from broker.sites.mover import Brought, Order
from broker.storage import StorageError, Tree
from tests.faults.draw import Make
from tests.faults.faults import Schedule, Wrong
from tests.faults.trace import Trace
from tests.faults.virtual import SimClock
from topology.site import Site

FEDERATION = "sim"
OF_BROKER = "broker"
LATENCY_S = 0.01
SIZE_BYTES = 2**30


def tree_of(content: str) -> Tree:
    """What lies where a run or a copy left it."""
    return Tree(SIZE_BYTES, f"sha256:{content}")


class Engine(EngineTwin):
    """A twin that tells of what its programs do. `on_start(site, run)`, `on_forget(site, run)`."""

    def __init__(
        self,
        clock: SimClock,
        site: Site,
        make: Make,
        schedule: Schedule,
        trees: dict[tuple[str, str], Tree],
        on_start: Callable[[str, RunName], None],
        on_forget: Callable[[str, RunName], None],
    ) -> None:
        super().__init__(clock, site.pools, make.can, self._behave)
        self.has_claims = make.has_claims
        self._starts_after = make.starts_after_s
        self.site = site.name
        self._schedule = schedule
        self._trees = trees
        self._on_start = on_start
        self._on_forget = on_forget

    def advance(self) -> None:
        """As the twin's; what has waited long enough to be scheduled starts, if there is room."""
        super().advance()
        self._start_waiting(self.clock.now())

    def running(self) -> list[RunName]:
        """Names of the programs that run now, as often as they do."""
        self.advance()
        ours = (held for held in self._runs.values() if held.run.federation == FEDERATION)
        return [held.run.name for held in ours if held.report.state is SiteState.RUNNING]

    def has_started(self, name: RunName) -> bool:
        """Whether it still knows of a run of that name that passed its claim."""
        self.advance()
        return any(held.run.name == name and held.report.started_at is not None for held in self._runs.values())

    def reports(self, federation: str) -> dict[RunName, Report]:
        """As the twin's, without what was accepted within the settling time, or is mislaid."""
        self.advance()
        since = self.clock.now() - self.capabilities.settling_s
        mislays = self._schedule.now(Wrong.SITE_MISLAYS, self.site, asyncio.get_running_loop().time())
        found: dict[RunName, Report] = {}
        for held in self._runs.values():
            name, report = held.run.name, held.report
            is_hidden = held.accepted > since or (mislays and report.state is SiteState.QUEUED)
            if held.run.federation == federation and not is_hidden and (name not in found or rank(report) > rank(found[name])):
                found[name] = report
        return found

    def crowd(self, seconds: float) -> None:
        """Other people's work, one run for each node, as large as it."""
        for pool in self.pools:
            for number in range(pool.nodes):
                name, command = f"others-{self.clock.now()}-{number}", ("run", str(seconds), "0", "no")
                self.submit(Run(name, "others", name, "others", 1, pool.per_node, pool.name, command))

    def lose_nodes(self, chance: float) -> None:
        """Running runs end with their nodes."""
        self.advance()
        for held in list(self._runs.values()):
            if held.report.state is SiteState.RUNNING and self._schedule.dice.random() < chance:
                self._end(held, self.clock.now(), SiteState.FAILED, reason=EndReason.NODE_LOST, message="its node is gone")

    def forget(self, name: RunName, federation: str) -> None:
        """A broker says that the end is stored."""
        self._on_forget(self.site, name)
        super().forget(name, federation)

    def _behave(self, run: Run) -> Behaviour:
        now = asyncio.get_running_loop().time()
        if self._schedule.now(Wrong.SITE_REFUSES, self.site, now):
            return Behaviour(refusal="it does not like the look of it")
        _, seconds, exit_code, _ = run.command
        return Behaviour(float(seconds), int(exit_code))

    def _start(self, held: object, at: float) -> bool:
        if at < held.accepted + self._starts_after:
            return False
        before = len(self.starts)
        if not self.has_claims:
            self.claims.pop(held.run.claim, None)
        has_gone = super()._start(held, at)
        if len(self.starts) > before and held.run.federation == FEDERATION:
            self._on_start(self.site, self.starts[before].name)
        return has_gone

    def _finish(self, held: object, at: float) -> None:
        super()._finish(held, at)
        run, report = held.run, held.report
        if report.state is SiteState.SUCCEEDED and run.command[3] == "yes":
            self._trees.update({(self.site, path): tree_of(run.name) for path in run.outputs.values()})


class FaultyAdapter(TwinAdapter):
    """One broker's adapter to a site. A call may also have its effect when its caller has given up, or died."""

    def __init__(self, engine: Engine, broker: str, schedule: Schedule, trace: Trace) -> None:
        super().__init__(engine, FEDERATION, self._pass)
        self._engine = engine
        self._from = f"{engine.site}@{broker}"
        self._schedule = schedule
        self._trace = trace

    async def submit(self, runs: Sequence[Run], call: Call) -> dict[RunName, Outcome]:
        """See `SiteAdapter.submit`."""
        self._trace.add(f"{self._engine.site}: submit {[run.name for run in runs]}, epoch {call.epoch}")
        loop = asyncio.get_running_loop()
        late = self._schedule.takes(Wrong.SITE_LATE, self._engine.site, loop.time())
        if late:
            loop.call_later(late, self._arrive, tuple(runs), call.epoch)
            if self._schedule.dice.random() < 0.5:
                return {run.name: Unknown("no answer in time") for run in runs}
            await asyncio.sleep(call.timeout_s * 2)
            raise Unreachable("no answer")
        return dict(await super().submit(runs, call))

    async def observe(self, known: Sequence[RunRef], call: Call) -> Observation:
        """See `SiteAdapter.observe`."""
        seen = await super().observe(known, call)
        partial = self._schedule.now(Wrong.SITE_PARTIAL, self._engine.site, asyncio.get_running_loop().time())
        if partial:
            kept = {name: report for name, report in seen.reports.items() if self._schedule.dice.random() < 0.5}
            seen = replace(seen, is_whole=False, reports=kept)
        if self._trace.is_on:
            states = ", ".join(f"{name} {report.state}" for name, report in seen.reports.items())
            self._trace.add(f"{self._engine.site}: listed {states or 'nothing'}{'' if seen.is_whole else ' (not whole)'}")
        return seen

    async def cancel(self, runs: Sequence[RunRef], call: Call) -> None:
        """See `SiteAdapter.cancel`."""
        self._trace.add(f"{self._engine.site}: cancel {[run.name for run in runs]}")
        await super().cancel(runs, call)

    def _arrive(self, runs: Sequence[Run], epoch: int) -> None:
        self._trace.add(f"{self._engine.site}: a late submit arrives, {[run.name for run in runs]}")
        try:
            self._engine.guard(epoch, self._federation)
        except StaleEpoch:
            return
        self._engine.advance()
        for run in runs:
            self._engine.submit(run)

    async def _pass(self, call: str, stage: str) -> None:
        site, schedule, now = self._engine.site, self._schedule, asyncio.get_running_loop().time()
        away = schedule.now(Wrong.SITE_AWAY, site, now) or schedule.now(Wrong.SITE_CUT, self._from, now)
        if away:
            await asyncio.sleep(away.seconds)
            raise Unreachable(f"{call}: no route to {site}")
        await asyncio.sleep(LATENCY_S * schedule.dice.random() + schedule.takes(Wrong.SITE_SLOW, site, now))
        if stage == "reply" and schedule.now(Wrong.SITE_REPLIES_LOST, site, now):
            await asyncio.sleep(LATENCY_S)
            raise Unreachable(f"{call}: the connection broke")


class SiteStorages:
    """One broker's way to the storage of all sites: its `Claims`, `Storage` and `Mover`."""

    def __init__(self, engines: dict[str, Engine], trees: dict[tuple[str, str], Tree], schedule: Schedule, trace: Trace) -> None:
        self._engines = engines
        self._trees = trees
        self._schedule = schedule
        self._trace = trace

    async def create(self, site: Site, path: str) -> bool:
        """See `Claims.create`."""
        await self._pass(site.name)
        engine = self._engines[site.name]
        engine.advance()
        holder = engine.claims.setdefault(path, OF_BROKER) if engine.has_claims else OF_BROKER
        self._trace.add(f"{site.name}: claim {path}: {'ours' if holder == OF_BROKER else 'the run has it'}")
        await self._pass(site.name)
        return holder == OF_BROKER

    async def measure(self, site: Site, path: str) -> Tree | None:
        """See `Storage.measure`."""
        await self._pass(site.name)
        self._engines[site.name].advance()
        return self._trees.get((site.name, path))

    async def check(self, site: Site, timeout_s: float, is_fresh: bool = False) -> None:
        """See `Storage.check`: what fails here are transfers."""

    async def bring(self, order: Order) -> Brought:
        """See `Mover.bring`."""
        await self._pass(order.target.name)
        loop = asyncio.get_running_loop()
        tree = self._trees.get((order.source.name, order.source_path))
        if tree is None:
            raise StorageError(f"nothing is at {order.source_path} of {order.source.name}")
        began = loop.time()
        await asyncio.sleep(tree.size_bytes / order.bytes_per_s)
        if self._schedule.now(Wrong.COPY_FAILS, order.target.name, loop.time()):
            raise StorageError("the copy broke off")
        await self._pass(order.target.name)
        self._trees[order.target.name, replica_path(order.dataset)] = tree
        self._trace.add(f"{order.target.name}: {order.dataset} arrived")
        return Brought(tree, tree.size_bytes, loop.time() - began)

    async def _pass(self, site: str) -> None:
        await asyncio.sleep(LATENCY_S * self._schedule.dice.random())
        away = self._schedule.now(Wrong.STORAGE_AWAY, site, asyncio.get_running_loop().time())
        if away:
            await asyncio.sleep(away.seconds)
            raise StorageError(f"the storage of {site} does not answer")
