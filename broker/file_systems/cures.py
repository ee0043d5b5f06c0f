"""What errors of storage want of an admin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Cure:
    """What an admin can do. `is_passing`: the storage may come back without any of it, so nothing is wrong with our settings."""

    words: str
    is_passing: bool = False


CURES: Mapping[str, Mapping[str, Cure]] = {
    "file": {
        "itself is not there": Cure(""),
        "PermissionError": Cure("give the broker's user the right to read and write there"),
        "FileExistsError": Cure("a file lies where a folder of ours is to be: move it away"),
        "NotADirectoryError": Cure("a file lies where a folder of ours is to be: move it away"),
        "Read-only file system": Cure("mount it so that it can be written to", is_passing=True),
        "No space left": Cure("make room there", is_passing=True),
        "Disk quota exceeded": Cure("make room there, or raise the quota", is_passing=True),
    },
    "sftp": {
        "itself is not there": Cure(""),
        "HostKeyNotVerifiable": Cure("put the login node's key into storage.options.known_hosts (ssh-keyscan -p PORT HOST)"),
        "SFTPPermissionDenied": Cure("give storage.options.user the right to read and write there"),
        "PermissionDenied": Cure("see that storage.options has the right user and key, and that the key may log in there"),
        "Can't create any SFTP": Cure("let sshd serve SFTP (Subsystem sftp in sshd_config), with MaxSessions of 10 or more"),
        "ConnectionRefusedError": Cure("see that sshd runs at the host and port of storage.url", is_passing=True),
    },
    "webhdfs": {
        "itself is not there": Cure(""),
        "standby": Cure("storage.url names a standby name node: name the active one"),
        "afe mode": Cure("the name node is in safe mode: wait, or see hdfs dfsadmin -safemode", is_passing=True),
        "Permission denied": Cure("give storage.options.user the right to read and write there"),
        "401 Client Error": Cure("see storage.options: user, password or token"),
        "InvalidToken": Cure("the delegation token in storage.options ended: renew it"),
        "Failed to resolve": Cure("name the data nodes' addresses in storage.options.data_nodes"),
        "Connection refused": Cure("see that the name node's web address is the one in storage.url, and runs", is_passing=True),
        "JSONDecodeError": Cure("is storage.url the name node's web address?"),
    },
    "s3": {
        "NoSuchBucket": Cure("make the bucket, or mend storage.url"),
        "bucket does not exist": Cure("make the bucket, or mend storage.url"),
        "InvalidAccessKeyId": Cure("see storage.options.access_key"),
        "SignatureDoesNotMatch": Cure("see storage.options.secret_key"),
        "ExpiredToken": Cure("renew storage.options.session_token"),
        "RequestTimeTooSkewed": Cure("the broker's clock and the service's differ: see that NTP sets both"),
        "Access Denied": Cure("give this key the right to list, read, write and delete below storage.url"),
        "Forbidden": Cure("see storage.options: the keys, and what they may do"),
        "locate credentials": Cure("give storage.options.access_key and secret_key"),
        "Could not connect": Cure("see storage.options.endpoint, and that it runs", is_passing=True),
    },
}
"""By scheme: a word of an error, or the name of its type, and its cure; without words where the error says it. The first that
fits counts."""


def cure_of(url: str, error: Exception) -> Cure | None:
    """What an admin can do about it, where that is known."""
    chain = [each for each in (error, error.__cause__, error.__context__) if each]
    said = " ".join(f"{type(each).__name__} {each}" for each in chain)
    return next((cure for word, cure in CURES.get(urlsplit(url).scheme, {}).items() if word in said), None)
