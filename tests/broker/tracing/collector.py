"""A collector of OTLP over HTTP on loopback, in a thread of its own, which keeps what it is sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Status

PATIENCE_S = 60


@dataclass(frozen=True)
class Received:
    """One span. Ids are hexadecimal, `parent` is empty for a root; times are epoch seconds."""

    trace: str
    id: str
    parent: str
    name: str
    began_at: float
    ended_at: float
    attributes: dict[str, Any]
    is_error: bool
    service: dict[str, Any]


class Collector:
    """What came, in the order in which it came. `refuse`: how many of the spans of each request it says that it refused."""

    def __init__(self, refuse: int = 0) -> None:
        self.spans: list[Received] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self._refuse = refuse
        self._news = threading.Condition()

    def until(self, is_right: Callable[[list[Received]], bool]) -> list[Received]:
        """All spans, once they are as asked for."""
        with self._news:
            is_there = self._news.wait_for(lambda: is_right(self.spans), PATIENCE_S)
            assert is_there, [(span.name, span.attributes) for span in self.spans]
            return list(self.spans)

    def job(self, job: str) -> list[Received]:
        """The trace of a job, once its last span has come, each span once."""
        of = self.until(lambda spans: any(span.name == "job" and span.attributes["fed.job.id"] == job for span in spans))
        trace = next(span.trace for span in of if span.name == "job" and span.attributes["fed.job.id"] == job)
        return list({span.id: span for span in of if span.trace == trace}.values())

    async def handle(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        received = [
            Received(
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                span.start_time_unix_nano / 1e9,
                span.end_time_unix_nano / 1e9,
                _attributes(span.attributes),
                span.status.code == Status.STATUS_CODE_ERROR,
                _attributes(of.resource.attributes),
            )
            for of in sent.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]
        with self._news:
            self.headers.append(dict(request.headers))
            self.spans += received
            self._news.notify_all()
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = self._refuse
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")


@contextmanager
def collecting(refuse: int = 0) -> Iterator[Collector]:
    """A collector for as long as the block lasts."""
    collector = Collector(refuse)
    loop, is_over, is_begun = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/traces", collector.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        is_begun.set()
        await is_over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    is_begun.wait(PATIENCE_S)
    try:
        yield collector
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
        loop.close()


def _attributes(given: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in given}
