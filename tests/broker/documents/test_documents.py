"""What people write, and what it means: the examples are taken, and what is shown can be handed in again."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.documents import (
    DatasetBody,
    DocumentError,
    JobBody,
    LinkBody,
    SiteBody,
    TenantBody,
    body_of,
    dataset_of,
    job_of,
    link_of,
    parse_documents,
    parse_json,
    site_of,
    tenant_of,
)
from broker.documents.fields import seconds_of
from broker.errors import Fault, Invalid
from broker.jobs.model import Ending, GpuRequest, Weights
from broker.records import Quota, Tenant
from tests.broker.documents.examples import JOB, SITE
from topology.dataset import DatasetId, Replica

CONFIGS = Path(__file__).parents[3] / "configs"
MINIMAL = {
    SiteBody: {
        "name": "ams",
        "engine": {"kind": "process"},
        "pools": [{"name": "cpu", "nodes": 2, "per_node": {"cpus": 4, "memory_gib": 8}}],
        "storage": {"url": "file:///srv/ams"},
    },
    LinkBody: {"from": "ams", "to": "fra", "bandwidth_gbps": 1},
    DatasetBody: {"name": "corpus", "replicas": [{"site": "ams", "path": "corpus/"}]},
    TenantBody: {"name": "vision"},
}


def pinned(tenant, dataset, version):
    """As if every dataset were there."""
    return DatasetId(tenant, dataset, version or "1")


def job(**fields):
    return parse_json(JobBody, json.dumps({**JOB, **fields}).encode())


def test_the_example_federation_means_what_it_says():
    documents = parse_documents((CONFIGS / "federation.example.yaml").read_text())
    bodies = {type(each.body): each.body for each in documents}
    assert [f"{each.kind} {each.name}" for each in documents] == [
        "Site ams", "Site fra", "Link ams:fra", "Dataset corpus@1", "Tenant research", "Tenant vision",
    ]  # fmt: skip
    site = site_of(documents[0].body)
    assert (site.fabric.has_rdma, site.storage.file_systems, site.price.gpu_hour["a100"]) == (True, ("lustre",), 2.1)
    assert (site.pools[0].per_node.cpus, site.pools[0].power.gpu_w, site.location.lat) == (4, 300, 52.4)
    link = link_of(bodies[LinkBody])
    assert (link.name, link.bandwidth_gbps, link.latency_ms, link.price_per_gib) == ("ams:fra", 10, 9, 0.02)
    assert tenant_of(bodies[TenantBody]) == Tenant("vision", 10_000, parent="research")
    dataset, replicas = dataset_of(bodies[DatasetBody], now=5.0)
    assert (str(dataset.id), dataset.size_bytes, dataset.created_at) == ("default/corpus@1", None, 5.0)
    assert replicas == (Replica(dataset.id, "ams", "corpus"),)


def test_the_example_job_means_what_it_says():
    (document,) = parse_documents((CONFIGS / "job.example.yaml").read_text(), default_kind="Job")
    name, spec = job_of(document.body, pinned)
    assert (name, spec.run_time_s, spec.walltime_s, spec.max_wait_s) == ("count-words", 120.0, 600.0, 7200.0)
    assert spec.deadline_s == 6 * 3600
    assert spec.objective == Weights(hours=1.0)
    assert spec.retry.reasons == (Ending.SITE_LOST, Ending.NODE_LOST)
    assert spec.resources.gpus == GpuRequest(0, ("a100", "h100"))
    assert (spec.sites.regions, spec.sites.exclude, spec.sites.fabric) == (("eu-west",), ("osl",), "rdma")
    assert spec.inputs == (DatasetId("vision", "corpus", "1"),)


@pytest.mark.parametrize("path", sorted((CONFIGS / "demo").glob("*.yaml")), ids=lambda path: path.name)
def test_the_demos_documents_are_taken(path):
    text = path.read_text()
    for placeholder, value in {"part": "net", "other": "am", "objective": "greenest", "dir": "/srv", "journal": "/srv/j"}.items():
        text = text.replace(f"@{placeholder}@", value)
    assert parse_documents(text, default_kind="Job")


def test_words_of_yaml_1_1_are_text():
    (document,) = parse_documents(SITE.replace("ams\n", "no\n", 1) + "region: on\n")
    assert (document.body.name, document.body.region) == ("no", "on")


def test_numbers_are_read_by_yaml_1_2():
    (document,) = parse_documents("kind: Tenant\nname: a\nmax_pending: 012\n---\n# nothing here\n")
    assert document.body.max_pending == 12
    assert [each.body.max_pending for each in parse_documents(
        "kind: Tenant\nname: a\nmax_pending: 0o14\n---\nkind: Tenant\nname: b\nmax_pending: 0x0C"
    )] == [12, 12]  # fmt: skip


@pytest.mark.parametrize("objective", ["fastest", "cheapest", "greenest", {"hours": 1, "money": 0.5, "carbon_kg": 0}])
def test_an_objective_is_a_word_or_weights(objective):
    _, spec = job_of(job(objective=objective), pinned)
    expected = {
        "fastest": Weights(1.0, 0.0, 0.0),
        "cheapest": Weights(0.001, 1.0, 0.0),
        "greenest": Weights(0.001, 0.0, 1.0),
    }
    assert spec.objective == (expected[objective] if isinstance(objective, str) else Weights(1.0, 0.5, 0.0))
    assert body_of(spec, name="count")["objective"] == objective


@pytest.mark.parametrize(
    ("reference", "asked"),
    [
        ({"dataset": "corpus"}, ("vision", "corpus", None)),
        ({"dataset": "corpus", "version": "2"}, ("vision", "corpus", "2")),
        ({"dataset": "corpus@2"}, ("vision", "corpus", "2")),
        ({"dataset": "default/corpus@2"}, ("default", "corpus", "2")),
    ],
)
def test_an_input_is_looked_up_by_tenant_name_and_version(reference, asked):
    questions = []

    def resolve(*question):
        questions.append(question)
        return DatasetId("vision", "corpus", "2")

    _, spec = job_of(job(tenant="vision", inputs=[reference]), resolve)
    assert (questions, spec.inputs) == ([asked], (DatasetId("vision", "corpus", "2"),))


def test_every_input_that_nobody_has_is_told_with_its_field():
    def resolve(tenant, dataset, version):
        if dataset != "corpus":
            raise Invalid(faults=[Fault("inputs", f"no dataset {dataset}")])
        return DatasetId(tenant, dataset, "1")

    with pytest.raises(DocumentError) as error:
        job_of(job(inputs=[{"dataset": "a"}, {"dataset": "corpus"}, {"dataset": "b"}]), resolve)
    assert [(each.field, each.message) for each in error.value.faults] == [
        ("inputs.0.dataset", "no dataset a"), ("inputs.2.dataset", "no dataset b"),
    ]  # fmt: skip


@pytest.mark.parametrize("model", MINIMAL, ids=lambda model: model.__name__)
def test_what_is_shown_can_be_put_again(model):
    body = parse_json(model, json.dumps(MINIMAL[model]).encode())
    to = {SiteBody: site_of, LinkBody: link_of, TenantBody: tenant_of, DatasetBody: lambda body: dataset_of(body, 0.0)}[model]
    value = to(body)
    shown = body_of(*value) if isinstance(value, tuple) else body_of(value)
    assert to(parse_json(model, json.dumps(shown).encode())) == value


def test_quotas_are_shown_as_they_were_declared():
    quotas = [
        {"cpus": 400.0, "borrow": 0.0},
        {"site": "ams", "gpu_type": "a100", "gpus": 8, "borrow": 8.0},
        {"memory_gib": 2.5, "borrow": "all"},
    ]
    tenant = tenant_of(parse_json(TenantBody, json.dumps({"name": "vision", "quotas": quotas}).encode()))
    assert tenant.quotas == (Quota("cpus", 400.0), Quota("gpus", 8.0, "ams", "a100", 8.0), Quota("memory_gib", 2.5, borrow=None))
    assert body_of(tenant)["quotas"] == quotas


BOUNDED = b"""{"name": "count", "command": ["true"], "max_cost": 2.5, "preemptible": true, "checkpoint": "10m", "sites":
  {"prefer": ["ams", "fra"], "spill_after": "5m", "affinity": "a", "spread": {"word": "b", "per_site": 2}}}"""
SPARK = b"""{"name": "count", "image": "tools:1", "resources": {"memory_gib": 1},
  "spark": {"file": "a.jar", "main_class": "org.Count", "arguments": ["1"], "conf": {"a": "b"}}}"""


def test_a_job_that_is_shown_can_be_handed_in_again():
    (document,) = parse_documents((CONFIGS / "job.example.yaml").read_text(), default_kind="Job")
    texts = (b'{"name": "hello", "script": "echo hello"}', SPARK, BOUNDED)
    for body in (document.body, *(parse_json(JobBody, text) for text in texts)):
        name, spec = job_of(body, pinned)
        assert job_of(parse_json(JobBody, json.dumps(body_of(spec, name=name)).encode()), pinned) == (name, spec)


@given(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_a_duration_is_the_sum_of_its_parts(days, hours, minutes, seconds):
    assert seconds_of(f"{days}d{hours}h{minutes}m{seconds}s") == ((days * 24 + hours) * 60 + minutes) * 60 + seconds
