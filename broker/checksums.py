"""The checksum of a dataset, wherever it is worked out: by who sends it, by who takes it in, and at a site.

It is `sha256:` and the SHA-256 of, for each file in the order of its relative path: the path, a zero byte, and the 32 bytes of
the file's own SHA-256. A dataset that is a single file has the empty path. Empty folders do not count. To Linux a name is bytes:
one that is no text is kept as it is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping


def checksum_of(digests: Mapping[str, bytes]) -> str:
    """By relative path the SHA-256 of each file."""
    tree = hashlib.sha256()
    for name in sorted(digests):
        tree.update(os.fsencode(name) + b"\0" + digests[name])
    return f"sha256:{tree.hexdigest()}"
