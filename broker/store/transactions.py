"""How a commit is done, the same for every store: packed into few transactions, sent, and its doubts settled.

What depends on the store is one try of one transaction; see `Transactor`. Three things make it more than a loop:

- Order. Changes that touch the same key go into transactions that follow each other; all others may fly at once.
- Losers. A transaction of many changes fails as a whole: what its keys hold now tells whose expectation failed; the others go
  again without them.
- Doubt. A transaction without an answer may have happened, or may yet happen. It is sent again, and a change whose expectation
  then fails counts as saved if its keys hold exactly what it wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.clock import Clock
from broker.store.base import (
    Change,
    Conflict,
    Delete,
    Expect,
    Fence,
    Fenced,
    Put,
    Record,
    Rejected,
    Result,
    Saved,
    StoreUnavailable,
)

MAX_CHANGE_OPERATIONS = 40
MAX_TRANSACTION_OPERATIONS = 60
"""etcd takes 128 operations and as many comparisons; beyond some 60 a transaction is no cheaper per write, only slower."""
MAX_TRANSACTION_BYTES = 1_000_000
"""Keys and values. etcd refuses requests above 1.5 MiB."""
IN_FLIGHT = 8
RETRY_S = 0.05


class Transactor(Protocol):
    """What a store brings."""

    async def transact(self, changes: Sequence[Change], fence: Fence | None) -> int | None:
        """One try to apply them all, together: the revision, or None when an expectation or the fence does not hold.
        Raises StoreUnavailable when the outcome is not known."""

    async def get(self, keys: Sequence[str]) -> Sequence[Record | None]:
        """As `Store.get`."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One call of `Store.commit`. Each of its transactions is tried for `timeout_s`."""

    transactor: Transactor
    clock: Clock
    timeout_s: float
    fence: Fence | None

    async def run(self, changes: Sequence[Change]) -> Sequence[Result]:
        """Results in the order of `changes`. Raises what `Store.commit` raises."""
        sizes = [size_of(change) for change in changes]
        results: list[Result | None] = [rejection(change, size) for change, size in zip(changes, sizes, strict=True)]
        for wave in in_order(changes):
            packs = pack([number for number in wave if results[number] is None], changes, sizes)
            if len(packs) == 1:
                await self._settle(packs[0], changes, results)
            else:
                await self._settle_all(packs, changes, results)
        return [result for result in results if result is not None]

    async def _settle_all(
        self, packs: Sequence[Sequence[int]], changes: Sequence[Change], results: list[Result | None]
    ) -> None:
        """Several transactions in flight; when one raises, the rest is not sent."""
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def settle(numbers: Sequence[int]) -> None:
            async with gate:
                await self._settle(numbers, changes, results)

        try:
            async with asyncio.TaskGroup() as group:
                for numbers in packs:
                    group.create_task(settle(numbers))
        except BaseExceptionGroup as failures:
            raise min(failures.exceptions, key=lambda failure: not isinstance(failure, Fenced)) from None

    async def _settle(self, numbers: Sequence[int], changes: Sequence[Change], results: list[Result | None]) -> None:
        """One transaction's changes, until each has its result."""
        deadline = self.clock.boottime() + self.timeout_s
        is_doubtful = False
        while numbers:
            try:
                revision = await self.transactor.transact([changes[number] for number in numbers], self.fence)
            except StoreUnavailable:
                if self.clock.boottime() + RETRY_S >= deadline:
                    raise
                is_doubtful = True
                await self.clock.sleep(RETRY_S)
                continue
            if revision is not None:
                saved = Saved(revision)
                for number in numbers:
                    results[number] = saved
                return
            for number, result in (await self._judge(numbers, changes, is_doubtful)).items():
                results[number] = result
            numbers = [number for number in numbers if results[number] is None]
            if numbers and self.clock.boottime() >= deadline:
                raise StoreUnavailable("others keep changing the same keys")

    async def _judge(self, numbers: Sequence[int], changes: Sequence[Change], is_doubtful: bool) -> Mapping[int, Result]:
        """Why a transaction failed: a result for each change that cannot go again. Raises Fenced."""
        keys = list(dict.fromkeys(operation.key for number in numbers for operation in changes[number]))
        if self.fence:
            keys.append(self.fence.key)
        held = dict(zip(keys, await self.transactor.get(keys), strict=True))
        if self.fence:
            check_fence(self.fence, held[self.fence.key])
        results: dict[int, Result] = {}
        for number in numbers:
            failed = first_failed(changes[number], held)
            if failed is not None:
                stored = stored_at(changes[number], held) if is_doubtful else None
                results[number] = Conflict(failed) if stored is None else Saved(stored)
        return results


