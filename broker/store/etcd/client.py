"""The store on etcd."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence

from broker.clock import Clock
from broker.store.base import (
    Batch,
    Change,
    Compacted,
    Delete,
    Expect,
    Fence,
    Fenced,
    Listing,
    Put,
    Record,
    Result,
    StoreStatus,
    StoreUnavailable,
)
from broker.store.etcd import rpc_pb2 as rpc
from broker.store.etcd.channel import (
    ALARM,
    COMPACT,
    LEASE_GRANT,
    LEASE_REVOKE,
    MEMBER_LIST,
    RANGE,
    STATUS,
    TXN,
    Access,
    Connection,
    TlsSettings,
)
from broker.store.etcd.lease import EtcdLease
from broker.store.etcd.watch import watch
from broker.store.transactions import Commit

PAGE = 2000
"""Keys in one reply of a listing."""
READS_PER_TRANSACTION = 100
LISTING_TRIES = 5


class EtcdStore:
    """A `Store` on an etcd cluster."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        clock: Clock,
        tls: TlsSettings | None = None,
        user: str | None = None,
        password: str | None = None,
        timeout_s: float = 5.0,
        silence_s: float = 2.0,
    ) -> None:
        """`timeout_s` bounds each request with its retries; a watch may be silent for `silence_s` before it is asked for a sign
        of life. Raises ValueError for endpoints that make no sense."""
        self._access = Access.of(endpoints, tls, user, password)
        self._connection = Connection(self._access, timeout_s, clock)
        self._clock = clock
        self._timeout_s = timeout_s
        self._silence_s = silence_s
        self._leases: list[EtcdLease] = []

    async def read(self, prefix: str) -> Listing:
        """See `Store.read`."""
        for _ in range(LISTING_TRIES):
            try:
                return await self._read_pages(prefix)
            except Compacted:
                continue  # its revision went away between two pages: begin again at a newer one
        raise StoreUnavailable(f"{prefix}: compaction overtook {LISTING_TRIES} listings")

    async def get(self, keys: Sequence[str]) -> Sequence[Record | None]:
        """See `Store.get`."""
        chunks = [keys[start : start + READS_PER_TRANSACTION] for start in range(0, len(keys), READS_PER_TRANSACTION)]
        return [record for chunk in chunks for record in await self._get(chunk)]

    async def commit(self, changes: Sequence[Change], fence: Fence | None = None) -> Sequence[Result]:
        """See `Store.commit`."""
        return await Commit(self, self._clock, self._timeout_s, fence).run(changes)

    async def transact(self, changes: Sequence[Change], fence: Fence | None) -> int | None:
        """See `Transactor.transact`."""
        reply = await self._connection.call(TXN, transaction(changes, fence))
        return reply.header.revision if reply.succeeded else None

    def watch(self, prefix: str, revision: int) -> AsyncIterator[Batch]:
        """See `Store.watch`."""
        return watch(self._connection, below(prefix), revision, self._silence_s)

    async def lease(self, ttl_s: float) -> EtcdLease:
        """See `Store.lease`. etcd counts whole seconds, and has a least (2 s with its default settings)."""
        request = rpc.LeaseGrantRequest(TTL=math.ceil(ttl_s))
        sent = self._clock.boottime()
        # Asked again after silence, an earlier grant may stay behind unused: it runs out. `sent` is then only too early.
        reply = await self._connection.ask(LEASE_GRANT, request)
        lease = EtcdLease(reply.ID, reply.TTL, sent, self._access, self._clock, self._revoke)
        self._leases.append(lease)
        return lease

    async def status(self) -> StoreStatus:
        """See `Store.status`."""
        status, alarms, members = await asyncio.gather(
            self._connection.ask(STATUS, rpc.StatusRequest()),
            self._connection.ask(ALARM, rpc.AlarmRequest()),
            self._connection.ask(MEMBER_LIST, rpc.MemberListRequest()),
        )
        has_nospace = any(alarm.alarm == rpc.AlarmMember.NOSPACE for alarm in alarms.alarms)
        return StoreStatus(status.version, status.db_size, status.db_size_quota, has_nospace, len(members.members))

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        try:
            await self._connection.ask(COMPACT, rpc.CompactionRequest(revision=revision))
        except Compacted:
            return

    async def close(self) -> None:
        """Close connections; leases not closed run out."""
        for lease in self._leases:
            await lease.stop()
        await self._connection.close()

    async def _read_pages(self, prefix: str) -> Listing:
        start, end = below(prefix)
        records: list[Record] = []
        revision = 0
        while True:
            request = rpc.RangeRequest(key=start, range_end=end, limit=PAGE, revision=revision)
            page = await self._connection.ask(RANGE, request)
            revision = revision or page.header.revision
            records.extend(_record(kv) for kv in page.kvs)
            if not page.more:
                return Listing(revision, records)
            start = page.kvs[-1].key + "\0"

    async def _get(self, keys: Sequence[str]) -> Sequence[Record | None]:
        request = rpc.TxnRequest()
        for key in keys:
            request.success.add().request_range.key = key
        reply = await self._connection.ask(TXN, request)
        found = (each.response_range.kvs for each in reply.responses)
        return [_record(kvs[0]) if kvs else None for kvs in found]

    async def _revoke(self, lease: int) -> None:
        try:
            await self._connection.ask(LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=lease))
        except Fenced:
            return  # it ran out before


def transaction(changes: Sequence[Change], fence: Fence | None) -> rpc.TxnRequest:
    """All changes or nothing. Filled in place: that costs a third of building from parts."""
    request = rpc.TxnRequest()
    compares, operations = request.compare, request.success
    if fence:
        compares.add(target=rpc.Compare.CREATE, key=fence.key, create_revision=fence.created)
    for change in changes:
        for operation in change:
            expected = operation.revision if isinstance(operation, Expect) else operation.expect
            if expected is not None:
                compare = compares.add()
                compare.target = rpc.Compare.MOD
                compare.key = operation.key
                compare.mod_revision = expected
            if isinstance(operation, Put):
                put = operations.add().request_put
                put.key = operation.key
                put.value = operation.value
                if operation.lease:
                    put.lease = operation.lease
            elif isinstance(operation, Delete):
                operations.add().request_delete_range.key = operation.key
    return request


def below(prefix: str) -> tuple[str, str]:
    """The first key below `prefix`, and the first that is not. Keys are ASCII."""
    return (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)) if prefix else ("\0", "\0")


def _record(kv: rpc.KeyValue) -> Record:
    return Record(kv.key, kv.value, kv.mod_revision, kv.create_revision)
