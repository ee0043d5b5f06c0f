"""The trace of a job on sites of real processes, with data to bring, through a kill of the broker in its middle."""

import json
import urllib.request

import pytest

from tests.broker.tracing.collector import collecting
from tests.journeys.places import CORPUS, declare

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector():
    with collecting() as collector:
        yield collector


@pytest.fixture
def settings(collector):
    return {"tracing": f"{{endpoint: '{collector.url}', sample: 1.0}}"}


def submit(up, body):
    """A job from within a trace of the user's."""
    headers = {"Content-Type": "application/json", "traceparent": f"00-{TRACE}-{SPAN}-01"}
    asked = urllib.request.Request(f"{up.url}/v1/jobs", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked) as reply:
        return json.loads(reply.read())["id"]


def test_a_job_whose_broker_is_killed_in_the_middle_is_one_whole_trace(up, collector, tmp_path):
    (tmp_path / "ams/corpus").mkdir(parents=True)
    (tmp_path / "ams/corpus/a.txt").write_text("one two\n")
    declare(up, tmp_path, CORPUS)
    go = tmp_path / "go"
    command = f"while [ ! -e {go} ]; do sleep 0.1; done; cat $FED_INPUTS/corpus/* > $FED_OUTPUTS/words/all"
    job = submit(
        up,
        {
            "name": "waits",
            "command": ["sh", "-c", command],
            "inputs": [{"dataset": "corpus"}],
            "outputs": [{"dataset": "words"}],
            "sites": {"require": {"site": "fra"}},
        },
    )
    collector.until(lambda spans: any(span.name == "queued" for span in spans))
    assert not any(span.name == "running" for span in collector.spans)
    up.kill()
    go.touch()
    up.start()
    trace = {span.name: span for span in collector.job(job)}
    assert {span.trace for span in trace.values()} == {TRACE}
    assert (trace["POST /v1/jobs"].parent, trace["job"].parent) == (SPAN, trace["POST /v1/jobs"].id)
    assert (trace["pending"].parent, trace["attempt"].parent) == (trace["job"].id,) * 2
    stages = ["staging", "placed", "queued", "running", "collecting"]
    assert [trace[name].parent for name in stages] == [trace["attempt"].id] * len(stages)
    # Each begins where the one before has ended, but that a site may start a run before we have its word that it took it.
    begun = {name: trace[name].began_at for name in stages}
    ends = dict(zip(stages, (trace[name].ended_at for name in ["pending", *stages[:-1]]), strict=True))
    assert begun.pop("running") <= ends.pop("running")
    assert begun == ends
    whole = trace["job"]
    assert (whole.began_at, whole.ended_at) == (trace["pending"].began_at, trace["collecting"].ended_at)
    assert {trace[name].attributes["fed.site"] for name in stages} == {"fra"}
    assert trace["POST /v1/jobs"].service["service.instance.id"] != trace["job"].service["service.instance.id"]