def size_of(change: Change) -> int:
    """Bytes of its keys and values. Raises ValueError for a change that writes a key twice."""
    size = 0
    for operation in change:
        size += len(operation.key) + (len(operation.value) if isinstance(operation, Put) else 0)
    if len(change) > 1:
        written = [operation.key for operation in change if not isinstance(operation, Expect)]
        if len(set(written)) < len(written):
            raise ValueError(f"a change writes a key twice: {sorted(written)}")
    return size


def rejection(change: Change, size: int) -> Rejected | None:
    """Why no store takes a change of `size` bytes; None for one that is not too large."""
    if len(change) <= MAX_CHANGE_OPERATIONS and size <= MAX_TRANSACTION_BYTES:
        return None
    most = f"{MAX_CHANGE_OPERATIONS} and {MAX_TRANSACTION_BYTES} are the most"
    return Rejected(f"a change of {len(change)} operations and {size} bytes is too large: {most}")


def in_order(changes: Sequence[Change]) -> Sequence[Sequence[int]]:
    """The changes' numbers in waves: within a wave no change writes what another touches; each wave waits for the one before."""
    waves: list[list[int]] = []
    next_read: dict[str, int] = {}
    next_write: dict[str, int] = {}
    for number, change in enumerate(changes):
        wave = 0
        for operation in change:
            after = next_read if isinstance(operation, Expect) else next_write
            wave = max(wave, after.get(operation.key, 0))
        for operation in change:
            next_write[operation.key] = max(next_write.get(operation.key, 0), wave + 1)
            if not isinstance(operation, Expect):
                next_read[operation.key] = wave + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(number)
    return waves


def pack(numbers: Iterable[int], changes: Sequence[Change], sizes: Sequence[int]) -> Sequence[Sequence[int]]:
    """Fill transactions up to the limits."""
    packs: list[list[int]] = []
    operations = size = 0
    for number in numbers:
        operations += len(changes[number])
        size += sizes[number]
        if not packs or operations > MAX_TRANSACTION_OPERATIONS or size > MAX_TRANSACTION_BYTES:
            packs.append([])
            operations, size = len(changes[number]), sizes[number]
        packs[-1].append(number)
    return packs


def check_fence(fence: Fence, held: Record | None) -> None:
    """Raise Fenced unless the fence's key is the one that its holder created."""
    if held is None:
        raise Fenced(f"{fence.key} is gone")
    if held.created != fence.created:
        raise Fenced(f"{fence.key} is another's: created at {held.created}, ours at {fence.created}")


def first_failed(change: Change, held: Mapping[str, Record | None]) -> str | None:
    """The key of the first expectation that does not hold."""
    for operation in change:
        expected = operation.revision if isinstance(operation, Expect) else operation.expect
        if expected is not None and expected != _revision(held[operation.key]):
            return operation.key
    return None


def stored_at(change: Change, held: Mapping[str, Record | None]) -> int | None:
    """The revision at which exactly this change was stored, as far as its keys tell; None if they tell otherwise.

    Its puts were one transaction, so they share a revision that is not the one expected. Where it only deletes, the revision is
    not known and 0 is returned.
    """
    revisions = set()
    has_written = False
    for operation in change:
        record = held[operation.key]
        if isinstance(operation, Put):
            if record is None or record.value != operation.value or record.revision == operation.expect:
                return None
            revisions.add(record.revision)
        elif isinstance(operation, Delete):
            if record is not None:
                return None
            has_written = True
    if len(revisions) > 1 or not (revisions or has_written):
        return None
    return revisions.pop() if revisions else 0


def _revision(record: Record | None) -> int:
    return record.revision if record else 0

