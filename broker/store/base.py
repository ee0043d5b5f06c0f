"""What the broker asks of its store. Two keep the contract: etcd, and the twin in memory for tests.

Revisions are etcd's: one number for the whole store, raised by every transaction that writes. A key's `revision` is that of
its last write (etcd's mod_revision), its `created` that of the write that made it (create_revision); 0 stands for absent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


class StoreError(Exception):
    """Base of what a store may raise."""


class StoreUnavailable(StoreError):
    """No answer in time: what was asked may or may not have happened. Read, then decide."""


class Fenced(StoreError):
    """The writer's ownership key is gone or another's, or the lease that a put hangs on is gone: it must stop acting as owner.
    Nothing of the batch's rest was written."""


class NoSpace(StoreError):
    """The store is over its quota and takes no more; nothing was written."""


class Behind(StoreUnavailable):
    """A watch was asked for what is yet to come: the member asked lags, or the store was restored and has gone back."""


class Compacted(StoreError):
    """The revision to watch from is gone: list again. `revision` is the oldest there is, 0 when not known."""

    def __init__(self, message: str = "", revision: int = 0) -> None:
        super().__init__(message)
        self.revision = revision


@dataclass(frozen=True, slots=True)
class Record:
    """A key as stored."""

    key: str
    value: bytes
    revision: int
    created: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write `value` if the key's revision is `expect` (0: absent); unconditionally when `expect` is None."""

    key: str
    value: bytes
    expect: int | None
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the key if its revision is `expect`; unconditionally when `expect` is None. Removing nothing is not an error."""

    key: str
    expect: int | None


@dataclass(frozen=True, slots=True)
class Expect:
    """Write nothing, but only go on if the key's revision is `revision` (0: absent)."""

    key: str
    revision: int


Operation = Put | Delete | Expect
Change = Sequence[Operation]
"""Operations that happen together or not at all. At most 40 of them."""


@dataclass(frozen=True, slots=True)
class Fence:
    """A right on which a write depends: the ownership key must have been created at `created`, the owner's epoch."""

    key: str
    created: int


@dataclass(frozen=True, slots=True)
class Saved:
    """The change is in the store, at this revision; 0 when it is not known (a deletion whose outcome was in doubt)."""

    revision: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """An expectation failed and nothing of the change was written. `key` names the first that failed."""

    key: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """No store takes a change of this size: nothing of it was written, and nothing ever will be. `reason` is for people."""

    reason: str


Result = Saved | Conflict | Rejected


@dataclass(frozen=True, slots=True)
class Written:
    """A key got a value."""

    record: Record


@dataclass(frozen=True, slots=True)
class Removed:
    """A key went away, at `revision`."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What happened up to and including `revision`, in order."""

    revision: int
    events: Sequence[Written | Removed]


@dataclass(frozen=True, slots=True)
class Listing:
    """All records below a prefix at one revision."""

    revision: int
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What operators and admission want to know. Sizes in bytes; `quota` 0 means unknown."""

    version: str
    size_bytes: int
    quota_bytes: int
    has_nospace_alarm: bool
    members: int


class Lease(Protocol):
    """A right that ends unless renewed. Renewed in the background while `heartbeat` was called lately."""

    id: int

    def valid_until(self) -> float:
        """The moment, on the clock's boottime, up to which the lease surely holds; counted from the moment of sending."""

    def heartbeat(self) -> None:
        """The event loop is alive: renew on."""

    async def close(self) -> None:
        """Revoke it, with all keys that hang on it."""


class Store(Protocol):
    """Every call has a deadline of its own and raises StoreUnavailable past it."""

    async def read(self, prefix: str) -> Listing:
        """All records below `prefix`, paged, at one revision; linearizable."""

    async def get(self, keys: Sequence[str]) -> Sequence[Record | None]:
        """Single records, in the order asked; linearizable."""

    async def commit(self, changes: Sequence[Change], fence: Fence | None = None) -> Sequence[Result]:
        """Apply independent changes, packed into few transactions, each guarded by the fence.

        Results are in the order of `changes`. A change whose outcome was unknown is sent again; if it turns out to be
        stored already (its keys hold exactly its values) it counts as saved. Changes of the same key happen in their order.
        One of more than 40 operations or 1 MB is rejected, and the others go on without it.
        Raises Fenced, NoSpace, StoreUnavailable; after a raise some changes may have been written. Raises ValueError, and
        writes nothing, for a change that writes a key twice.
        """

    def watch(self, prefix: str, revision: int) -> AsyncIterator[Batch]:
        """What happens below `prefix` from `revision` on; first an empty batch, which says that the watch stands. Raises
        Compacted, Behind when the store has not come to the revision before, and StoreUnavailable when the stream ends for
        whatever reason: silence is never taken for calm."""

    async def lease(self, ttl_s: float) -> Lease:
        """A new lease, renewed in the background."""

    async def status(self) -> StoreStatus:
        """Version, size and alarms."""

    async def compact(self, revision: int) -> None:
        """Forget history before `revision`. Already forgotten is not an error."""

    async def close(self) -> None:
        """Give back connections."""
