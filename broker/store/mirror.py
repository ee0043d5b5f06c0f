"""All records of a federation in memory: one paged read, then a watch.

The watch may lag. Own writes enter as soon as they are acknowledged, never over something newer; a deletion that we know of
keeps older news of its key out until the watch has passed it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from broker.clock import Clock
from broker.store import codec
from broker.store.base import Batch, Behind, Compacted, Listing, Record, Removed, Store, StoreUnavailable, Written
from broker.store.keys import Keys

log = logging.getLogger(__name__)

RETRY_S = 0.2


@dataclass(slots=True)
class Entry:
    """A record in memory. `value` is None when its bytes could not be read; `error` then says why."""

    revision: int
    created: int
    raw: bytes
    value: Any
    error: str = ""
    has_more: bool = False
    """Whether the bytes hold fields of a newer broker, which the value has not."""


@dataclass(frozen=True, slots=True)
class Rewind:
    """The store was found at an earlier revision than had been seen: it was restored from a backup."""

    seen: int
    found: int


class Listener(Protocol):
    """Told of each change of an entry, after the mirror holds it; then once when a batch is through."""

    def on_change(self, kind: str, names: tuple[str, ...], entry: Entry | None) -> None:
        """`entry` is None when the record is gone."""

    def on_batch(self) -> None:
        """All of one revision, or of several, has been told."""


class Mirror:
    """The records below a federation's prefix, by key."""

    def __init__(self, store: Store, keys: Keys, clock: Clock) -> None:
        self.keys = keys
        self.revision = 0
        """Everything up to here has been seen."""
        self.entries: dict[str, Entry] = {}
        self.is_live = False
        """Whether a watch is running: false while lists and reconnects go on."""
        self.rewind: Rewind | None = None
        """Set when the store went back, until somebody has written that down: see `Members`."""
        self._rewinds = 0
        self._store = store
        self._clock = clock
        self._listener: Listener | None = None
        self._removed: dict[str, int] = {}
        """Keys of own deletions that the watch is yet to show, and their revisions: what it shows of them until then is old."""
        self._progress = asyncio.Condition()

    def listen(self, listener: Listener) -> None:
        """Tell `listener` from now on. One only: the world."""
        self._listener = listener

    async def run(self) -> None:
        """Follow the store for ever; what cannot be watched on is listed again."""
        while True:
            try:
                if not self.revision:
                    await self._list()
                await self._watch()
            except (Compacted, Behind):
                self.is_live = False
                await self._list_again()
            except StoreUnavailable as error:
                self.is_live = False
                log.warning("the watch ended and is resumed: %s", error)
                await self._clock.sleep(RETRY_S)

    async def reached(self, revision: int) -> None:
        """Wait until everything up to `revision` has been seen. Raises StoreUnavailable when the store goes back meanwhile."""
        rewinds = self._rewinds
        async with self._progress:
            await self._progress.wait_for(lambda: self.revision >= revision or self._rewinds != rewinds)
        if self._rewinds != rewinds:
            raise StoreUnavailable("the store was restored from a backup meanwhile")

    def enter(self, record: Record, value: Any, has_more: bool = False) -> None:
        """An own write was acknowledged. `value` is what the bytes hold, so that they need no decoding; `has_more` as in
        `Entry`."""
        if record.revision > self.revision:
            self._removed.pop(record.key, None)
            self._put(record, value, has_more)

    def erase(self, key: str, revision: int) -> None:
        """An own deletion was acknowledged."""
        if revision > self.revision:
            self._removed[key] = revision
            self._drop(key, revision)

    def settled(self) -> None:
        """A batch of own writes is through."""
        if self._listener:
            self._listener.on_batch()

    async def _list_again(self) -> None:
        while True:
            try:
                await self._list()
                return
            except StoreUnavailable as error:
                log.warning("the store cannot be read: %s", error)
                await self._clock.sleep(RETRY_S)

    async def _list(self) -> None:
        listing = await self._store.read(self.keys.prefix)
        if listing.revision < self.revision:
            self._go_back(listing)
        present = {record.key for record in listing.records}
        for key in [key for key, entry in self.entries.items() if key not in present and entry.revision <= listing.revision]:
            self._drop(key, listing.revision)
        self._take(listing.records)
        self._removed = {key: at for key, at in self._removed.items() if at > listing.revision}
        await self._advance(listing.revision)

    def _go_back(self, listing: Listing) -> None:
        """A linearizable read is behind what was seen: forget all that it does not hold as we have it."""
        log.error("the store is at revision %d, and %d was seen: it was restored", listing.revision, self.revision)
        seen = self.rewind.seen if self.rewind else 0
        self.rewind = Rewind(max(seen, self.revision), listing.revision)
        self._rewinds += 1
        self.revision = listing.revision
        self._removed.clear()
        held = {record.key: record for record in listing.records}
        for key, entry in list(self.entries.items()):
            record = held.get(key)
            if record is None or (record.revision, record.value) != (entry.revision, entry.raw):
                self._forget(key)

    async def _watch(self) -> None:
        async for batch in self._store.watch(self.keys.prefix, self.revision + 1):
            self.is_live = True
            self._apply(batch)
            await self._advance(batch.revision)
        raise StoreUnavailable("the watch ended")

    def _apply(self, batch: Batch) -> None:
        for event in batch.events:
            match event:
                case Written(record):
                    self._take((record,))
                case Removed(key, revision):
                    if self._removed.get(key, revision + 1) <= revision:
                        del self._removed[key]
                    self._drop(key, revision)

    def _take(self, records: Iterable[Record]) -> None:
        for record in records:
            entry = self.entries.get(record.key)
            if (entry and entry.revision >= record.revision) or self._removed.get(record.key, 0) > record.revision:
                continue
            self._put(record, None)

    async def _advance(self, revision: int) -> None:
        async with self._progress:
            self.revision = max(self.revision, revision)
            self._progress.notify_all()
        self.settled()

    def _put(self, record: Record, value: Any, has_more: bool = False) -> None:
        old = self.entries.get(record.key)
        if old and old.revision >= record.revision:
            return
        kind, names = self.keys.split(record.key)
        error = ""
        if value is None:
            try:
                value, has_more = codec.read(kind, record.value)
            except (codec.Unreadable, KeyError) as unreadable:
                error = str(unreadable)
                log.error("record %s cannot be read and is left alone: %s", record.key, error)
        created = record.created or (old.created if old else record.revision)
        entry = Entry(record.revision, created, record.value, value, error, has_more)
        self.entries[record.key] = entry
        if self._listener:
            self._listener.on_change(kind, names, entry)

    def _drop(self, key: str, revision: int) -> None:
        entry = self.entries.get(key)
        if entry is not None and entry.revision <= revision:
            self._forget(key)

    def _forget(self, key: str) -> None:
        del self.entries[key]
        if self._listener:
            self._listener.on_change(*self.keys.split(key), None)
