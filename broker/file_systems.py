"""The file systems of sites' storage, by the scheme of its URL: how each is opened, creates a file exclusively, and renames.

| scheme | exclusive creation | rename |
|---|---|---|
| `file` | a hard link of a draft: atomic, with its content | atomic |
| `sftp` | the same, by OpenSSH's hardlink@openssh.com; mode `x` where a server has no links | posix-rename@openssh.com: atomic |
| `webhdfs` | a draft renamed to a name that is free: atomic, with its content (HDFS refuses a rename onto a file) | atomic |
| `s3` | `If-None-Match: *`: atomic, where the service heeds it (AWS, MinIO, Ceph) | copies, then deletions: never atomic |

Libraries come with extras (`sftp`, `webhdfs`, `s3`) and are imported when a site needs them. fsspec's `exists`, `isfile` and
`walk` take an outage for an absence, so none of them is called: `info` is, and only FileNotFoundError says that nothing is there.
"""

from __future__ import annotations

import os
import posixpath
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from fsspec.implementations.local import LocalFileSystem

from adapters.secrets import SecretMissing
from broker.documents.storage import S3Options, SftpOptions, StorageOptions, WebhdfsOptions, options_of
from topology.site import Storage

BLOCK_BYTES = 8 * 2**20
S3_PART_BYTES = 50 * 2**20
"""S3 takes 10,000 parts: files of up to 500 GB."""
KEEPALIVE_S = 10.0
Entry = Mapping[str, Any]
"""As fsspec's `info`: `name`, `type` (`file`, `directory`, `link`, others), `size`."""


CURES: Mapping[str, Mapping[str, str]] = {
    "sftp": {
        "HostKeyNotVerifiable": "put the login node's key into storage.options.known_hosts (ssh-keyscan -p PORT HOST)",
        "PermissionDenied": "see that storage.options has the right user and key, and that the key may log in there",
        "Can't create any SFTP": "let sshd serve SFTP (Subsystem sftp in sshd_config), with MaxSessions of 10 or more",
        "SFTPPermissionDenied": "give storage.options.user the right to read and write there",
    },
    "webhdfs": {
        "standby": "storage.url names a standby name node: name the active one",
        "afe mode": "the name node is in safe mode: wait, or see hdfs dfsadmin -safemode",
        "Permission denied": "give storage.options.user the right to read and write there",
        "401 Client Error": "see storage.options: user, password or token",
        "InvalidToken": "the delegation token in storage.options ended: renew it",
        "Failed to resolve": "name the data nodes' addresses in storage.options.data_nodes",
    },
    "s3": {
        "NoSuchBucket": "make the bucket, or mend storage.url",
        "bucket does not exist": "make the bucket, or mend storage.url",
        "InvalidAccessKeyId": "see storage.options.access_key",
        "SignatureDoesNotMatch": "see storage.options.secret_key",
        "ExpiredToken": "renew storage.options.session_token",
        "Access Denied": "give this key the right to list, read, write and delete below storage.url",
        "Forbidden": "see storage.options: the keys, and what they may do",
        "locate credentials": "give storage.options.access_key and secret_key",
        "Could not connect": "see storage.options.endpoint, and that it runs",
    },
}
"""By scheme: a word of an error, or the name of its type, and what an admin can do about it."""


class CannotOpen(Exception):
    """Storage that cannot be opened as its settings are: the message says what and the cure."""


class FileSystem(Protocol):
    """Paths are the file system's own, absolute. Raises OSError, and `failures_of` its scheme."""

    root: str

    def info(self, full: str) -> Entry | None:
        """What is there; None when nothing is."""

    def entries(self, full: str) -> list[Entry]:
        """What is in a folder."""

    def files(self, full: str) -> Iterator[Entry]:
        """All that is below a folder and is no folder."""

    def is_link(self, full: str) -> bool:
        """Whether the path itself is a symbolic link."""

    def real(self, full: str) -> str:
        """The path with all links followed."""

    def make_folder(self, full: str) -> None:
        """With those above it; one that is there is not an error."""

    def create(self, full: str, content: bytes) -> None:
        """A new file with this content, at once. Raises FileExistsError."""

    def read(self, full: str) -> bytes:
        """A small file's content."""

    def open(self, full: str, mode: str) -> Any:
        """A file to read (`rb`) or write (`wb`)."""

    def rename(self, full: str, to: str) -> None:
        """A file or a folder; the folder above `to` is there."""

    def remove(self, full: str) -> None:
        """With all below it; nothing there is not an error."""

    def close(self) -> None:
        """Give back connections."""


