"""Storage in a bucket."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from broker.documents.storage import S3Options
from broker.file_systems.base import Entry, Fsspec
from topology.site import Storage

BLOCK_BYTES = 8 * 2**20
S3_PART_BYTES = 50 * 2**20
"""S3 takes 10,000 parts: files of up to 500 GB."""


class S3Files(Fsspec):
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
        """See `Fsspec`: of S3 the bucket is all that is there before anything is in it."""
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
