"""Commands run at a site: on the broker's machine, or at a login node over SSH."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from adapters.base import Layer, LoginFailed, Unreachable
from adapters.probing import Answers
from adapters.secrets import Secret

NOT_FOUND = 127
"""What a shell answers for a command that is not there; a local command that is not there answers it too."""
MOST_OUTPUT_BYTES = 64 * 2**20
CHUNK_BYTES = 64 * 2**10
REAP_S = 5.0
KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR")
"""All that a local command gets of the broker's environment: engines hand their client's environment on to the job."""


A = TypeVar("A")
B = TypeVar("B")


class LocalTransport(BaseModel):
    """Commands are on the broker's own machine."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["local"] = "local"
    env: Mapping[str, str] = {}
    """Variables that every command gets."""


class SshTransport(BaseModel):
    """Commands are on a login node. Its host key must be in `known_hosts`: there is no way to leave that check out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["ssh"]
    host: str = Field(min_length=1)
    port: int = Field(default=22, ge=1, le=65535)
    user: str = Field(min_length=1)
    key: Secret
    """The private key itself, in any format OpenSSH reads; it is read again for each new connection."""
    passphrase: Secret | None = None
    known_hosts: str = Field(pattern="^/")
    """A file as OpenSSH's: `[host]:port type key` for a port other than 22. `ssh-keyscan -p PORT HOST` writes such lines."""
    env: Mapping[str, str] = {}
    """Variables that every command gets."""
    connect_timeout_s: float = Field(default=10.0, gt=0, strict=False)
    keepalive_s: float = Field(default=15.0, gt=0, strict=False)
    """After three of these without a sign of life the connection is given up."""
    sessions: int = Field(default=8, ge=1)
    """Commands at once over one connection; OpenSSH's default `MaxSessions` allows 10."""


Transport = Annotated[LocalTransport | SshTransport, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended: its exit code, or less than zero for a signal, and all it wrote."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def said(self) -> str:
        """Both outputs as text, shortened to what a message can hold."""
        return " ".join((self.stderr + b"\n" + self.stdout).decode(errors="replace").split())[:500]


class Commands(Protocol):
    """Where a site's commands are run."""

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command to its end; one that is not there ends with `NOT_FOUND`. Raises `LoginFailed`, and `Unreachable` for
        no connection, one that was cut, no end in time, and output without end: after these it may have had its effect."""

    async def close(self) -> None:
        """End what still runs, and give back connections."""


class LocalCommands:
    """Each command is a process group of its own, with an environment of its own, and is ended with its time."""

    def __init__(self, env: Mapping[str, str] | None = None, most_bytes: int = MOST_OUTPUT_BYTES) -> None:
        self._env = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ} | dict(env or {})
        self._most_bytes = most_bytes

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """See `Commands.run`."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._run(argv, stdin)
        except TimeoutError as error:
            raise no_end(argv, timeout_s) from error

    async def _run(self, argv: Sequence[str], stdin: bytes) -> Completed:
        try:
            process = await self._spawn(argv)
        except FileNotFoundError:
            return Completed(NOT_FOUND, b"", f"{argv[0]}: command not found".encode())
        try:
            assert process.stdin
            assert process.stdout
            assert process.stderr
            stdout, stderr = await both(
                bounded(argv, process.stdout, self._most_bytes),
                bounded(argv, process.stderr, self._most_bytes),
                beside=_feed(process.stdin, stdin),
            )
            return Completed(await process.wait(), stdout, stderr)
        finally:
            await _ended(process)

    async def close(self) -> None:
        """See `Commands.close`. There is no connection, and a command ends with its caller."""

    async def _spawn(self, argv: Sequence[str]) -> asyncio.subprocess.Process:
        """Raises FileNotFoundError, and Unreachable for any other reason why it cannot be started."""
        pipe = asyncio.subprocess.PIPE
        try:
            return await asyncio.create_subprocess_exec(
                *argv, stdin=pipe, stdout=pipe, stderr=pipe, env=self._env, start_new_session=True
            )
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise Unreachable(f"{argv[0]} cannot be started: {error}") from error


class Reader(Protocol):
    """One output of a command."""

    async def read(self, n: int) -> bytes:
        """At most so many bytes; none at its end."""


async def bounded(argv: Sequence[str], reader: Reader, most: int) -> bytes:
    """All that comes. Raises Unreachable for more than `most` bytes."""
    chunks, size = [], 0
    while chunk := await reader.read(CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            raise Unreachable(f"{argv[0]} writes without end: more than {most} bytes")
    return b"".join(chunks)


async def both(
    first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B], beside: Coroutine[Any, Any, None] | None = None
) -> tuple[A, B]:
    """What two coroutines that run at once return. Where one fails the others are cancelled, and its own error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            one, other = group.create_task(first), group.create_task(second)
            if beside is not None:
                group.create_task(beside)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return one.result(), other.result()


def no_end(argv: Sequence[str], timeout_s: float) -> Unreachable:
    """What to raise for a command that did not end in its time."""
    return Unreachable(f"{argv[0]} did not end within {timeout_s:.3g} s")


def remote_line(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """The line that makes a POSIX or C shell run `argv`, whatever its words hold but for line ends in a C shell."""
    given = [f"{name}={value}" for name, value in env.items()]
    return shlex.join(["env", *given, *argv] if given else argv)


async def probe_login(commands: Commands, timeout_s: float) -> Answers:
    """The layers REACH and LOGIN, as a probe begins that goes on with commands of the engine."""
    answers = Answers()
    try:
        done = await commands.run(["true"], timeout_s=timeout_s)
    except LoginFailed as error:
        answers.denied(str(error))
        return answers
    except Unreachable as error:
        answers.failed(str(error))
        return answers
    answers.answered(Layer.REACH)
    answers.answered(Layer.LOGIN, f"no command can be run: {done.said}" if done.code else "", is_misconfigured=bool(done.code))
    return answers


async def _feed(writer: asyncio.StreamWriter, content: bytes) -> None:
    """Write it all; a command that does not want it is not an error."""
    # of a pipe that was closed since, because the command has ended, uvloop says RuntimeError
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
        writer.write(content)
        await writer.drain()
    # not waited for: asyncio of Python 3.11 fails where that wait is cancelled and the pipe closes afterwards
    writer.close()


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End a command that runs still, with its process group. The group of one that ended may be another's by now."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REAP_S):
            for reader in filter(None, (process.stdout, process.stderr)):
                while await reader.read(CHUNK_BYTES):  # a pipe that was not read to its end would stay open
                    pass
            await process.wait()