class _Fsspec:
    """What is the same for all that are opened by fsspec."""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs = fs
        self.root = root

    def info(self, full: str) -> Entry | None:
        try:
            found: Entry = self._fs.info(full)
        except FileNotFoundError:
            self._see_root()
            return None
        return found

    def _see_root(self) -> None:
        """Storage that is not mounted, or that somebody removed, must not be taken for storage with nothing in it."""
        try:
            self._fs.info(self.root)
        except FileNotFoundError as error:
            raise OSError(f"{self.root} itself is not there: make it, or see that it is mounted") from error

    def entries(self, full: str) -> list[Entry]:
        return [entry for entry in self._fs.ls(full, detail=True) if entry["name"].rstrip("/") != full.rstrip("/")]

    def files(self, full: str) -> Iterator[Entry]:
        for entry in self.entries(full):
            if entry["type"] == "directory":
                yield from self.files(entry["name"])
            else:
                yield entry

    def is_link(self, full: str) -> bool:
        return False

    def real(self, full: str) -> str:
        return full

    def make_folder(self, full: str) -> None:
        self._fs.makedirs(full, exist_ok=True)

    def read(self, full: str) -> bytes:
        content: bytes = self._fs.cat_file(full)
        return content

    def open(self, full: str, mode: str) -> Any:
        return self._fs.open(full, mode)

    def remove(self, full: str) -> None:
        if self.info(full) is not None:
            self._fs.rm(full, recursive=True)

    def close(self) -> None:
        """Nothing is held."""


class LocalFiles(_Fsspec):
    """`file`: a directory of the broker's machine."""

    def __init__(self, root: str) -> None:
        super().__init__(LocalFileSystem(skip_instance_cache=True), root)

    def is_link(self, full: str) -> bool:
        """See `FileSystem`."""
        return os.path.islink(full)

    def real(self, full: str) -> str:
        """See `FileSystem`."""
        return os.path.realpath(full)

    def create(self, full: str, content: bytes) -> None:
        """See `FileSystem`. A crash between creating and writing would leave a claim of nobody: so a draft gets the name."""
        draft = f"{full}.{uuid.uuid4().hex}"
        Path(draft).write_bytes(content)
        try:
            os.link(draft, full)
        finally:
            os.unlink(draft)

    def rename(self, full: str, to: str) -> None:
        """See `FileSystem`."""
        os.rename(full, to)


class SftpFiles(_Fsspec):
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


class WebhdfsFiles(_Fsspec):
    """`webhdfs`: a directory of HDFS (https://hadoop.apache.org/docs/r3.4.1/hadoop-project-dist/hadoop-hdfs/WebHDFS.html)."""

    def __init__(self, storage: Storage, options: WebhdfsOptions) -> None:
        import requests
        from fsspec.implementations.webhdfs import WebHDFS

        class Deadline(requests.adapters.HTTPAdapter):
            """fsspec names no time-out, and requests has none."""

            def send(self, request: Any, **kwargs: Any) -> Any:  # type: ignore[override]
                return super().send(request, **{**kwargs, "timeout": options.timeout_s})

        url = urlsplit(storage.url)
        fs = WebHDFS(
            url.hostname,
            port=url.port or 9870,
            user=options.user,
            token=options.token.read() if options.token else None,
            password=options.password.read() if options.password else None,
            use_https=options.https,
            session_verify=options.ca_file or True,
            data_proxy=dict(options.data_nodes),
            skip_instance_cache=True,
        )
        fs.session.mount("http://", Deadline())
        fs.session.mount("https://", Deadline())
        fs.session.trust_env = False  # neither proxies nor passwords of the broker's own user
        super().__init__(fs, unquote(url.path))

    def create(self, full: str, content: bytes) -> None:
        """See `FileSystem`."""
        draft = f"{full}.{uuid.uuid4().hex}"
        with self.open(draft, "wb") as file:
            file.write(content)
        try:
            if not self._renamed(draft, full):
                raise FileExistsError(full)
        finally:
            self._fs.rm(draft)

    def rename(self, full: str, to: str) -> None:
        """See `FileSystem`. HDFS renames onto no file, and into a folder that is there."""
        there = self.info(to)
        if there is not None and there["type"] == "directory":
            raise FileExistsError(to)
        if there is not None:
            self._fs.rm(to)
        if not self._renamed(full, to):
            raise OSError(f"HDFS does not rename it to {to}")

    def _renamed(self, full: str, to: str) -> bool:
        return bool(self._fs._call("RENAME", method="put", path=full, destination=to).json()["boolean"])

    def close(self) -> None:
        """See `FileSystem`."""
        self._fs.session.close()


