"""Real Slurm clusters under the contract: one by its commands, one with accounting by its REST daemon."""

from __future__ import annotations

import secrets
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh

from adapters.base import Capabilities, Layer, SiteAdapter
from adapters.commands import Completed, LocalCommands
from adapters.slurm.adapter import SlurmAdapter, files_of, open_slurm
from adapters.slurm.commandline import CommandLine
from adapters.slurm.files import CommandFiles
from adapters.slurm.rest import Rest
from adapters.slurm.settings import SlurmSettings
from broker.store.embedded import free_ports
from tests.contract.adapters import POOLS
from tests.contract.program_kind import ProgramKind
from tests.engines.running import running
from tests.engines.slurm.cluster import Cluster, missing, missing_newer, newer_tree
from topology.site import Engine, Site, Storage


class _SlurmKind(ProgramKind, ABC):
    """A cluster that all tests share; storage and federation are of each test alone."""

    is_real = True
    sleep = "exec sleep"  # a shell that waits for it would say that it was terminated
    gate_poll_s = 0.02
    terminates_with = (signal.SIGTERM, signal.SIGKILL, None)  # none: of a gang whose tasks srun was still to start
    time_step_s = 1.0
    patience_s = 60.0
    keeps_what_it_accepts = False
    capabilities: Capabilities

    @staticmethod
    def missing() -> str:
        return missing()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.federation = f"f{secrets.token_hex(4)}"
        self.cluster = self._cluster()
        for part in (folder, *folder.parents[:2]):
            part.chmod(0o755)

    def adapter(self, federation: str | None = None) -> SiteAdapter:
        return self._open(federation=federation)

    async def restart(self) -> None:
        """A kill before the state is saved loses jobs: `tests/engines/slurm/test_faults.py` shows it."""
        self.cluster.wait_saved()
        self.cluster.end("slurmctld", signal.SIGKILL)
        self.cluster.start_controller()

    @asynccontextmanager
    async def silent(self) -> AsyncIterator[None]:
        self.cluster.send("slurmctld", signal.SIGSTOP)
        try:
            yield
        finally:
            self.cluster.send("slurmctld", signal.SIGCONT)

    @asynccontextmanager
    async def broken(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        match layer:
            case Layer.SCHEDULER:
                self.cluster.end("slurmctld")
                try:
                    yield self._open()
                finally:
                    self.cluster.start_controller()
                    self.cluster.wait_idle()
            case Layer.STORAGE:
                with self.without_storage():
                    yield self._open()
            case _:
                async with self._no_way_in(layer) as adapter:
                    yield adapter

    async def end(self) -> None:
        self.cluster.end_jobs(self.federation)

    @property
    def site(self) -> Site:
        """The cluster as a site, whose settings are given apart."""
        return Site("ams", Engine("slurm"), POOLS, Storage(f"file://{self.storage}"))

    def _open(self, settings: Mapping[str, Any] | None = None, federation: str | None = None) -> SiteAdapter:
        model = SlurmSettings.model_validate(settings or self._settings())
        return open_slurm(self.site, model, federation or self.federation)

    @abstractmethod
    def _cluster(self) -> Cluster:
        """The cluster, started."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """Of the site, as a worked example would give them."""

    @abstractmethod
    def _no_way_in(self, layer: Layer) -> AbstractAsyncContextManager[SiteAdapter]:
        """While it lasts this layer fails, which is `REACH` or `LOGIN`, for the adapter that is given."""


class SlurmCliKind(_SlurmKind):
    """By sbatch, squeue and the others."""

    name = "slurm-cli"
    capabilities = Capabilities(settling_s=0.0)

    def counted(self) -> tuple[SiteAdapter, Callable[[], int]]:
        settings = SlurmSettings.model_validate(self._settings())
        commands = _CountingCommands(self.cluster.environment)
        files = CommandFiles(commands)
        return SlurmAdapter(CommandLine(commands), files, self.site, settings, self.federation), lambda: commands.requests

    def _cluster(self) -> Cluster:
        return alpha()

    def _settings(self) -> dict[str, Any]:
        return {"command": {"kind": "local", "env": dict(self.cluster.environment)}}

    @asynccontextmanager
    async def _no_way_in(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        if layer is Layer.REACH:
            yield self._open({"command": _ssh_to_nowhere(self.storage.parent)})
            return
        self.cluster.end("munged")
        try:
            yield self._open()
        finally:
            self.cluster.start_munge()


class SlurmRestKind(_SlurmKind):
    """By slurmrestd with a JWT; files are read at their path."""

    name = "slurm-rest"
    capabilities = Capabilities(history=True, settling_s=0.0)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._token = folder / "token"
        self.renew_token(86400)

    def renew_token(self, lifespan_s: int) -> None:
        """Put another token in the place of the last."""
        self._token.write_text(self.cluster.token(lifespan_s))

    def counted(self) -> tuple[SiteAdapter, Callable[[], int]]:
        settings = SlurmSettings.model_validate(self._settings())
        rest = _CountingRest(settings.rest)
        files = files_of(self.site, settings)
        return SlurmAdapter(rest, files, self.site, settings, self.federation), lambda: rest.requests

    def _cluster(self) -> Cluster:
        return beta()

    def _settings(self, **rest: Any) -> dict[str, Any]:
        given = {"url": self.cluster.url, "user": self.cluster.user, "token": {"file": str(self._token)}, **rest}
        return {"rest": given, "history": True}

    @asynccontextmanager
    async def _no_way_in(self, layer: Layer) -> AsyncIterator[SiteAdapter]:
        if layer is Layer.REACH:
            self.cluster.end("slurmrestd")
            try:
                yield self._open()
            finally:
                self.cluster.start_rest()
            return
        wrong = self.storage.parent / "wrong"
        wrong.write_text("no-token-of-theirs")
        yield self._open(self._settings(token={"file": str(wrong)}))


class SlurmNewerKind(SlurmRestKind):
    """By the newest dialect, of Slurm 24.11."""

    name = "slurm-newer"
    capabilities = Capabilities(settling_s=0.0)

    @staticmethod
    def missing() -> str:
        return missing_newer()

    def _cluster(self) -> Cluster:
        return gamma()

    def _settings(self, **rest: Any) -> dict[str, Any]:
        return {**super()._settings(**rest), "history": False}


class _CountingCommands(LocalCommands):
    """One that counts the commands it runs."""

    requests = 0

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        self.requests += 1
        return await super().run(argv, stdin=stdin, timeout_s=timeout_s)


class _CountingRest(Rest):
    """One that counts its requests."""

    requests = 0

    async def _ask_once(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        self.requests += 1
        return await super()._ask_once(method, path, body)


def _ssh_to_nowhere(folder: Path) -> dict[str, Any]:
    """A login node that is down."""
    key, hosts = folder / "key", folder / "known_hosts"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
    hosts.touch()
    (port,) = free_ports(1)
    given = {"host": "127.0.0.1", "port": port, "user": "nobody", "key": {"file": str(key)}, "known_hosts": str(hosts)}
    return {"kind": "ssh", **given}


def alpha() -> Cluster:
    """The cluster without accounting."""
    return running("slurm-alpha", lambda folder: _started(Cluster(folder, "alpha")))


def beta() -> Cluster:
    """The one with it."""
    return running("slurm-beta", lambda folder: _started(Cluster(folder, "beta", has_accounting=True)))


def gamma() -> Cluster:
    """Slurm 24.11, without accounting."""
    return running("slurm-gamma", lambda folder: _started(Cluster(folder, "gamma", tree=newer_tree())))


def _started(cluster: Cluster) -> Cluster:
    cluster.start()
    return cluster
