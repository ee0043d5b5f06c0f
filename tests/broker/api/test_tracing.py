"""Traces of a broker in this process: requests, jobs, and collectors that are as they should not be."""

import asyncio
import logging
import sys

import pytest
from aiohttp import ClientSession

from broker.app import running_broker
from broker.client import Client
from broker.config import Settings, SettingsError, Tracing, read_settings
from broker.log import FORMATS
from broker.store.memory import MemoryStore
from tests.adapters.hostile.server import WRONG, serving
from tests.broker.api.conftest import FAST
from tests.broker.tracing.collector import collecting

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
JOB = {"name": "hello", "command": ["true"]}
STAGES = ["attempt", "collecting", "job", "pending", "placed", "queued", "running"]


@pytest.fixture
def collector():
    with collecting() as collector:
        yield collector


def tracing_to(url, **more):
    return Tracing(endpoint=url, **{"sample": 1.0, **more})


async def submitted(broker, body, **headers):
    """What the endpoint answers to a new job, or to several."""
    async with ClientSession() as session, session.post(f"{broker.url}/v1/jobs", json=body, headers=headers) as reply:
        return reply.status, await reply.json()


async def finished(broker, job):
    """The job once it has ended."""
    async with Client(broker.url) as fed:
        return await fed.wait(job)


async def with_site(federation, broker):
    async with Client(broker.url) as fed:
        await fed.put("sites", "ams", federation.site("ams"))


async def test_a_users_own_trace_goes_on_through_the_request_to_the_end_of_the_job(federation, collector):
    async with federation.broker(tracing=tracing_to(collector.url, sample=0.0)) as broker:
        await with_site(federation, broker)
        _, job = await submitted(broker, JOB, traceparent=f"00-{TRACE}-{SPAN}-01")
        await finished(broker, job["id"])
        trace = await asyncio.to_thread(collector.job, job["id"])
    by_name = {span.name: span for span in trace}
    # A sample of 0 keeps nothing of ours: it is the caller who keeps this.
    assert {span.trace for span in collector.spans} == {TRACE}
    request, whole = by_name["POST /v1/jobs"], by_name["job"]
    assert (request.parent, whole.parent) == (SPAN, request.id)
    assert request.attributes["http.response.status_code"] == 201
    assert request.attributes["http.route"] == "/v1/jobs"
    assert set(STAGES) < set(by_name)
    assert any(span.name.startswith("commit ") and span.parent == request.id for span in trace)


async def test_without_one_the_trace_of_a_job_begins_with_its_request(federation, collector):
    async with federation.broker(tracing=tracing_to(collector.url)) as broker:
        await with_site(federation, broker)
        _, job = await submitted(broker, JOB)
        await finished(broker, job["id"])
        trace = await asyncio.to_thread(collector.job, job["id"])
        me = broker.members.me.id
    (root,) = [span for span in trace if not span.parent]
    assert root.name == "POST /v1/jobs"
    assert {span.parent for span in trace} - {""} <= {span.id for span in trace}
    assert {(span.service["service.name"], span.service["service.instance.id"]) for span in trace} == {("fedbroker", me)}


async def test_jobs_of_one_request_are_traces_of_their_own(federation, collector):
    async with federation.broker(tracing=tracing_to(collector.url)) as broker:
        await with_site(federation, broker)
        _, answer = await submitted(broker, {"jobs": [JOB, JOB]})
        ids = [item["id"] for item in answer["items"]]
        for job in ids:
            await finished(broker, job)
        traces = [await asyncio.to_thread(collector.job, job) for job in ids]
    assert [sorted(span.name for span in trace) for trace in traces] == [STAGES, STAGES]
    assert traces[0][0].trace != traces[1][0].trace


