"""The engines that the contract is checked on: the twin in memory, and a real process engine."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from adapters.base import Call, Capabilities, Layer, Observation, Report, Run, SiteAdapter, SiteState
from adapters.kinds import open_adapter
from adapters.process.adapter import shut_down
from adapters.twin import Behaviour, EngineTwin, TwinAdapter
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

POOLS = (
    Pool("cpu", 2, Resources(4, 8)),
    Pool("gpu", 1, Resources(4, 8, (("a100", 2), ("h100", 1)))),
)
PATIENCE_S = 30.0
CALL = Call(epoch=5, timeout_s=20.0)
LONG_S = 3600.0


@dataclass(frozen=True)
class Does:
    """What the program of a run is to do: print, then take a while, then exit; or ignore SIGTERM."""

    seconds: float = 0.0
    exit_code: int = 0
    signal: int | None = None
    output: str = ""


class Kind(Protocol):
    """One engine under test."""

    name: str
    terminates_with: tuple[int | None, ...]
    """Signals that a cancelled run may be reported with."""

    def adapter(self, federation: str = "fed", pools: Sequence[Pool] = POOLS) -> SiteAdapter:
        """A new adapter to the same engine, as of another broker."""

    def program(self, name: str, does: Does) -> tuple[str, ...]:
        """The command of a run of this name that does so."""

    def claim(self, path: str) -> None:
        """Take a claim before the run does."""

    def has_claim(self, path: str) -> bool:
        """Whether somebody took it."""

    async def pause(self) -> None:
        """Let a little of the engine's time pass."""

    def broken(self, layer: Layer) -> Any:
        """An async context in which this layer fails; its value is the adapter to ask."""


class TwinKind:
    """The twin. Its time is a number."""

    name = "twin"
    terminates_with = (signal.SIGTERM, None)

    def __init__(self) -> None:
        self._now = 1_700_000_000.0
        self._does: dict[str, Does] = {}
        capabilities = Capabilities(unique_names=True, refuses_stale_epochs=True, settling_s=0.0)
        self.twin = EngineTwin(self, POOLS, capabilities, self._behave)

    def now(self) -> float:
        return self._now

    def adapter(self, federation: str = "fed", pools: Sequence[Pool] = POOLS) -> SiteAdapter:
        return TwinAdapter(self.twin, federation)

    def program(self, name: str, does: Does) -> tuple[str, ...]:
        self._does[name] = does
        return ("does", name)

    def claim(self, path: str) -> None:
        self.twin.claims[path] = "given up"

    def has_claim(self, path: str) -> bool:
        return path in self.twin.claims

    async def pause(self) -> None:
        self._now += 0.05

    @asynccontextmanager
    async def broken(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        self.twin.failing = frozenset({layer})
        yield self.adapter()

    def _behave(self, run: Run) -> Behaviour:
        does = self._does[run.command[1]]
        return Behaviour(does.seconds, does.exit_code, does.signal, does.output.encode())


class ProcessKind:
    """A daemon of its own below `folder`, started by the first call."""

    name = "process"
    terminates_with = (signal.SIGTERM, signal.SIGKILL)

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.storage = folder / "storage"
        self.storage.mkdir(parents=True)
        self.state = folder / "engine"
        self._settings = {"cancel_grace_s": 0.5, "state_dir": str(self.state), **settings}

    def site(self, pools: Sequence[Pool] = POOLS, **settings: Any) -> Site:
        engine = Engine("process", {**self._settings, **settings})
        return Site("ams", engine, tuple(pools), Storage(f"file://{self.storage}"))

    def adapter(self, federation: str = "fed", pools: Sequence[Pool] = POOLS) -> SiteAdapter:
        return open_adapter(self.site(pools), federation)

    def program(self, name: str, does: Does) -> tuple[str, ...]:
        end = f"kill -{does.signal} $$" if does.signal else f"exit {does.exit_code}"
        wait = f"sleep {does.seconds}; " if does.seconds else ""
        return ("sh", "-c", f"printf %s '{does.output}'; {wait}{end}")

    def claim(self, path: str) -> None:
        target = self.storage / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("given up by the broker\n")

    def has_claim(self, path: str) -> bool:
        return (self.storage / path).exists()

    async def pause(self) -> None:
        await asyncio.sleep(0.01)

    @property
    def pid(self) -> int:
        """Of the daemon that runs, or ran last."""
        return int((self.state / "daemon.pid").read_text().split()[0])

    def kill(self) -> None:
        """SIGKILL to the daemon; returns when it is gone."""
        handle = os.pidfd_open(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        _ended(handle)

    async def end(self) -> None:
        """Leave nothing running."""
        await shut_down(self.state)

    @asynccontextmanager
    async def broken(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        await self.adapter().probe(10)
        match layer:
            case Layer.REACH:
                self.kill()
                yield open_adapter(self.site(autostart=False), "fed")
            case Layer.LOGIN:
                async with _denying(self.storage / "denying.sock") as path:
                    yield open_adapter(self.site(socket=str(path)), "fed")
            case Layer.SCHEDULER:
                yield open_adapter(self.site(POOLS[:1], autostart=False), "fed")
            case Layer.STORAGE:
                away = self.storage.rename(self.storage.with_name("away"))
                try:
                    yield self.adapter()
                finally:
                    away.rename(self.storage)


@asynccontextmanager
async def _denying(path: Path) -> AsyncIterator[Path]:
    """A socket at which another user's engine listens."""

    async def deny(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"error":"denied","message":"this engine is another user\'s"}\n')
        writer.close()

    server = await asyncio.start_unix_server(deny, str(path))
    async with server:
        yield path


def _ended(handle: int) -> None:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    assert poller.poll(10_000)
    os.close(handle)


def a_run(kind: Kind, name: str = "j1", does: Does | None = None, **rest: Any) -> Run:
    """A run of one cpu whose program does nothing."""
    federation = rest.pop("federation", "fed")
    full = f"{federation}-{name}-a1"
    defaults: dict[str, Any] = {
        "tasks": 1,
        "per_task": Resources(1, 0.5),
        "pool": "cpu",
        "command": kind.program(full, does or Does()),
        "claim": f".fed/claims/{full}",
    }
    return Run(full, federation, name, "default", **{**defaults, **rest})


async def until(
    kind: Kind, adapter: SiteAdapter, holds: Callable[[Mapping[str, Report]], bool], call: Call = CALL
) -> Observation:
    """The first observation of which it holds; fails when there is none for too long."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        seen = await adapter.observe([], call)
        if holds(seen.reports):
            return seen
        assert time.monotonic() < deadline, seen.reports
        await kind.pause()


async def over(kind: Kind, adapter: SiteAdapter, *names: str) -> list[Report]:
    """Reports of these runs once all are over."""
    seen = await until(kind, adapter, lambda reports: all(name in reports and reports[name].state.is_over for name in names))
    return [seen.reports[name] for name in names]


async def running(kind: Kind, adapter: SiteAdapter, *names: str) -> Observation:
    """An observation in which these run."""

    def holds(reports: Mapping[str, Report]) -> bool:
        return all(name in reports and reports[name].state is SiteState.RUNNING for name in names)

    return await until(kind, adapter, holds)


def with_epoch(epoch: int) -> Call:
    """The call of another owner."""
    return replace(CALL, epoch=epoch)
