"""A lease kept alive from a thread of its own, so that a busy event loop does not lose it, and a stuck one does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import grpc

from broker.clock import Clock
from broker.store.etcd import rpc_pb2 as rpc
from broker.store.etcd.channel import AUTHENTICATE, LEASE_KEEP_ALIVE, Access, is_token_refused, sync_channel

RENEWALS_PER_TTL = 4
"""So often it is tried, each try taking as long at most: two members in a row may keep silent before it lapses."""


class EtcdLease:
    """A `Lease`. One that lapsed here is never renewed, since others may have been told that it did."""

    def __init__(
        self, lease: int, ttl_s: float, sent: float, access: Access, clock: Clock, revoke: Callable[[int], Awaitable[None]]
    ) -> None:
        self.id = lease
        self._ttl_s = ttl_s
        self._valid_until = sent + ttl_s
        self._beat = sent
        self._access = access
        self._clock = clock
        self._revoke = revoke
        self._member = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._renew_on, name=f"lease-{lease:x}", daemon=True)
        self._thread.start()

    def valid_until(self) -> float:
        """See `Lease.valid_until`."""
        return self._valid_until

    def heartbeat(self) -> None:
        """See `Lease.heartbeat`."""
        self._beat = self._clock.boottime()

    async def stop(self) -> None:
        """Renew no more."""
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)

    async def close(self) -> None:
        """See `Lease.close`."""
        await self.stop()
        self._valid_until = 0.0
        await self._revoke(self.id)

    def _renew_on(self) -> None:
        """The thread: until stopped, lapsed, or gone at the server."""
        pause_s = self._ttl_s / RENEWALS_PER_TTL
        channel = sync_channel(self._access, self._member)
        try:
            while not self._stopped.wait(pause_s):
                now = self._clock.boottime()
                if now >= self._valid_until:
                    return
                if now - self._beat >= self._ttl_s / 2:
                    continue
                try:
                    if not self._renew(channel, pause_s):
                        return
                except grpc.RpcError as error:
                    if is_token_refused(error):
                        self._access.token = ""
                    channel.close()
                    self._member = (self._member + 1) % len(self._access.addresses)
                    channel = sync_channel(self._access, self._member)
        finally:
            channel.close()

    def _renew(self, channel: grpc.Channel, timeout_s: float) -> bool:
        """One renewal; False when the lease is gone. Raises grpc.RpcError."""
        if self._access.user and not self._access.token:
            authenticate = channel.unary_unary(
                AUTHENTICATE.path,
                request_serializer=rpc.AuthenticateRequest.SerializeToString,
                response_deserializer=AUTHENTICATE.reply.FromString,
            )
            self._access.token = authenticate(self._access.authentication(), timeout=timeout_s).token
        keep_alive = channel.stream_stream(
            LEASE_KEEP_ALIVE.path,
            request_serializer=rpc.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=LEASE_KEEP_ALIVE.reply.FromString,
        )
        sent = self._clock.boottime()
        replies = keep_alive(iter([rpc.LeaseKeepAliveRequest(ID=self.id)]), timeout=timeout_s, metadata=self._access.metadata())
        for reply in replies:
            if reply.TTL <= 0:
                return False
            self._valid_until = sent + reply.TTL
        return True