@pytest.mark.parametrize("headers", [[("traceparent", f"00-{TRACE}-{SPAN}-00")], []])
async def test_what_is_not_sampled_is_not_there_at_all(federation, collector, headers):
    async with federation.broker(tracing=tracing_to(collector.url, sample=0.0)) as broker:
        await with_site(federation, broker)
        _, job = await submitted(broker, JOB, **dict(headers))
        await finished(broker, job["id"])
    assert collector.spans == []


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", "nonsense")],
        [("traceparent", "")],
        [("traceparent", f"00-{'0' * 32}-{SPAN}-01")],
        [("traceparent", "00-" + "a" * 4_000)],
        [("traceparent", f"00-{TRACE}-{SPAN}-01"), ("traceparent", f"00-{TRACE}-{SPAN}-01")],
    ],
)
async def test_a_traceparent_that_is_malformed_or_given_twice_is_as_none(federation, collector, headers):
    async with federation.broker(tracing=tracing_to(collector.url)) as broker, ClientSession() as session:
        await broker.context.world.mirror.reached(1)
        async with session.post(f"{broker.url}/v1/jobs", json=JOB, headers=headers) as reply:
            assert reply.status == 201
    spans = [span for span in collector.spans if span.name == "POST /v1/jobs"]
    assert [span.parent for span in spans] == [""]
    assert spans[0].trace != TRACE


async def test_calls_plans_and_commits_are_spans_with_site_and_kind(federation, collector):
    async with federation.broker(tracing=tracing_to(collector.url)) as broker:
        await with_site(federation, broker)
        _, answer = await submitted(broker, {"jobs": [JOB] * 5})
        for item in answer["items"]:
            await finished(broker, item["id"])
    spans = collector.spans
    (submit, *_) = [span for span in spans if span.name == "site submit"]
    assert (submit.attributes["fed.site"], submit.attributes["fed.site.kind"]) == ("ams", "process")
    placed = [span for span in spans if span.name == "plan" and span.attributes.get("fed.plan.placed")]
    assert sum(span.attributes["fed.plan.placed"] for span in placed) == 5
    below = [span for span in spans if span.parent == placed[0].id]
    assert [span.name for span in below] == ["commit /fedbroker/fed/"]


async def test_a_call_that_a_site_does_not_answer_is_an_error(federation, collector):
    async with federation.broker(tracing=tracing_to(collector.url)) as broker:
        await with_site(federation, broker)
        await asyncio.to_thread(collector.until, lambda spans: any(span.name == "site observe" for span in spans))
        federation.away.add("ams")
        await asyncio.to_thread(collector.until, lambda spans: any(span.is_error for span in spans))
    failed = next(span for span in collector.spans if span.is_error)
    assert (failed.name, failed.attributes["error.type"]) == ("site observe", "Unreachable")


