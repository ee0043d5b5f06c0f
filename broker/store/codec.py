"""Records to bytes and back: JSON with a format version.

A newer broker may have written fields that this one does not know, at any depth; they are kept when this one writes the record
again. So a field may be added without a new format, and brokers of both versions may work side by side. A field without which
a record means something else, or that a format's first brokers would drop, takes a new format: each record is written in the
oldest that can say it, and one in a format that a broker does not read is left alone by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    Traced,
    Unresolved,
)
from broker.store import keys
from topology.dataset import Dataset, Replica
from topology.link import Link
from topology.site import Site

FORMATS = (1, 2, 3)
"""The formats this code reads. The second one has labels of jobs, and their working directories; the third what bounds where jobs
and data may go, or lets jobs give way: an older broker would place them regardless."""

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
    keys.TRACED: Traced,
}
"""What each kind of record holds."""


class Unreadable(Exception):
    """Bytes that are no record of the kind, or of a format this code does not read."""


_ADAPTERS: Mapping[type[Any], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in TYPES.values()}

_OPENS = tuple(b'{"v":%d,' % number for number in FORMATS)


def encode(value: object, over: bytes | None = None) -> bytes:
    """The bytes of a record. `over` is what it replaces, given where `read` said that it holds more: that is kept."""
    encoded = _dumped(value)
    if over is None:
        return encoded
    known = _dumped(_ADAPTERS[type(value)].validate_json(over))
    whole = _with_unknown(json.loads(encoded), json.loads(over), json.loads(known))
    return json.dumps(whole, separators=(",", ":")).encode()


def _dumped(value: object) -> bytes:
    body: bytes = _ADAPTERS[type(value)].dump_json(value, exclude_defaults=True)
    number = _format_for(value)
    return _OPENS[number - 1] + body[1:] if body != b"{}" else b'{"v":%d}' % number


def _format_for(value: object) -> int:
    """The oldest format that can say it."""
    if isinstance(value, Dataset):
        return 3 if value.regions else 1
    spec = value.spec if isinstance(value, Wish) else value
    if isinstance(spec, JobSpec) and _is_bounded(spec):
        return 3
    is_new = (isinstance(value, Wish) and value.labels) or (isinstance(spec, JobSpec) and spec.workdir)
    return 2 if is_new else 1


def _is_bounded(spec: JobSpec) -> bool:
    rules = spec.sites
    return bool(spec.preemptible or spec.max_cost or rules.prefer or rules.affinity or rules.spread)


def _with_unknown(new: Any, old: Any, known: Any) -> Any:
    """`new` with what `old` holds beyond `known`, which is `old` as we read it."""
    if isinstance(new, dict) and isinstance(old, dict) and isinstance(known, dict):
        kept = {name: item for name, item in old.items() if name not in known}
        both = new.keys() & known.keys()
        return {**kept, **new, **{name: _with_unknown(new[name], old[name], known[name]) for name in both if name in old}}
    if isinstance(new, list) and isinstance(old, list) and isinstance(known, list):
        left = list(zip(old, known, strict=True))
        return [_with_unknown(item, *_before(item, left)) for item in new]
    return new


def _before(item: Any, left: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """What an item of a list was, with how it was read; taken out of `left`. It is the one that is equal, else the first whose
    first field is, such as an attempt's number."""
    for is_same in (lambda known: known == item, lambda known: isinstance(item, dict) and _first(known) == _first(item)):
        for position, (_, known) in enumerate(left):
            if is_same(known):
                return left.pop(position)
    return None, None


def _first(item: Any) -> object:
    return next(iter(item.items()), None) if isinstance(item, dict) else None


def decode(kind: str, raw: bytes) -> Any:
    """The value of a record of `kind` (see `TYPES`). Raises Unreadable."""
    return read(kind, raw)[0]


def read(kind: str, raw: bytes) -> tuple[Any, bool]:
    """The value, and whether the bytes may hold more than it. Raises Unreadable."""
    adapter = _ADAPTERS[TYPES[kind]]
    if raw.startswith(_OPENS):
        try:
            return adapter.validate_json(b"{" + raw[len(_OPENS[0]) :], extra="forbid"), False
        except ValidationError:
            pass  # more than we know, or no record at all: told apart below
    elif _format_of(raw) not in FORMATS:
        raise Unreadable(f"{kind}: format {_format_of(raw)} is none of {FORMATS}: written by a newer broker")
    try:
        return adapter.validate_json(raw), True
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Unreadable(f"{'.'.join(map(str, first['loc'])) or kind}: {first['msg']}") from error


def is_newer(raw: bytes) -> bool:
    """Whether a newer broker wrote these bytes, in a format that this code does not read."""
    written = _format_of(raw)
    return isinstance(written, int) and written > max(FORMATS)


def _format_of(raw: bytes) -> object:
    return _object(raw).get("v")


def _object(raw: bytes) -> Mapping[str, object]:
    """What the bytes say, as far as they are a record at all."""
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
