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

from broker.file_systems.base import CannotOpen, Entry, FileSystem
from broker.file_systems.cures import Cure, cure_of
from broker.file_systems.opening import failures_of, opened

__all__ = ["CannotOpen", "Cure", "Entry", "FileSystem", "cure_of", "failures_of", "opened"]
