"""What errors of storage want of an admin."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

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


def cure_of(url: str, error: Exception) -> str:
    """What an admin can do about it; empty when the error says it."""
    chain = [each for each in (error, error.__cause__, error.__context__) if each]
    said = " ".join(f"{type(each).__name__} {each}" for each in chain)
    return next((cure for word, cure in CURES.get(urlsplit(url).scheme, {}).items() if word in said), "")
