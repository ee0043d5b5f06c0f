"""What an application master says to the resource manager, and to node managers to start containers.

The protocol: https://hadoop.apache.org/docs/stable/hadoop-yarn/hadoop-yarn-site/WritingYarnApplications.html
"""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import dataclass
from typing import Callable, Mapping, Sequence  # noqa: UP035 - runs on older Pythons

from adapters.yarn.master.rpc import Connection, RemoteError
from adapters.yarn.master.wire import (
    BadBytes,
    Fields,
    Token,
    field,
    inner,
    int32,
    integer,
    messages,
    octets,
    parse,
    text,
)

MASTERS = "org.apache.hadoop.yarn.api.ApplicationMasterProtocolPB"
CONTAINERS = "org.apache.hadoop.yarn.api.ContainerManagementProtocolPB"
PATIENCE_S = 900.0
"""How long a resource manager may be away before the master gives up: YARN's own default for its clients."""
PAUSE_S = 0.3
_RESYNC, _SHUTDOWN = 1, 2
_SUCCEEDED, _FAILED = 1, 2
_LATER = ("StandbyException", "RetriableException", "ServerNotReadyException")


class Dismissed(Exception):
    """The resource manager wants this master no more."""


@dataclass(frozen=True)
class Size:
    """Of a container. `others` are countable resource types, such as GPUs."""

    memory_mib: int
    vcores: int
    others: Mapping[str, int]

    def message(self) -> bytes:
        """A ResourceProto."""
        extra = [field(1, name) + field(2, count) + field(3, "") + field(4, 0) for name, count in sorted(self.others.items())]
        return field(1, self.memory_mib) + field(2, self.vcores) + b"".join(field(3, each) for each in extra)


@dataclass(frozen=True)
class Held:
    """A container that was given to us."""

    name: str
    raw_id: bytes
    node: str
    web: str
    token: bytes


@dataclass(frozen=True)
class Ended:
    """A container that ended. `status` is its exit code, or one of ContainerExitStatus below zero."""

    name: str
    status: int
    diagnostics: str


@dataclass(frozen=True)
class Beat:
    """What one heartbeat brought. `is_new_life`: the resource manager started anew, and forgot what was asked for."""

    given: Sequence[Held] = ()
    ended: Sequence[Ended] = ()
    is_new_life: bool = False


