"""Files of HDFS, by the HTTP interface of its name nodes:
https://hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-hdfs/WebHDFS.html

Each operation may be repeated, and is, for as long as nobody answers it or a name node says that it cannot just now.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence, TypeVar  # noqa: UP035 - runs on older Pythons
from urllib.parse import quote, urlencode, urlsplit

T = TypeVar("T")
PATIENCE_S = 120.0
"""For how long an operation is repeated: name nodes take their time to take over from each other, or to start."""
PAUSE_S = 0.5
TIMEOUT_S = 60.0
BLOCK_BYTES = 1 << 20
_NEVER = (
    "AccessControlException",
    "FileAlreadyExistsException",
    "IllegalArgumentException",
    "InvalidPathException",
    "ParentNotDirectoryException",
    "PathIsNotDirectoryException",
    "DSQuotaExceededException",
    "NSQuotaExceededException",
    "SecurityException",
)
"""What HDFS says of what no repetition changes. Others pass: standby, safe mode, a lease of a writer that is gone."""


class HdfsError(Exception):
    """HDFS refused, or did not answer for too long."""


class Absent(HdfsError):
    """Nothing is there."""


@dataclass(frozen=True)
class Entry:
    """What lies in a folder, or at the path itself where `name` is empty."""

    name: str
    is_folder: bool
    size: int


class Hdfs:
    """As `user`, at one of `name_nodes` ("host:port" of their web addresses). Paths are absolute. Raises HdfsError."""

    def __init__(self, name_nodes: Sequence[str], user: str, patience_s: float = PATIENCE_S) -> None:
        self._name_nodes = list(name_nodes)
        self._user = user
        self._patience_s = patience_s

    def make_folder(self, path: str) -> None:
        """With those above it; one that is there is not an error."""
        if not self._told("PUT", path, "MKDIRS").get("boolean"):
            raise HdfsError(f"{path}: HDFS makes no folder there")

    def entries(self, path: str) -> Sequence[Entry]:
        """What is in a folder; of a file, itself. Raises Absent."""
        found = self._told("GET", path, "LISTSTATUS")["FileStatuses"]["FileStatus"]
        return [Entry(each["pathSuffix"], each["type"] == "DIRECTORY", int(each["length"])) for each in found]

    def read(self, path: str) -> bytes:
        """A small file's content. Raises Absent."""
        return self._ask("GET", path, "OPEN", lambda reply: reply.read())

    def write(self, path: str, content: bytes) -> None:
        """A small file, in place of one that is there."""
        self._ask("PUT", path, "CREATE", _content, content, {"overwrite": "true"})

    def bring(self, path: str, size: int, to: Path) -> None:
        """A file of HDFS to one here. Raises Absent."""

        def save(reply: http.client.HTTPResponse) -> None:
            got = 0
            with to.open("wb") as file:
                while True:
                    block = reply.read(BLOCK_BYTES)
                    if not block:
                        break
                    file.write(block)
                    got += len(block)
            if got != size:
                raise OSError(f"{got} of {size} bytes came")

        self._ask("GET", path, "OPEN", save)

    def store(self, source: Path, path: str) -> None:
        """A file of ours to one of HDFS, in place of one that is there. It is written under another name first: HDFS takes a file
        that is being written from its writer when somebody else begins one of that name."""
        draft = f"{path}.{os.urandom(8).hex()}"
        self._ask("PUT", draft, "CREATE", _content, source, {"overwrite": "true"})
        deadline = time.monotonic() + self._patience_s
        while not self._told("PUT", draft, "RENAME", destination=path)["boolean"]:
            if time.monotonic() > deadline:
                raise HdfsError(f"{path}: HDFS renames nothing to it")
            try:
                self.entries(draft)
            except Absent:  # an answer was lost, and it is done
                return
            self._told("DELETE", path, "DELETE")

    def take(self, path: str, content: str) -> bool:
        """Make a file that holds this, unless one is there; whether the one that is there then holds this.

        The name appears with its content, and once: a draft is renamed, and HDFS renames onto no file. It says no as well where
        an answer to the first try was lost, so that what is there decides."""
        draft = f"{path}.{os.urandom(8).hex()}"
        self.make_folder(path.rpartition("/")[0] or "/")
        self.write(draft, content.encode())
        if not self._told("PUT", draft, "RENAME", destination=path)["boolean"]:
            self._told("DELETE", draft, "DELETE")
        return self.read(path) == content.encode()

    def _told(self, method: str, path: str, operation: str, **parameters: str) -> Any:
        return self._ask(method, path, operation, _content_json, parameters=parameters)

    def _ask(
        self,
        method: str,
        path: str,
        operation: str,
        use: Callable[[http.client.HTTPResponse], T],
        body: bytes | Path | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> T:
        """What `use` makes of the reply; both again while there is none, or none to use."""
        query = urlencode({"op": operation, "user.name": self._user, **(parameters or {})})
        deadline = time.monotonic() + self._patience_s
        while True:
            url = f"http://{self._name_nodes[0]}/webhdfs/v1{quote(path)}?{query}"
            try:
                return _asked(method, url, use, body)
            except HdfsError as error:
                raise type(error)(f"{operation} {path}: {error}") from error
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
                if time.monotonic() > deadline:
                    raise HdfsError(f"{operation} {path} at {self._name_nodes[0]}: {error!r}") from error
            self._name_nodes.append(self._name_nodes.pop(0))
            time.sleep(PAUSE_S)


def _asked(method: str, url: str, use: Callable[[http.client.HTTPResponse], T], body: bytes | Path | None) -> T:
    """One try. A name node sends who reads or writes to a data node, and takes no content itself. Raises OSError for what may
    pass."""
    with closing(_connection(url)) as connection:
        connection.request(method, _target(url))
        reply = connection.getresponse()
        if reply.status != 307:
            done = _good(reply)
            if body is not None:
                raise OSError("the name node names no data node to write to")
            return use(done)
        url = str(reply.headers["Location"])
    headers = {"Content-Type": "application/octet-stream"} if body is not None else {}
    with closing(_connection(url)) as connection:
        if isinstance(body, Path):
            with body.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                connection.request(method, _target(url), file, {**headers, "Content-Length": str(size)})
                return use(_good(connection.getresponse()))
        connection.request(method, _target(url), body, headers)
        return use(_good(connection.getresponse()))


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise HdfsError(f"{url[:200]}: only plain HTTP is spoken")
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, blocksize=BLOCK_BYTES)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _good(reply: http.client.HTTPResponse) -> http.client.HTTPResponse:
    if reply.status // 100 == 2:
        return reply
    words = reply.read(1 << 16)
    try:
        told = json.loads(words)["RemoteException"]
        kind, message = str(told["exception"]), str(told["message"]).splitlines()[0][:500]
    except (ValueError, KeyError, TypeError, IndexError):
        kind, message = "", words[:200].decode("utf-8", "replace")
    if kind == "FileNotFoundException":
        raise Absent(message)
    if kind in _NEVER or reply.status == 401:
        raise HdfsError(message)
    raise OSError(f"{reply.status} {kind}: {message}")


def _content(reply: http.client.HTTPResponse) -> bytes:
    return reply.read()


def _content_json(reply: http.client.HTTPResponse) -> Any:
    return json.loads(reply.read())