class S3Files(_Fsspec):
    """`s3`: a bucket, or what has a prefix in it (https://s3fs.readthedocs.io/en/latest/). There are no folders: one without
    files is not there."""

    def __init__(self, storage: Storage, options: S3Options) -> None:
        import s3fs

        url = urlsplit(storage.url)
        fs = s3fs.S3FileSystem(
            key=options.access_key.read() if options.access_key else None,
            secret=options.secret_key.read() if options.secret_key else None,
            token=options.session_token.read() if options.session_token else None,
            endpoint_url=options.endpoint,
            client_kwargs={"region_name": options.region} if options.region else {},
            config_kwargs={
                "connect_timeout": options.timeout_s,
                "read_timeout": options.timeout_s,
                "retries": {"max_attempts": 2},
            },
            default_block_size=S3_PART_BYTES,
            skip_instance_cache=True,
            use_listings_cache=False,
        )
        fs.retries = 2
        super().__init__(fs, posixpath.join(url.netloc, unquote(url.path).strip("/")).rstrip("/"))

    def _see_root(self) -> None:
        """See `_Fsspec`: of S3 the bucket is all that is there before anything is in it."""
        bucket = self.root.partition("/")[0]
        try:
            self._fs.call_s3("head_bucket", Bucket=bucket)
        except FileNotFoundError as error:
            raise OSError(f"there is no bucket {bucket} (NoSuchBucket)") from error

    def files(self, full: str) -> Iterator[Entry]:
        """See `FileSystem`: one listing for the whole tree."""
        found = self._fs.find(full, detail=True)
        yield from (entry for name, entry in sorted(found.items()) if not name.endswith("/"))

    def make_folder(self, full: str) -> None:
        """See `FileSystem`: there are none."""

    def open(self, full: str, mode: str) -> Any:
        """See `FileSystem`."""
        return self._fs.open(full, mode, block_size=S3_PART_BYTES if "w" in mode else BLOCK_BYTES)

    def create(self, full: str, content: bytes) -> None:
        """See `FileSystem`."""
        self._fs.pipe_file(full, content, mode="create")

    def rename(self, full: str, to: str) -> None:
        """See `FileSystem`. Cut off in the middle it leaves both in part: whoever calls again checks sums and goes on."""
        there = self.info(full)
        if there is None:
            raise FileNotFoundError(full)
        names = [full] if there["type"] == "file" else [entry["name"] for entry in self.files(full)]
        for name in names:
            self._fs.cp_file(name, to + name[len(full) :])
        for name in names:
            self._fs.rm_file(name)


def failures_of(url: str) -> tuple[type[Exception], ...]:
    """What the file system of this URL's scheme raises beside OSError when it does not answer or refuses."""
    match urlsplit(url).scheme:
        case "sftp" if "asyncssh" in sys.modules:
            return (sys.modules["asyncssh"].Error, ValueError)  # the latter is sshfs's, of a server without SFTP
        case "webhdfs":
            return (RuntimeError, ValueError)  # what fsspec makes of a RemoteException that it has no word for
        case "s3" if "botocore.exceptions" in sys.modules:
            found = sys.modules["botocore.exceptions"]
            return (found.BotoCoreError, found.ClientError)
    return ()


def cure_of(url: str, error: Exception) -> str:
    """What an admin can do about it; empty when the error says it."""
    chain = [each for each in (error, error.__cause__, error.__context__) if each]
    said = " ".join(f"{type(each).__name__} {each}" for each in chain)
    return next((cure for word, cure in CURES.get(urlsplit(url).scheme, {}).items() if word in said), "")


def opened(storage: Storage) -> FileSystem:
    """The file system of a site's storage. Connects, and raises OSError and what the library raises; CannotOpen for settings that
    cannot be used: a scheme, an extra or a secret that is missing."""
    options: StorageOptions = options_of(storage.url, storage.options)
    try:
        match options:
            case SftpOptions():
                return SftpFiles(storage, options)
            case WebhdfsOptions():
                return WebhdfsFiles(storage, options)
            case S3Options():
                return S3Files(storage, options)
    except SecretMissing as error:
        raise CannotOpen(str(error)) from error
    except ImportError as error:
        scheme = urlsplit(storage.url).scheme
        raise CannotOpen(f"{error.name} is not installed: pip install 'fedbroker[{scheme}]'") from error
    return LocalFiles(posixpath.normpath(unquote(urlsplit(storage.url).path)))
