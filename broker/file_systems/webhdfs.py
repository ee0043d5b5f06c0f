"""Storage in HDFS."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

from broker.documents.storage import WebhdfsOptions
from broker.file_systems.base import Fsspec
from topology.site import Storage


class WebhdfsFiles(Fsspec):
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