class Scheduler:
    """The resource manager, at one of `addresses` ("host:port" of its scheduler)."""

    def __init__(self, addresses: Sequence[str], token: Token) -> None:
        self._addresses = list(addresses)
        self._token = token
        self._connection: Connection | None = None
        self._response = 0
        self._node_tokens: dict[str, Token] = {}

    def register(self) -> None:
        """Say that we are there; waits for a resource manager that is away."""
        self._insist(self._register)

    def beat(self, progress: float, ask: bytes = b"", release: Sequence[bytes] = ()) -> Beat | None:
        """Ask for and give back containers, and hear what became of ours; None when there was no answer, and then it may be
        asked again. Raises Dismissed."""
        request = ask + b"".join(field(2, each) for each in release) + field(4, self._response) + field(5, float(progress))
        try:
            reply = self._call("allocate", request)
            if reply is None:
                return None
            if integer(reply, 1) == _SHUTDOWN:
                raise Dismissed("the resource manager says: shut down")
            if integer(reply, 1) != _RESYNC:
                return self._read(reply)
        except RemoteError as error:
            if error.kind != "ApplicationMasterNotRegisteredException":
                raise Dismissed(str(error)) from error
        self.register()
        return Beat(is_new_life=True)

    def finish(self, is_success: bool, diagnostics: str) -> None:
        """Say how it ended; waits for a resource manager that is away."""
        request = field(1, diagnostics) + field(2, "") + field(3, _SUCCEEDED if is_success else _FAILED)

        def unregister() -> bool:
            try:
                reply = self._call("finishApplicationMaster", request)
            except RemoteError as error:
                if error.kind != "ApplicationMasterNotRegisteredException":
                    raise Dismissed(str(error)) from error
                self.register()
                return False
            return reply is not None and bool(integer(reply, 1))

        self._insist(unregister)

    def start(self, held: Sequence[Held], launches: Sequence[bytes]) -> str:
        """Start these containers, all of one node, with a ContainerLaunchContextProto each; says what failed."""
        node = held[0].node
        token = self._node_tokens.get(node)
        if token is None:
            return f"{node}: no token for this node"
        requests = [field(1, field(1, launch) + field(2, each.token)) for each, launch in zip(held, launches)]  # noqa: B905 - `strict` is newer than 3.8
        try:
            connection = Connection(node, CONTAINERS, token)
            try:
                reply = connection.call("startContainers", b"".join(requests))
            finally:
                connection.close()
        except (OSError, RemoteError, BadBytes) as error:
            return f"{node}: {error}"
        failed = [text(inner(parse(message), 2), 1) for message in messages(reply, 3)]
        return f"{node}: {failed[0][:500]}" if failed else ""

    def _insist(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > deadline:
                raise Dismissed("no resource manager answers")
            time.sleep(PAUSE_S)

    def _register(self) -> bool:
        request = field(1, socket.gethostname()) + field(2, -1) + field(3, "")
        try:
            reply = self._call("registerApplicationMaster", request)
        except RemoteError as error:
            if "already registered" not in str(error):
                raise Dismissed(str(error)) from error
            return True
        self._response = 0
        return reply is not None

    def _call(self, method: str, request: bytes) -> Fields | None:
        """The reply, or None where nobody answers, or a resource manager that is not the active one; the next is tried then."""
        try:
            if self._connection is None:
                self._connection = Connection(self._addresses[0], MASTERS, self._token, timeout_s=5.0)
            return self._connection.call(method, request)
        except RemoteError as error:
            if error.kind not in _LATER:
                raise
            say(f"{self._addresses[0]}: {error}")
        except (OSError, BadBytes) as error:
            say(f"{self._addresses[0]}: {error}")
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._addresses.append(self._addresses.pop(0))
        return None

    def _read(self, reply: Fields) -> Beat:
        self._response = integer(reply, 2, self._response)
        for message in messages(reply, 9):
            fields = parse(message)
            self._node_tokens[_node(octets(fields, 1))] = Token.of(octets(fields, 2))
        if 12 in reply:  # the key behind our token was renewed
            self._token = Token.of(octets(reply, 12))
        given = [_held(parse(message)) for message in messages(reply, 3)]
        return Beat(given, [_ended(parse(message)) for message in messages(reply, 4)])


def ask_for(count: int, size: Size, label: str) -> bytes:
    """The part of a heartbeat that sets how many more containers are wanted, anywhere in a partition."""
    request = field(1, field(1, 1)) + field(2, "*") + field(3, size.message()) + field(4, count) + field(5, True)
    return field(1, request + field(6, label or None))


def launch_of(environment: Mapping[str, str], command: str) -> bytes:
    """A ContainerLaunchContextProto."""
    entries = [field(4, field(1, name) + field(2, value)) for name, value in environment.items()]
    return b"".join(entries) + field(5, command)


def container_name(raw: bytes) -> str:
    """A ContainerIdProto as YARN writes it: ContainerId.toString()."""
    fields = parse(raw)
    attempt = inner(fields, 2)
    application = inner(attempt, 1)
    number = integer(fields, 3)
    epoch = f"e{number >> 40:02d}_" if number >> 40 else ""
    started, serial = integer(application, 2), integer(application, 1)
    return f"container_{epoch}{started}_{serial:04d}_{integer(attempt, 2):02d}_{number & (1 << 40) - 1:06d}"


def say(words: str) -> None:
    """Into the container's stderr, which is the master's alone."""
    print(time.strftime("%H:%M:%S"), words, file=sys.stderr, flush=True)


def _node(raw: bytes) -> str:
    fields = parse(raw)
    return f"{text(fields, 1)}:{integer(fields, 2)}"


def _held(fields: Fields) -> Held:
    raw = octets(fields, 1)
    return Held(container_name(raw), raw, _node(octets(fields, 2)), text(fields, 3), octets(fields, 6))


def _ended(fields: Fields) -> Ended:
    return Ended(container_name(octets(fields, 1)), int32(fields, 4), text(fields, 3))
