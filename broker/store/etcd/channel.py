"""Connections to etcd's members: which one is asked, with which token, and what their errors mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from broker.clock import Clock
from broker.store.base import Compacted, Fenced, NoSpace, StoreError, StoreUnavailable
from broker.store.etcd import rpc_pb2 as rpc
from broker.store.transactions import RETRY_S

Reply = TypeVar("Reply", bound=Message)

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A member that is back is noticed soon, and one that vanished without a word too; etcd allows a ping each 5 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # Each store and each lease has connections of its own, and none of them goes through a web proxy.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Reply]):
    """A call of the API: its path and its reply."""

    path: str
    reply: type[Reply]


RANGE = Rpc("/etcdserverpb.KV/Range", rpc.RangeResponse)
TXN = Rpc("/etcdserverpb.KV/Txn", rpc.TxnResponse)
COMPACT = Rpc("/etcdserverpb.KV/Compact", rpc.CompactionResponse)
WATCH = Rpc("/etcdserverpb.Watch/Watch", rpc.WatchResponse)
LEASE_GRANT = Rpc("/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantResponse)
LEASE_REVOKE = Rpc("/etcdserverpb.Lease/LeaseRevoke", rpc.LeaseRevokeResponse)
LEASE_KEEP_ALIVE = Rpc("/etcdserverpb.Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
AUTHENTICATE = Rpc("/etcdserverpb.Auth/Authenticate", rpc.AuthenticateResponse)
STATUS = Rpc("/etcdserverpb.Maintenance/Status", rpc.StatusResponse)
ALARM = Rpc("/etcdserverpb.Maintenance/Alarm", rpc.AlarmResponse)
MEMBER_LIST = Rpc("/etcdserverpb.Cluster/MemberList", rpc.MemberListResponse)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Files in PEM. `ca_file` None: the system's authorities. `cert_file` and `key_file` are ours, for mutual TLS."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def credentials(self) -> Any:
        """As gRPC wants them. Raises OSError for a file that cannot be read."""
        ca, key, cert = (path.read_bytes() if path else None for path in (self.ca_file, self.key_file, self.cert_file))
        return grpc.ssl_channel_credentials(ca, key, cert)


@dataclass(slots=True)
class Access:
    """Where etcd is and how it lets us in. `token` is the latest that authentication gave, shared by all connections."""

    addresses: Sequence[str]
    tls: TlsSettings | None
    user: str | None
    password: str | None
    token: str = ""

    @classmethod
    def of(cls, endpoints: Sequence[str], tls: TlsSettings | None, user: str | None, password: str | None) -> Access:
        """Endpoints are `host:port`, `http://host:port` or `https://host:port`. Raises ValueError where they make no sense."""
        schemes = {endpoint.partition("://")[0] for endpoint in endpoints if "://" in endpoint}
        if not endpoints or schemes - {"http", "https"} or len(schemes) > 1 or (schemes == {"http"} and tls):
            raise ValueError(f"etcd endpoints {list(endpoints)}: one or more of host:port, all http:// or all https:// for TLS")
        if schemes == {"https"} and tls is None:
            tls = TlsSettings()
        return cls([endpoint.rpartition("://")[2].rstrip("/") for endpoint in endpoints], tls, user, password)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call: the token, and the wish to be told when the member asked has no leader."""
        has_leader = ("hasleader", "true")
        return (has_leader, ("token", self.token)) if self.token else (has_leader,)

    def authentication(self) -> rpc.AuthenticateRequest:
        """The request for a token."""
        return rpc.AuthenticateRequest(name=self.user or "", password=self.password or "")


