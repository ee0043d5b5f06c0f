"""What callers send to be kept at a site: written below a name of its own, and a dataset only once it is whole."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Protocol

from broker.context import Context
from broker.documents.storage import TIMEOUT_S
from broker.errors import Fault, Invalid, TooMany
from broker.members import Right
from broker.sites.layout import upload_path, uploads_path
from broker.storage import Folder, StorageError, Tree
from broker.store.base import Conflict, Expect, StoreError
from broker.store.ledger import Erase
from broker.untar import untar
from broker.world import World
from topology.dataset import Dataset, Replica
from topology.site import Site

log = logging.getLogger(__name__)

AT_ONCE = 16
AT_ONCE_PER_SITE = 4
BUSY_S = 5.0
"""When to come again, where so many are under way."""
QUIET_S = 60.0
"""Callers that send nothing for so long are cut off."""
LONGEST_S = 12 * 3600.0
KEEP_S = 24 * 3600.0
"""What was begun longer ago than that, and belongs to no dataset, is swept: it was cut off, or its dataset was removed."""
SWEEP_S = 600.0


class Body(Protocol):
    """A request's body."""

    async def readany(self) -> bytes:
        """What there is; nothing at its end."""


class CutOff(Exception):
    """The body will not be read to its end."""


class Incoming:
    """A body as a thread reads it, piece by piece; no more is taken from the caller than is read."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._loop = asyncio.get_running_loop()
        self._rest = memoryview(b"")
        self._asked: Future[bytes] | None = None
        self._is_stopped = False

    def read(self, size: int) -> bytes:
        """At most so many bytes. Raises CutOff, and Invalid where the caller is silent for too long."""
        if not self._rest:
            if self._is_stopped:
                raise CutOff
            self._asked = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            try:
                self._rest = memoryview(self._asked.result())
            except CancelledError as error:
                raise CutOff from error
        found, self._rest = self._rest[:size], self._rest[size:]
        return bytes(found)

    async def _next(self) -> bytes:
        if self._is_stopped:
            raise CutOff
        try:
            async with asyncio.timeout(QUIET_S):
                return await self._body.readany()
        except TimeoutError as error:
            raise Invalid(faults=[Fault("body", f"nothing more of it came for {QUIET_S:g} s")]) from error
        except OSError as error:  # the connection's
            raise CutOff from error

    def stop(self) -> None:
        """Nobody waits for it any more. To be called in the loop."""
        self._is_stopped = True
        if self._asked:
            self._asked.cancel()


class Uploads:
    """Of one process, at the sites it owns."""

    def __init__(self, context: Context, owned: Callable[[], Mapping[str, Right]]) -> None:
        self._context = context
        self._owned = owned
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload")
        self._under_way: Counter[str] = Counter()

    async def take(self, site: Site, body: Body) -> tuple[str, Tree]:
        """Write the files of a tar archive at the site: the path they are at, and their sum. What is not whole is removed. Raises
        Invalid, TooLarge and TooMany; StorageError; and CutOff."""
        if self._under_way[site.name] >= AT_ONCE_PER_SITE or self._under_way.total() >= AT_ONCE:
            raise TooMany(f"so many uploads to {site.name} are under way that no more are taken just now", after_s=BUSY_S)
        now, loop = self._context.clock.now(), asyncio.get_running_loop()
        path = upload_path(self._context.settings.federation, f"{int(now):010d}-{secrets.token_hex(8)}")
        most_bytes = int(self._context.settings.max_upload_gib * 2**30)
        incoming, beats = Incoming(body), [loop.time()]

        def beat() -> None:
            beats[0] = loop.time()

        self._under_way[site.name] += 1
        work = loop.run_in_executor(self._threads, _written, site, incoming, path, most_bytes, beat)
        work.add_done_callback(lambda over: self._ended(site.name, over))
        try:
            async with asyncio.timeout(LONGEST_S):
                silent_s = QUIET_S + float(site.storage.options.get("timeout_s", TIMEOUT_S))
                while not work.done():
                    if loop.time() > beats[0] + silent_s:
                        raise StorageError(f"{site.storage.url} gives no answer: see that it is up and reached")
                    await asyncio.wait([work], timeout=1.0)
            return path, work.result()
        except TimeoutError as error:
            raise Invalid(faults=[Fault("body", f"takes more than {LONGEST_S / 3600:g} hours: send it in parts")]) from error
        finally:
            incoming.stop()

    def _ended(self, site: str, work: asyncio.Future[Tree]) -> None:
        self._under_way[site] -= 1
        if not work.cancelled():
            work.exception()  # nobody may be waiting for it any more

    async def remove(self, site: Site, path: str) -> None:
        """Take back what was written. Where that fails it is swept later."""
        with suppress(StorageError):
            await asyncio.get_running_loop().run_in_executor(self._threads, _removed, site, [path])

    async def run(self) -> None:
        """Sweep, for ever."""
        while True:
            await self._context.clock.sleep(SWEEP_S)
            await self.sweep()

    async def sweep(self) -> None:
        """Remove, at our sites, copies of temporary datasets that nobody needs any more, and uploads of no dataset."""
        for name, right in dict(self._owned()).items():
            site = self._context.world.sites.get(name)
            if site is None or self._context.world.is_halted:
                continue  # what came after the backup is in no record, and is not ours to remove before somebody has looked
            try:
                await self._sweep(site, right)
            except (StorageError, StoreError) as error:
                log.warning("%s cannot be swept now: %s", name, error)
            except Exception:
                log.exception("sweeping %s", name)
                self._context.metrics.bugs.labels("sweep").inc()

    def under_way(self, site: str) -> int:
        """How many a site is being sent."""
        return self._under_way[site]

    async def _sweep(self, site: Site, right: Right) -> None:
        context, loop = self._context, asyncio.get_running_loop()
        gone = []
        for replica, dataset in _expired(context, site.name):
            keys, revision = context.world.mirror.keys, context.world.revision
            key, of = keys.replica(replica.dataset, site.name), keys.dataset(dataset.id)
            (result,) = await context.ledger.commit([[Erase(key, revision(key)), Expect(of, revision(of))]], right.fence)
            if not isinstance(result, Conflict):
                gone.append(replica.path)
        kept = {at[site.name].path for at in context.world.replicas.values() if site.name in at}
        oldest = context.clock.now() - KEEP_S
        found = await loop.run_in_executor(self._threads, _left, site, context.settings.federation, oldest)
        paths = [*gone, *(path for path in found if path not in kept)]
        if paths:
            await loop.run_in_executor(self._threads, _removed, site, paths)
            log.info("%s: %d uploads and copies that nobody needs any more are removed", site.name, len(paths))

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_expired(context: Context, dataset: Dataset) -> bool:
    """Whether a dataset was meant for a time that has passed, and nobody is left to read it."""
    is_old = dataset.created_at < context.clock.now() - context.settings.keep_temporary_hours * 3600
    return dataset.is_temporary and is_old and not context.world.used_by.get(dataset.id)


def _expired(context: Context, site: str) -> list[tuple[Replica, Dataset]]:
    """The copies that a site has of such datasets."""
    world: World = context.world
    found = [dataset for dataset in world.datasets.values() if is_expired(context, dataset)]
    return [(at[site], dataset) for dataset in found if site in (at := world.replicas.get(dataset.id, {}))]


def _written(site: Site, incoming: Incoming, path: str, most_bytes: int, beat: Callable[[], None]) -> Tree:
    with closing(Folder(site.storage)) as folder:
        try:
            return untar(incoming, folder, path, most_bytes, beat)
        except BaseException:
            with suppress(StorageError):
                folder.remove(path)
            raise


def _left(site: Site, federation: str, oldest: float) -> list[str]:
    """Paths of all uploads that were begun before `oldest`."""
    with closing(Folder(site.storage)) as folder:
        names = folder.names(uploads_path(federation))
    return [upload_path(federation, name) for name in names if name[:10].isdecimal() and int(name[:10]) < oldest]


def _removed(site: Site, paths: list[str]) -> None:
    with closing(Folder(site.storage)) as folder:
        for path in paths:
            folder.remove(path)
