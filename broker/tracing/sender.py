"""Spans to a collector, by OTLP over HTTP. Called by the SDK's thread, which may wait; the requests are the event loop's, so that
no answer is waited for too long, however slowly it trickles, and none is read that has no end."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from broker.config import SettingsError, Tracing, read_secret
from broker.metrics import Metrics
from broker.tls import trusting

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT_S = 5.0
PAUSES_S = (1.0, 2.0, 4.0)
"""Before each further try, where OTLP lets one try again. Others wait meanwhile."""
LAST_S = 3.0
"""How long what waits may take when the broker ends."""
GRACE_S = 1.0
MOST_ANSWER = 65_536
"""Bytes of an answer that are looked at."""
AGAIN = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
"""What OTLP calls retryable; so is no answer."""


class _Failed(Exception):
    """The collector has not taken it; `may_again` says whether it may yet."""

    def __init__(self, words: str, may_again: bool) -> None:
        super().__init__(words)
        self.may_again = may_again


class Sender(SpanExporter):
    """To one collector. What it does not take is lost: counted, and told when it begins and when it is over."""

    def __init__(self, session: ClientSession, url: str, metrics: Metrics) -> None:
        self._session = session
        self._url = url
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._is_ending = threading.Event()
        self._until = math.inf
        self._is_failing = False

    @staticmethod
    @asynccontextmanager
    async def to(settings: Tracing, metrics: Metrics) -> AsyncIterator[Sender]:
        """As the settings say. Raises SettingsError."""
        headers = {"Content-Type": "application/x-protobuf"}
        if settings.token_file:
            headers["Authorization"] = f"Bearer {_said_of('token_file', read_secret, settings.token_file)}"
        authority = _said_of("ca_file", trusting, settings.ca_file) if settings.ca_file else True
        connector = TCPConnector(ssl=authority)
        async with ClientSession(
            connector=connector, headers=headers, cookie_jar=DummyCookieJar(), auto_decompress=False
        ) as session:
            yield Sender(session, settings.url, metrics)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; in a thread that may wait."""
        body = encode_spans(spans).SerializeToString()
        for pause in (*PAUSES_S, None):
            try:
                refused, words = self._ask(body)
            except _Failed as failed:
                if failed.may_again and pause is not None and not self._is_ending.wait(pause):
                    continue
                refused, words = len(spans), str(failed)
            self._metrics.spans.labels("sent").inc(len(spans) - refused)
            self._metrics.spans.labels("lost").inc(refused)
            self._say(words)
            return SpanExportResult.FAILURE if refused else SpanExportResult.SUCCESS
        raise AssertionError("the last try has no pause behind it")

    def hurry(self) -> None:
        """The broker ends: no further tries, and LAST_S for all."""
        self._until = time.monotonic() + LAST_S
        self._is_ending.set()

    def shutdown(self) -> None:
        """See SpanExporter; the session is ended by whoever began it."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See SpanExporter: nothing waits here."""
        return True

    def _ask(self, body: bytes) -> tuple[int, str]:
        """How many of the spans were refused, and why. Raises _Failed."""
        timeout_s = min(TIMEOUT_S, self._until - time.monotonic())
        if timeout_s <= 0:
            raise _Failed("the broker ended before it answered", may_again=False)
        asked = asyncio.run_coroutine_threadsafe(self._post(body, timeout_s), self._loop)
        try:
            return asked.result(timeout_s + GRACE_S)
        except (TimeoutError, CancelledError) as error:
            asked.cancel()
            raise _Failed("no answer in time", may_again=True) from error

    async def _post(self, body: bytes, timeout_s: float) -> tuple[int, str]:
        timeout = ClientTimeout(total=timeout_s)
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False, timeout=timeout) as reply:
                if reply.status != HTTPStatus.OK:
                    raise _Failed(f"it answers {reply.status}", reply.status in AGAIN)
                return _refused(await _beginning(reply))
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            raise _Failed(str(error) or "no answer in time", may_again=True) from error

    def _say(self, words: str) -> None:
        if bool(words) == self._is_failing:
            return
        self._is_failing = bool(words)
        if words:
            log.warning("traces are lost: %s does not take them: %s", self._url, words)
        else:
            log.info("traces are taken again by %s", self._url)


def _said_of(field: str, read: Callable[[str], T], path: str) -> T:
    """What a file of the settings holds. Raises SettingsError, which names the field."""
    try:
        return read(path)
    except SettingsError as error:
        raise SettingsError(f"tracing.{field}: {error}") from error


async def _beginning(reply: ClientResponse) -> bytes:
    content = bytearray()
    async for part in reply.content.iter_any():
        content += part
        if len(content) > MOST_ANSWER:
            break
    return bytes(content[:MOST_ANSWER])


def _refused(answer: bytes) -> tuple[int, str]:
    """How many spans a collector that took the others says that it refused, and why. One that says no such thing took all."""
    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:
        return 0, ""
    refused = max(partial.rejected_spans, 0)
    return refused, (partial.error_message or "some of them are refused") if refused else ""