class Connection:
    """Calls to whichever member answers: one at a time, the next when it fails."""

    def __init__(self, access: Access, timeout_s: float, clock: Clock) -> None:
        self._access = access
        self._timeout_s = timeout_s
        self._clock = clock
        self._current = 0
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._callables: dict[tuple[int, str], Any] = {}

    async def ask(self, call: Rpc[Reply], request: Message) -> Reply:
        """A call that does no harm when made twice: again, elsewhere, until the time is up. Raises StoreError."""
        deadline = self._clock.boottime() + self._timeout_s
        while True:
            try:
                return await self.call(call, request)
            except StoreUnavailable:
                if self._clock.boottime() + RETRY_S >= deadline:
                    raise
            await self._clock.sleep(RETRY_S)

    async def call(self, call: Rpc[Reply], request: Message) -> Reply:
        """One try, for a third of the time that a request may take. Raises StoreError; StoreUnavailable: it may have happened."""
        if self._access.user and not self._access.token:
            await self._authenticate()
        try:
            return await self._send(call, request)
        except grpc.aio.AioRpcError as error:
            if not is_token_refused(error) or not self._access.user:
                raise meaning(error, call.path) from error
        await self._authenticate()
        try:
            return await self._send(call, request)
        except grpc.aio.AioRpcError as error:
            raise meaning(error, call.path) from error

    async def stream(self, call: Rpc[Reply]) -> Any:
        """A stream of requests and replies to the member of the moment, a `grpc.aio.StreamStreamCall`. Raises StoreError."""
        if self._access.user and not self._access.token:
            await self._authenticate()
        return self._callable(call, is_stream=True)(metadata=self._access.metadata())

    def distrust(self) -> None:
        """A stream failed: the next one goes to another member, and with a new token."""
        self._access.token = ""
        self._move_on(self._current)

    async def close(self) -> None:
        """Close all channels; calls in flight are cancelled."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        self._callables.clear()

    async def _send(self, call: Rpc[Reply], request: Message) -> Reply:
        asked = self._current
        try:
            reply: Reply = await self._callable(call)(request, timeout=self._timeout_s / 3, metadata=self._access.metadata())
        except grpc.aio.AioRpcError as error:
            if isinstance(meaning(error, call.path), StoreUnavailable):
                self._move_on(asked)
            raise
        return reply

    async def _authenticate(self) -> None:
        try:
            self._access.token = (await self._send(AUTHENTICATE, self._access.authentication())).token
        except grpc.aio.AioRpcError as error:
            raise meaning(error, AUTHENTICATE.path) from error

    def _move_on(self, failed: int) -> None:
        if self._current == failed:
            self._current = (failed + 1) % len(self._access.addresses)

    def _callable(self, call: Rpc[Any], is_stream: bool = False) -> Any:
        found = self._callables.get((self._current, call.path))
        if found is None:
            channel = self._channel(self._current)
            make = channel.stream_stream if is_stream else channel.unary_unary
            found = make(call.path, request_serializer=_bytes_of, response_deserializer=call.reply.FromString)
            self._callables[self._current, call.path] = found
        return found

    def _channel(self, number: int) -> grpc.aio.Channel:
        if number not in self._channels:
            address, tls = self._access.addresses[number], self._access.tls
            self._channels[number] = (
                grpc.aio.secure_channel(address, tls.credentials(), options=OPTIONS)
                if tls
                else grpc.aio.insecure_channel(address, options=OPTIONS)
            )
        return self._channels[number]


def sync_channel(access: Access, number: int) -> grpc.Channel:
    """A blocking channel to one member, for a thread of its own."""
    address = access.addresses[number]
    if access.tls:
        return grpc.secure_channel(address, access.tls.credentials(), options=OPTIONS)
    return grpc.insecure_channel(address, options=OPTIONS)


def is_token_refused(error: grpc.RpcError) -> bool:
    """Whether a new token would help."""
    details = error.details() or ""
    return error.code() is grpc.StatusCode.UNAUTHENTICATED or "auth store is old" in details or "user name is empty" in details


def meaning(error: grpc.RpcError, path: str) -> StoreError:
    """etcd's error as ours. What is not known to be a refusal is StoreUnavailable: it may have happened."""
    code, details = error.code(), error.details() or ""
    message = f"{path.rpartition('/')[2]}: {details} ({code.name})"
    match code:
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "space exceeded" in details:
            return NoSpace(message)
        case grpc.StatusCode.NOT_FOUND if "lease not found" in details:
            return Fenced(message)
        case grpc.StatusCode.OUT_OF_RANGE if "has been compacted" in details:
            return Compacted(message)
        case grpc.StatusCode.FAILED_PRECONDITION if "not leader" in details:
            return StoreUnavailable(message)
        case (
            grpc.StatusCode.INVALID_ARGUMENT
            | grpc.StatusCode.FAILED_PRECONDITION
            | grpc.StatusCode.OUT_OF_RANGE
            | grpc.StatusCode.NOT_FOUND
            | grpc.StatusCode.PERMISSION_DENIED
            | grpc.StatusCode.UNAUTHENTICATED
            | grpc.StatusCode.UNIMPLEMENTED
            | grpc.StatusCode.DATA_LOSS
        ):
            return StoreError(message)
        case _:
            return StoreUnavailable(message)


def _bytes_of(message: Message) -> bytes:
    return message.SerializeToString()
