"""Records to bytes and back: JSON with a format version.

A newer broker may have written fields that this one does not know; they are kept when this one writes the record again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from broker.jobs.model import JobSpec, JobState, Wish
from broker.records import (
    Audit,
    Booking,
    Holder,
    LinkStatus,
    Member,
    PageKey,
    Pause,
    Restore,
    SiteStatus,
    Submission,
    Tenant,
    Unresolved,
)
from broker.store import keys
from topology.dataset import Dataset, Replica
from topology.link import Link
from topology.site import Site

FORMAT = 1
"""The format this code writes. Read are `FORMATS`."""

FORMATS = (1,)

TYPES: Mapping[str, type[Any]] = {
    keys.SITES: Site,
    keys.SITE_STATUS: SiteStatus,
    keys.LINKS: Link,
    keys.LINK_STATUS: LinkStatus,
    keys.DATASETS: Dataset,
    keys.REPLICAS: Replica,
    keys.TENANTS: Tenant,
    keys.SPECS: JobSpec,
    keys.WISHES: Wish,
    keys.STATES: JobState,
    keys.BOOKINGS: Booking,
    keys.UNRESOLVED: Unresolved,
    keys.SUBMISSIONS: Submission,
    keys.MEMBERS: Member,
    keys.LEADER: Holder,
    keys.OWNERS: Holder,
    keys.RESTORE: Restore,
    keys.PAGE_KEY: PageKey,
    keys.PAUSE: Pause,
    keys.AUDIT: Audit,
}
"""What each kind of record holds."""


class Unreadable(Exception):
    """Bytes that are no record of the kind, or of a format this code does not read."""


_ADAPTERS: Mapping[type[Any], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in TYPES.values()}

_OPEN = b'{"v":%d,' % FORMAT


def encode(value: object, over: bytes | None = None) -> bytes:
    """The bytes of a record. `over` is what it replaces: fields there that we do not know are kept."""
    body: bytes = _ADAPTERS[type(value)].dump_json(value, exclude_defaults=True)
    encoded = _OPEN + body[1:] if body != b"{}" else b'{"v":%d}' % FORMAT
    if over is None or over.startswith(_OPEN):
        return encoded
    known = {"v", *_field_names(type(value))}
    kept = {name: item for name, item in _object(over).items() if name not in known}
    return json.dumps({**json.loads(encoded), **kept}).encode() if kept else encoded


def decode(kind: str, raw: bytes) -> Any:
    """The value of a record of `kind` (see `TYPES`). Raises Unreadable."""
    if not raw.startswith(_OPEN) and _format_of(raw) not in FORMATS:
        raise Unreadable(f"{kind}: format {_format_of(raw)} is none of {FORMATS}: written by a newer broker")
    try:
        return _ADAPTERS[TYPES[kind]].validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Unreadable(f"{'.'.join(map(str, first['loc'])) or kind}: {first['msg']}") from error


def is_newer(raw: bytes) -> bool:
    """Whether a newer broker wrote these bytes, in a format that this code does not read."""
    written = _format_of(raw)
    return isinstance(written, int) and written > FORMAT


def _format_of(raw: bytes) -> object:
    return _object(raw).get("v")


def _object(raw: bytes) -> Mapping[str, object]:
    """What the bytes say, as far as they are a record at all."""
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _field_names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
