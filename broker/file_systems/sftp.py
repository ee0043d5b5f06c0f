"""Storage at a login node."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

from broker.documents.storage import SftpOptions
from broker.file_systems.base import CannotOpen, Entry, Fsspec
from topology.site import Storage

KEEPALIVE_S = 10.0


class SftpFiles(Fsspec):
    """`sftp`: a directory of a login node, over asyncssh (https://github.com/fsspec/sshfs)."""

    def __init__(self, storage: Storage, options: SftpOptions) -> None:
        import asyncssh
        from sshfs import SSHFileSystem

        url = urlsplit(storage.url)
        passphrase = options.passphrase.read() if options.passphrase else None
        try:
            key = asyncssh.import_private_key(options.key.read(), passphrase)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise CannotOpen(f"storage.options.key is no private key that can be read: {error}") from error
        self._unsupported, self._exists = asyncssh.SFTPOpUnsupported, asyncssh.SFTPFailure
        fs = SSHFileSystem(
            url.hostname,
            port=url.port or 22,
            username=options.user,
            client_keys=[key],
            known_hosts=options.known_hosts,
            config=None,
            agent_path=None,
            connect_timeout=options.timeout_s,
            login_timeout=options.timeout_s,
            keepalive_interval=KEEPALIVE_S,
            timeout=options.timeout_s,
            sftp_client_kwargs={"path_errors": "surrogateescape"},
            skip_instance_cache=True,
        )
        super().__init__(fs, unquote(url.path))

    def is_link(self, full: str) -> bool:
        """See `FileSystem`."""
        return bool(self._call(lambda channel: channel.islink(full)))

    def real(self, full: str) -> str:
        """See `FileSystem`."""
        return str(self._call(lambda channel: channel.realpath(full)))

    def info(self, full: str) -> Entry | None:
        """See `FileSystem`. fsspec ends a folder's name with a slash here."""
        found = super().info(full)
        return {**found, "name": found["name"].rstrip("/")} if found else None

    def create(self, full: str, content: bytes) -> None:
        """See `FileSystem`."""
        draft = f"{full}.{uuid.uuid4().hex}"
        with self.open(draft, "wb") as file:
            file.write(content)
        try:
            self._call(lambda channel: channel.link(draft, full))
        except self._unsupported:
            with self._fs.open(full, "xb") as file:
                file.write(content)
        except self._exists as error:
            # OpenSSH says no more than "Failure" of a name that is taken
            if self.info(full) is None:
                raise
            raise FileExistsError(full) from error
        finally:
            self._fs.rm_file(draft)

    def rename(self, full: str, to: str) -> None:
        """See `FileSystem`."""
        self._fs.mv(full, to)

    def _call(self, work: Any) -> Any:
        from fsspec.asyn import sync

        async def with_channel() -> Any:
            async with self._fs._pool.get() as channel:
                return await work(channel)

        return sync(self._fs.loop, with_channel)

    def close(self) -> None:
        """See `FileSystem`."""
        self._fs._finalize(self._fs.loop, self._fs._pool, self._fs._stack)
