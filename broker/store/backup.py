"""All records of a federation in one file, and back into an empty store.

Lines of JSON: a head, a line for each record, and a foot that tells how many there were and their digest, so that a part is
never taken for the whole. What hangs on leases (members, who leads, who owns) is left out: it means nothing elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from broker.records import Restore
from broker.store import codec
from broker.store import keys as kinds
from broker.store.base import Listing, Put, Rejected, Saved, Store
from broker.store.keys import Keys

FORMAT = 1
LEASED = (kinds.MEMBERS, kinds.LEADER, kinds.OWNERS)
TOGETHER = 500
"""Records in one call of the store."""
LIFT_MARGIN = 1_000_000
MOST_REVISIONS_PER_S = 10_000
"""No etcd makes more: by so many a second since the backup, epochs may have grown that sites have seen."""


class BackupError(Exception):
    """A file that is no whole backup, or a store that is not fit to take it; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One that was read. `records` by keys without the federation's prefix."""

    federation: str
    revision: int
    made_at: float
    records: dict[str, bytes]


def lines_of(listing: Listing, keys: Keys, made_at: float) -> Iterator[bytes]:
    """The file of a backup, line by line; `made_at` in epoch seconds."""
    told = {"federation": keys.federation, "revision": listing.revision, "made_at": made_at}
    head = _line({"fedbroker": "backup", "format": FORMAT, **told})
    yield head
    digest, count = hashlib.sha256(head), 0
    for record in listing.records:
        if keys.split(record.key)[0] in LEASED:
            continue
        line = _line({"key": record.key.removeprefix(keys.prefix), **_value(record.value)})
        digest.update(line)
        count += 1
        yield line
    yield _line({"records": count, "sha256": digest.hexdigest()})


def read_backup(path: Path) -> Backup:
    """Raises BackupError for what is not a backup, or not all of one, and OSError."""
    with path.open("rb") as file:
        try:
            return _read(file)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupError(f"{path}: no backup of a federation, or not all of one: {error}") from error


async def restore(store: Store, keys: Keys, backup: Backup, now: float) -> int:
    """Write a backup's records into a store that has none of the federation, or only what a restore of the same backup that was
    cut off has written; how many are there then. First of all comes the note that makes every broker wait for `fed resume`, with
    epochs above those that sites may have seen, and last that it is whole: before, nobody can resume. Raises BackupError and
    StoreError."""
    if backup.federation != keys.federation:
        raise BackupError(f"it is of federation {backup.federation}, and the settings are of {keys.federation}")
    listing = await store.read(keys.prefix)
    held = {record.key: record.value for record in listing.records}
    records = {keys.prefix + key: value for key, value in backup.records.items() if key != kinds.RESTORE}
    if held:
        _check_begun(held, records, keys)
    else:
        note = _note(backup, listing.revision, now)
        await _put(store, [Put(keys.of(kinds.RESTORE), codec.encode(note), 0)])
    puts = [Put(key, value, 0) for key, value in records.items() if key not in held]
    for first in range(0, len(puts), TOGETHER):
        await _put(store, puts[first : first + TOGETHER])
    (record,) = await store.get([keys.of(kinds.RESTORE)])
    if record is not None:
        whole = replace(codec.decode(kinds.RESTORE, record.value), is_whole=True)
        await _put(store, [Put(record.key, codec.encode(whole), record.revision)])
    return len(records)


def _check_begun(held: Mapping[str, bytes], records: Mapping[str, bytes], keys: Keys) -> None:
    """Raise BackupError for a store that is neither empty nor what a restore of these records left when it was cut off."""
    try:
        note = codec.decode(kinds.RESTORE, held[keys.of(kinds.RESTORE)])
        is_ours = not note.is_whole and all(held.get(key, value) == value for key, value in records.items())
    except (KeyError, codec.Unreadable):
        is_ours = False
    if not is_ours:
        raise BackupError(f"the store holds {len(held)} records of federation {keys.federation}: restore into an empty one")


def _note(backup: Backup, found: int, now: float) -> Restore:
    earlier = backup.records.get(kinds.RESTORE)
    try:
        lifted = codec.decode(kinds.RESTORE, earlier).lift if earlier else 0
    except codec.Unreadable as error:
        raise BackupError(f"its record of an earlier restore, with how far epochs have grown, cannot be read: {error}") from error
    since = int(max(now - backup.made_at, 0.0) * MOST_REVISIONS_PER_S)
    lift = backup.revision + lifted + since + LIFT_MARGIN
    return Restore(backup.revision, found, now, "fed restore", lift, is_whole=False)


async def _put(store: Store, puts: Sequence[Put]) -> None:
    for put, result in zip(puts, await store.commit([[put] for put in puts]), strict=True):
        if isinstance(result, Rejected):
            raise BackupError(f"{put.key} cannot be written: {result.reason}")
        if not isinstance(result, Saved):
            raise BackupError(f"{put.key} was written by somebody else: is another restore at work on this store?")


def _read(file: IO[bytes]) -> Backup:
    first = file.readline()
    head = json.loads(first)
    if head["fedbroker"] != "backup" or head["format"] != FORMAT:
        raise ValueError(f"its format is {head['format']}, and {FORMAT} can be read")
    records: dict[str, bytes] = {}
    digest = hashlib.sha256(first)
    for line in file:
        found = json.loads(line)
        if "sha256" in found:
            if (found["records"], found["sha256"]) != (len(records), digest.hexdigest()):
                raise ValueError("its records are not those that it ends with")
            return Backup(head["federation"], head["revision"], head["made_at"], records)
        digest.update(line)
        records[found["key"]] = base64.b64decode(found["base64"]) if "base64" in found else found["value"].encode()
    raise ValueError("its end is missing")


def _value(raw: bytes) -> dict[str, str]:
    """As text where it is, so that a backup can be read by people."""
    try:
        return {"value": raw.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
