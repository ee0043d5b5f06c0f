"""What the broker's parts trace with, and what stands there while tracing is off, which keeps nothing. Of our own it imports
`parent.py` alone, since every part imports it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Protocol

from broker.tracing.parent import Parent

Value = str | int | float | bool
MOST_MESSAGE = 200
"""Characters of what a site or an error says."""


class Kind(Enum):
    """OpenTelemetry's kinds of spans, as far as we have them."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Chapter:
    """A span of what is past, with an id that is the same whoever tells it. Times are epoch seconds. A `parent` of 0 is for none;
    `error` is None where it went well, else its kind and words."""

    id: int
    parent: int
    name: str
    began_at: float
    ended_at: float
    attributes: Mapping[str, Value]
    error: tuple[str, str] | None = None


class Span(Protocol):
    """What happens now. An exception that leaves its block makes it an error, a cancellation does not."""

    def tell(self, name: str, value: Value) -> None:
        """Add an attribute."""

    def fail(self, kind: str) -> None:
        """It is an error, of this low-cardinality kind."""


class Tracer:
    """Tracing is off. `otel.OtelTracer` is the other one."""

    is_on = False

    def span(
        self, name: str, attributes: Mapping[str, Value] | None = None, kind: Kind = Kind.INTERNAL, parent: Parent | None = None
    ) -> AbstractContextManager[Span]:
        """A span for as long as the block lasts: a child of `parent`, else of the span around it, else a trace of its own."""
        return _NOTHING

    def current(self) -> Parent | None:
        """The span around us, for those who are to go on with its trace."""
        return None

    def publish(self, trace: Parent, chapters: tuple[Chapter, ...]) -> None:
        """Export what is past. The ids are given, so that the same told twice is the same."""


class _Nothing:
    """A span that nobody keeps: one for all."""

    __slots__ = ()

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def tell(self, name: str, value: Value) -> None:
        """See Span."""

    def fail(self, kind: str) -> None:
        """See Span."""


_NOTHING = _Nothing()
OFF = Tracer()
