"""Spans by OpenTelemetry's SDK: batched in a queue with an end, sent by a thread of its own. Only this and `sender.py` need the
extra `otel`. Nothing here is global: two brokers in one process trace apart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType

from opentelemetry import context as current_context
from opentelemetry.context import Context as OtelContext
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from broker.config import Tracing
from broker.metrics import Metrics
from broker.tracing.parent import Parent
from broker.tracing.sender import Sender
from broker.tracing.tracer import MOST_MESSAGE, Chapter, Kind, Tracer, Value

QUEUE = 16_384
"""Spans that wait; past that the oldest are lost."""
TOGETHER = 512
EVERY_MS = 1_000.0
LIMITS = SpanLimits(max_span_attribute_length=1_000)
SCOPE = "fedbroker"
_KINDS = {Kind.INTERNAL: SpanKind.INTERNAL, Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT}


class OtelTracer(Tracer):
    """Tracing is on."""

    is_on = True

    def __init__(self, sample: float, sender: Sender, about: Mapping[str, str]) -> None:
        resource = Resource.create(dict(about))
        self._queue = BatchSpanProcessor(sender, QUEUE, EVERY_MS, TOGETHER)
        self._ids = _GivenIds()
        self._live = self._provider(resource, ParentBased(TraceIdRatioBased(sample)), RandomIdGenerator()).get_tracer(SCOPE)
        self._past = self._provider(resource, ALWAYS_ON, self._ids).get_tracer(SCOPE)

    def span(
        self, name: str, attributes: Mapping[str, Value] | None = None, kind: Kind = Kind.INTERNAL, parent: Parent | None = None
    ) -> _Live:
        """See Tracer."""
        around = _below(parent) if parent else None
        return _Live(self._live.start_span(name, around, _KINDS[kind], _sendable(attributes or {})))

    def current(self) -> Parent | None:
        """See Tracer."""
        found = get_current_span().get_span_context()
        return Parent(found.trace_id, found.span_id, found.trace_flags.sampled) if found.is_valid else None

    def publish(self, trace: Parent, chapters: tuple[Chapter, ...]) -> None:
        """See Tracer."""
        for chapter in chapters:
            self._ids.trace_id, self._ids.span_id = trace.trace_id, chapter.id
            above = _below(Parent(trace.trace_id, chapter.parent, True)) if chapter.parent else OtelContext()
            began = _nanoseconds(chapter.began_at)
            span = self._past.start_span(chapter.name, above, attributes=_sendable(chapter.attributes), start_time=began)
            if chapter.error:
                kind, words = chapter.error
                span.set_attribute("error.type", kind)
                span.set_status(Status(StatusCode.ERROR, _text(words)))
            span.end(_nanoseconds(chapter.ended_at))

    def drain(self) -> None:
        """Send what waits, and end. Blocks until the sender has done with it."""
        self._queue.shutdown()  # type: ignore[no-untyped-call]  # theirs has no annotation

    def _provider(self, resource: Resource, sampler: Sampler, ids: IdGenerator) -> TracerProvider:
        provider = TracerProvider(sampler, resource, shutdown_on_exit=False, id_generator=ids, span_limits=LIMITS)
        provider.add_span_processor(self._queue)
        return provider


class SpanIds(logging.Filter):
    """Gives each log line of a span its ids, by the names of OpenTelemetry's "Trace Context in non-OTLP Log Formats"."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every line through."""
        found = get_current_span().get_span_context()
        if found.is_valid and found.trace_flags.sampled:
            record.trace_id, record.span_id = f"{found.trace_id:032x}", f"{found.span_id:016x}"
        return True


@asynccontextmanager
async def otel_tracer(settings: Tracing, about: Mapping[str, str], metrics: Metrics) -> AsyncIterator[OtelTracer]:
    """A tracer for as long as the block lasts; what waits when it ends is sent, if the collector takes it soon. Raises
    SettingsError."""
    ids, handlers = SpanIds(), list(logging.getLogger().handlers)
    async with Sender.to(settings, metrics) as sender:
        tracer = OtelTracer(settings.sample, sender, about)
        for handler in handlers:
            handler.addFilter(ids)
        try:
            yield tracer
        finally:
            for handler in handlers:
                handler.removeFilter(ids)
            sender.hurry()
            await asyncio.to_thread(tracer.drain)


class _Live:
    """A span that is current while its block lasts."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def __enter__(self) -> _Live:
        self._token = current_context.attach(set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        current_context.detach(self._token)
        if kind is not None and issubclass(kind, Exception):
            self.fail(kind.__name__, str(error))
        self._span.end()

    def tell(self, name: str, value: Value) -> None:
        """See Span."""
        self._span.set_attribute(name, _text(value) if isinstance(value, str) else value)

    def fail(self, kind: str, words: str = "") -> None:
        """See Span."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, _text(words[:MOST_MESSAGE]) or None))


class _GivenIds(IdGenerator):
    """The ids of the span that is made next."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        """See IdGenerator."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """See IdGenerator."""
        return self.span_id


def _below(parent: Parent) -> OtelContext:
    """The context of a span's children."""
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    context = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(context), OtelContext())


def _nanoseconds(at: float) -> int:
    return round(at * 1e6) * 1_000


def _sendable(attributes: Mapping[str, Value]) -> Mapping[str, Value]:
    return {name: _text(value) if isinstance(value, str) else value for name, value in attributes.items()}


def _text(words: str) -> str:
    """What callers and sites say may be no Unicode: it would cost all spans that are sent with it."""
    return words if words.isascii() else words.encode(errors="replace").decode()
