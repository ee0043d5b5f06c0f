"""Commands at a login node, over connections that are kept (https://asyncssh.readthedocs.io/en/stable/api.html)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import asyncssh

from adapters.base import LoginFailed, Unreachable
from adapters.commands import (
    MOST_OUTPUT_BYTES,
    Completed,
    SshTransport,
    both,
    bounded,
    no_end,
    remote_line,
)
from adapters.secrets import SecretMissing


class SshCommands:
    """Commands of one site's login node, over a connection that is made when it is first needed, and again after it was cut."""

    def __init__(self, transport: SshTransport, most_bytes: int = MOST_OUTPUT_BYTES) -> None:
        self._transport = transport
        self._most_bytes = most_bytes
        self._connection = _Connection(transport)

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """See `Commands.run`."""
        try:
            async with asyncio.timeout(timeout_s), self._connection.sessions:
                return await self._run(argv, stdin)
        except TimeoutError as error:
            raise no_end(argv, timeout_s) from error

    async def _run(self, argv: Sequence[str], stdin: bytes) -> Completed:
        process = await self._start(argv)
        try:
            process.stdin.write(stdin)
            process.stdin.write_eof()
            stdout, stderr = await both(
                bounded(argv, process.stdout, self._most_bytes), bounded(argv, process.stderr, self._most_bytes)
            )
            await process.wait_closed()
            return Completed(_code(process, argv), stdout, stderr)
        except (OSError, asyncssh.Error) as error:
            raise _cut(argv, error) from error
        finally:
            _end(process)

    async def close(self) -> None:
        """See `Commands.close`."""
        await self._connection.close()

    async def _start(self, argv: Sequence[str]) -> asyncssh.SSHClientProcess[bytes]:
        line = remote_line(argv, self._transport.env)
        opened = await self._connection.opened()
        try:
            return await opened.create_process(line, encoding=None)
        except (OSError, asyncssh.Error) as error:
            raise _cut(argv, error) from error


class _Connection:
    """A connection that is made again when it is found closed. `sessions` bounds the commands at once."""

    def __init__(self, transport: SshTransport) -> None:
        self.sessions = asyncio.Semaphore(transport.sessions)
        self._transport = transport
        self._making = asyncio.Lock()
        self._made: asyncssh.SSHClientConnection | None = None

    async def opened(self) -> asyncssh.SSHClientConnection:
        """The kept connection, or a new one. Raises LoginFailed and Unreachable."""
        async with self._making:
            if self._made is None or self._made.is_closed():
                self._made = await _connect(self._transport)
            return self._made

    async def close(self) -> None:
        """Commands that run over it are cut."""
        async with self._making:
            if self._made is not None:
                self._made.abort()
                await self._made.wait_closed()
                self._made = None


async def _connect(to: SshTransport) -> asyncssh.SSHClientConnection:
    """A new connection, by nothing but the settings: no agent, no default keys, no configuration of the broker's user."""
    where = f"{to.user}@{to.host}:{to.port}"
    try:
        passphrase = to.passphrase.read() if to.passphrase else None
        key = asyncssh.import_private_key(to.key.read() + "\n", passphrase)
    except (SecretMissing, asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        raise LoginFailed(f"{where}: the private key cannot be used: {error}") from error
    try:
        known_hosts = asyncssh.read_known_hosts(to.known_hosts)
    except (OSError, ValueError) as error:
        raise LoginFailed(f"{where}: known_hosts cannot be used: {error}") from error
    try:
        async with asyncio.timeout(to.connect_timeout_s):
            return await asyncssh.connect(
                to.host,
                to.port,
                username=to.user,
                client_keys=[key],
                known_hosts=known_hosts,
                config=None,
                agent_path=None,
                preferred_auth="publickey",
                keepalive_interval=to.keepalive_s,
            )
    except asyncssh.HostKeyNotVerifiable as error:
        raise LoginFailed(f"{where}: its host key is not the one in {to.known_hosts}: {error.reason}") from error
    except asyncssh.PermissionDenied as error:
        raise LoginFailed(f"{where}: the user or the key is not accepted: check both in our settings: {error.reason}") from error
    except (OSError, asyncssh.Error) as error:  # a TimeoutError of ours is an OSError too
        raise Unreachable(f"{where}: {error or 'no answer'}: see that the login node is up and takes SSH there") from error


def _code(process: asyncssh.SSHClientProcess[bytes], argv: Sequence[str]) -> int:
    """How it ended. Raises Unreachable where the connection was cut before that was told."""
    if process.returncode is None:
        raise _cut(argv, None)
    return process.returncode


def _cut(argv: Sequence[str], error: Exception | None) -> Unreachable:
    told = f": {error}" if error else ""
    return Unreachable(f"the connection was cut while {argv[0]} ran{told}")


def _end(process: asyncssh.SSHClientProcess[bytes]) -> None:
    """End what still runs; the server's own end of the session does the rest where it takes no signals."""
    if process.returncode is None:
        with contextlib.suppress(OSError, asyncssh.Error):
            process.kill()
    process.close()
