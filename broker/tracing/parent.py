"""W3C's `traceparent`: by which a trace goes on from one program to the next (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADER = "traceparent"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class Parent:
    """A trace, the span in it that comes before, and whether whoever began the trace keeps it. A `span_id` of 0 is for none."""

    trace_id: int
    span_id: int
    is_sampled: bool

    @property
    def header(self) -> str:
        """As `parse` reads it. Of the flags only whether it is sampled is passed on, as W3C wants of what one does not know."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.is_sampled):02x}"


def parse(header: str) -> Parent | None:
    """What a `traceparent` says; None for one that is malformed, which W3C wants taken for none. Of later versions as much is
    read as is known."""
    found = _FORM.fullmatch(header.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Parent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))