async def test_words_that_are_no_unicode_cost_no_span(federation, collector):
    async with federation.broker(tracing=tracing_to(collector.url)) as broker:
        await broker.context.world.mirror.reached(1)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(broker.url.rpartition(":")[2]))
        writer.write(b"GET /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: \xff\xfe\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    (request,) = [span for span in collector.spans if span.name == "GET /v1/jobs"]
    assert request.attributes["user_agent.original"] == "??"


async def test_a_line_that_is_logged_in_a_span_has_its_ids(federation, collector):
    handler = logging.StreamHandler()
    lines = []
    handler.emit = lambda record: lines.append(FORMATS["text"]().format(record))
    logging.getLogger().addHandler(handler)
    try:
        async with federation.broker(tracing=tracing_to(collector.url)) as broker:
            with broker.context.tracer.span("plan"):
                logging.getLogger("broker").warning("inside")
            logging.getLogger("broker").warning("outside")
    finally:
        logging.getLogger().removeHandler(handler)
    inside, outside = [line for line in lines if "inside" in line or "outside" in line]
    (span,) = [span for span in collector.spans if f"trace_id={span.trace} span_id={span.id}" in inside]
    assert span.name == "plan"
    assert "trace_id" not in outside


async def test_the_token_of_a_collector_is_shown_to_it(federation, collector, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    async with federation.broker(tracing=tracing_to(collector.url, token_file=str(tmp_path / "token"))) as broker:
        await broker.context.world.mirror.reached(1)
    assert {headers["Authorization"] for headers in collector.headers} == {"Bearer secret"}


@pytest.mark.parametrize("wrong", sorted({*WRONG} - {"elsewhere"}))
async def test_a_collector_that_goes_wrong_keeps_no_job_from_its_end_and_no_broker_from_its_own(federation, wrong):
    async with serving(WRONG[wrong]) as server, asyncio.timeout(60):
        async with federation.broker(tracing=tracing_to(server.url)) as broker:
            await with_site(federation, broker)
            _, job = await submitted(broker, JOB)
            assert (await finished(broker, job["id"]))["phase"] == "succeeded"
        assert server.requests
        assert server.longest_reply < 2**24


async def test_what_a_collector_that_is_away_does_not_take_is_counted(federation, caplog):
    async with federation.broker(tracing=tracing_to("http://127.0.0.1:9")) as broker:
        await with_site(federation, broker)
        _, job = await submitted(broker, JOB)
        await finished(broker, job["id"])
    assert broker.context.metrics.registry.get_sample_value("fed_spans_total", {"outcome": "lost"}) >= len(STAGES)
    said = [record.getMessage() for record in caplog.records if "traces are lost" in record.getMessage()]
    assert len(said) == 1
    assert "http://127.0.0.1:9/v1/traces" in said[0]


async def test_what_a_collector_says_that_it_refused_is_counted_as_lost(federation):
    with collecting(refuse=1) as collector:
        async with federation.broker(tracing=tracing_to(collector.url)) as broker:
            await broker.context.world.mirror.reached(1)
        lost = broker.context.metrics.registry.get_sample_value("fed_spans_total", {"outcome": "lost"})
    assert lost == len(collector.headers)


async def test_another_leader_tells_what_the_one_before_may_not_have_told(federation, collector):
    async with federation.broker(tracing=tracing_to("http://127.0.0.1:9")) as broker:
        await with_site(federation, broker)
        _, job = await submitted(broker, {"jobs": [JOB, JOB]})
        for item in job["items"]:
            await finished(broker, item["id"])
    async with federation.broker(tracing=tracing_to(collector.url)):
        traces = [await asyncio.to_thread(collector.job, item["id"]) for item in job["items"]]
    assert [sorted(span.name for span in trace) for trace in traces] == [STAGES, STAGES]


class WithoutOtel:
    """An import hook: the extra is not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}")


@pytest.fixture
def without_otel(monkeypatch):
    for name in [*sys.modules]:
        if name.startswith(("opentelemetry", "broker.tracing.otel", "broker.tracing.sender")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutOtel(), *sys.meta_path])


@pytest.mark.usefixtures("without_otel")
async def test_a_section_without_the_extra_is_told_at_the_start_with_the_cure(federation):
    with pytest.raises(SettingsError, match=r"^tracing: .*pip install 'fedbroker\[otel\]'"):
        async with federation.broker(tracing=tracing_to("http://127.0.0.1:9")):
            pass


@pytest.mark.usefixtures("without_otel")
async def test_without_a_section_nothing_of_it_is_imported(federation):
    async with federation.broker() as broker:
        await with_site(federation, broker)
        _, job = await submitted(broker, JOB, traceparent=f"00-{TRACE}-{SPAN}-01")
        await finished(broker, job["id"])
        assert broker.context.world.jobs[job["id"]].wish.trace == ""


@pytest.mark.parametrize(
    ("section", "field"),
    [
        *(({"endpoint": wrong}, "endpoint") for wrong in ("", "127.0.0.1:4318", "grpc://a:4317", "http://", "http://a:x")),
        *(({"endpoint": wrong}, "endpoint") for wrong in ("http://me:secret@a:1", "http://a:1/?key=x", "http://a b", 4318, None)),
        *(({"endpoint": "http://a:1", "sample": wrong}, "sample") for wrong in (-0.1, 1.1, "much", float("nan"))),
        ({"sample": 1.0}, "endpoint"),
        ({"endpoint": "http://a:1", "samples": 0.1}, "samples"),
    ],
)
def test_settings_that_make_no_sense_are_told_by_their_field(section, field):
    with pytest.raises(SettingsError, match=rf"settings: tracing\.{field}: ") as told:
        read_settings(None, {"tracing": section})
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("field", ["ca_file", "token_file"])
async def test_files_that_are_not_there_are_told_at_the_start(field, federation):
    settings = Settings(**FAST, tracing=tracing_to("http://127.0.0.1:9", **{field: "/nowhere"}))
    with pytest.raises(SettingsError, match=rf"tracing\.{field}: /nowhere"):
        async with running_broker(settings, MemoryStore(federation.server)):
            pass


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://a:4318", "http://a:4318/v1/traces"),
        ("http://a:4318/", "http://a:4318/v1/traces"),
        ("https://a/otlp/v1/traces", "https://a/otlp/v1/traces"),
    ],
)
def test_an_endpoint_without_a_path_gets_that_of_otlp(endpoint, url):
    assert Tracing(endpoint=endpoint).url == url
