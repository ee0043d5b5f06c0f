"""Mistakes in what people write: each is told with its line, its field and the cure."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.documents import DocumentError, JobBody, parse_documents, parse_json
from tests.broker.documents.examples import DATASET, JOB, LINK, NODE, SITE, TENANT

SPARK = {"command": None, "spark": {"file": "a.py"}, "resources": {"memory_gib": 1}}
"""What makes a job one of Spark's, in place of its command."""


def fault_of(text):
    """The one fault of a text."""
    with pytest.raises(DocumentError) as error:
        parse_documents(text)
    (fault,) = error.value.faults
    return fault


@pytest.mark.parametrize(
    ("text", "field", "line", "cure"),
    [
        (SITE.replace("ams\n", "Ams\n", 1), "name", 2, "use 1 to 40 of a-z"),
        (SITE.replace("ams\n", "../etc\n", 1), "name", 2, "use 1 to 40 of a-z"),
        (SITE.replace("ams\n", f"{41 * 'a'}\n", 1), "name", 2, "use 1 to 40 of a-z"),
        (SITE.replace("ams\n", "\n", 1), "name", 2, "nothing is not text: fill it in"),
        (SITE.replace("name: ams\n", ""), "name", 1, "is missing: add it, such as `name: ams`"),
        (SITE.replace("kind: Site", "kind: Sight"), "kind", 1, "did you mean Site?"),
        (SITE.replace("kind: Site", "kind: [Site]"), "kind", 1, "use one of Site, Link"),
        (SITE.replace("kind: Site\n", ""), "kind", 1, "use one of Site, Link"),
        (SITE.replace("process", "condor"), "engine.kind", 3, "use one of"),
        (SITE.replace("{kind: process}", "{}"), "engine.kind", 3, "is missing: use one of"),
        (SITE.replace("{kind: process}", "{kind: process, colour: blue}"), "engine.colour", 3, "is no field here"),
        (SITE.replace("{kind: process}", "process"), "engine", 3, "is not a mapping"),
        (SITE + "name: fra\n", "name", 6, "the first time in line 2: leave one out"),
        (SITE + "colour: blue\n", "colour", 6, "is no field here: use one of name, region"),
        (SITE + "prices: {cpu_hour: 1}\n", "prices", 6, "did you mean price?"),
        (SITE.replace("nodes: 2", "nodes: true"), "pools.0.nodes", 4, "true is not a whole number"),
        (SITE.replace("nodes: 2", "nodes: yes"), "pools.0.nodes", 4, "write digits"),
        (SITE.replace("nodes: 2", 'nodes: "2"'), "pools.0.nodes", 4, "leave out the quotes"),
        (SITE.replace("nodes: 2", "nodes: 2.5"), "pools.0.nodes", 4, "leave out the fraction"),
        (SITE.replace("nodes: 2", "nodes: 0"), "pools.0.nodes", 4, "use at least 1"),
        (SITE.replace("nodes: 2", "nodes: 1_000"), "pools.0.nodes", 4, "is not a whole number"),
        (SITE.replace("cpus: 4", "cpus: .nan"), "pools.0.per_node.cpus", 4, "use a finite number"),
        (SITE.replace("cpus: 4", "cpus: -.Inf"), "pools.0.per_node.cpus", 4, "use a finite number"),
        (SITE.replace("cpus: 4", "cpus: 1e400"), "pools.0.per_node.cpus", 4, "use a finite number"),
        (SITE.replace("cpus: 4", f"cpus: 1{400 * '0'}"), "pools.0.per_node.cpus", 4, "use a finite number"),
        (SITE.replace("cpus: 4", f"cpus: 1{300 * '0'}"), "pools.0.per_node.cpus", 4, "use at most 1e+06"),
        (SITE.replace("cpus: 4", f"cpus: 0x1{400 * '0'}"), "pools.0.per_node.cpus", 4, "use a finite number"),
        (SITE.replace("cpus: 4", "cpus: -1"), "pools.0.per_node.cpus", 4, "use at least 0.001"),
        (SITE.replace("cpus: 4", "cpus: 8 cores"), "pools.0.per_node.cpus", 4, "write digits, in the unit"),
        (SITE.replace("cpus: 4", "cpus: 4, gpus: {a100: 1.5}"), "pools.0.per_node.gpus.a100", 4, "leave out the fraction"),
        (SITE.replace("cpus: 4", "cpus: 4, gpus: {A100: 1}"), "pools.0.per_node.gpus.A100", 4, "use 1 to 40 of a-z"),
        (SITE.replace("cpus: 4", "cpus: 4, gpus: {1080: 1}"), "pools.0.per_node.gpus", 4, "so quote it"),
        (SITE.replace(NODE, "speed: 1"), "pools.0.per_node", 4, "such as `per_node: {cpus: 4, memory_gib: 8}`"),
        (SITE.replace(NODE, "per_node: 4"), "pools.0.per_node", 4, "give it cpus, memory_gib, gpus"),
        (SITE.replace("pools: [", f"pools: [{{name: cpu, nodes: 1, {NODE}}}, "), "pools.1.name", 4, "name another"),
        (LINK + "pools: [cpu]\n", "pools", 5, "is no field here: use one of from, to"),
        (SITE.replace("pools: [", "pools: [cpu, "), "pools.0", 4, "'cpu' is no mapping: give it name, nodes"),
        (SITE.replace("file:///srv/ams", "gs://bucket"), "storage.url", 5, "gs:// is not supported: use file:// or sftp://"),
        (
            SITE.replace("file:///srv/ams", "/srv/ams"),
            "storage.url",
            5,
            "use file:// or sftp:// or webhdfs:// or s3://, such as file:///srv/ams",
        ),
        (SITE.replace("file:///srv/ams", "file:///srv/../etc"), "storage.url", 5, "use the absolute path"),
        (SITE.replace("file:///srv/ams", "file://host/srv"), "storage.url", 5, "without a host"),
        (SITE.replace("file:///srv/ams", "file:///"), "storage.url", 5, "path of a folder"),
        (SITE.replace("file:///srv/ams", "file:///a::zip://b"), "storage.url", 5, "'::'"),
        (SITE + "fabric: myrinet\n", "fabric", 6, "use one of none, ethernet"),
        (SITE + "location: {lat: 91, lon: 0}\n", "location.lat", 6, "use at most 90"),
        (SITE + "location:\n  lat: 1\n  lon: east\n", "location.lon", 8, "write digits"),
        (SITE + "price: {currency: euro}\n", "price.currency", 6, "such as EUR"),
        (SITE + 'region: "eu\\u202ewest"\n', "region", 6, "leave out control and direction characters"),
        (SITE + 'region: "eu\\u0007"\n', "region", 6, "leave out control"),
        (SITE + 'region: "eu "\n', "region", 6, "leave out the blanks"),
        (SITE + 'region: "\\ud800"\n', "region", 6, "surrogate"),
        (SITE + "admission: on\n", "admission", 6, "use one of open, cordoned, draining"),
        (SITE.replace("{cpus: 4, ", "&big {cpus: 4, "), "pools.0.per_node", 4, "write it out"),
        (SITE + "region: !!python/name:os.system x\n", "region", 6, "leave it out"),
        (SITE + "region: !!int abc\n", "region", 6, "leave it out"),
        (SITE + "? {a: b}\n: c\n", "document", 1, "names are text"),
        (SITE + "region: [\n", "document", 7, "check indentation, brackets"),
        (SITE + "region: eu\n  west: 1\n", "document", 7, "check indentation"),
        ("%YAML 1.1\n---\n" + SITE, "document", 3, "leave out the %YAML line"),
        ("- a\n- b\n", "document", 1, "begin with `kind: Site`"),
        ("[" * 60, "document", 0, "write it flatter"),
        (LINK.replace("to: fra", "to: ams"), "to", 3, "name another site"),
        (LINK.replace("bandwidth_gbps: 1", "bandwidth_gbps: 0"), "bandwidth_gbps", 4, "use at least 1e-09"),
        (LINK.replace("from: ams\n", ""), "from", 1, "such as `from: ams`"),
        (DATASET + "version: 1\n", "version", 3, "1 is not text: quote it"),
        (DATASET + 'version: "1/2"\n', "version", 3, "use 1 to 64 letters"),
        (DATASET + "checksum: 00ff\n", "checksum", 3, "use `sha256:`"),
        (DATASET + "size_bytes: -1\n", "size_bytes", 3, "use at least 0"),
        (DATASET + "replicas: [{site: ams, path: ../x}]\n", "replicas.0.path", 3, "without '..'"),
        (DATASET + "replicas: [{site: ams, path: /etc}]\n", "replicas.0.path", 3, "below the site's storage"),
        (DATASET + "replicas: [{site: ams, path: .fed/x}]\n", "replicas.0.path", 3, "not below .fed"),
        (DATASET + "replicas: [{site: ams, path: 'x*'}]\n", "replicas.0.path", 3, "without the wildcards"),
        (DATASET + "replicas: [{site: a, path: x}, {site: a, path: y}]\n", "replicas.1.site", 3, "name another"),
        (TENANT + "max_pending: 0\n", "max_pending", 3, "use at least 1"),
        (TENANT + "max_pending: 1e3\n", "max_pending", 3, "leave out the fraction"),
    ],
)
def test_a_mistake_in_a_document_is_told_with_line_field_and_cure(text, field, line, cure):
    fault = fault_of(text)
    assert (fault.field, fault.line, fault.document) == (field, line, 1)
    assert cure in fault.message


@pytest.mark.parametrize(
    ("change", "field", "cure"),
    [
        ({"command": None}, "command", "such as `command: [sh, -c"),
        ({"script": "#!/bin/sh"}, "script", "leave one of the two out"),
        ({"spark": {"file": "a.py"}}, "spark", "beside command: leave one of the two out"),
        ({**SPARK, "tasks": 2}, "tasks", "say how many executors"),
        ({**SPARK, "resources": {"memory_gib": 0.5}}, "resources.memory_gib", "too little for the driver"),
        ({**SPARK, "spark": {"file": "a.py", "executor_memory_gib": 0.5}}, "spark.executor_memory_gib", "give it 1"),
        ({**SPARK, "spark": {"file": "a.jar"}}, "spark.main_class", "a jar needs one"),
        ({**SPARK, "resources": {"memory_gib": 1, "gpus": {"count": 1}}}, "resources.gpus", "leave them out"),
        ({"command": None, "spark": {"file": "a.py", "executors": 0}}, "spark.executors", "use at least 1"),
        ({"image": ""}, "image", "give at least 1"),
        ({"command": []}, "command", "give at least 1"),
        ({"command": [""]}, "command.0", "name a program"),
        ({"command": ["a\0b"]}, "command.0", "no NUL"),
        ({"command": "true"}, "command", "'true' is not a list"),
        ({"command": ["sleep", 5]}, "command.1", "5 is not text: quote it"),
        ({"command": None, "script": " \n"}, "script", "use 1 to 65536 bytes"),
        ({"tasks": 0}, "tasks", "use at least 1"),
        ({"tasks": 100_001}, "tasks", "use at most 100000"),
        ({"tasks": True}, "tasks", "true is not a whole number"),
        ({"tasks": 1e99}, "tasks", "leave out the fraction"),
        ({"resources": {"cpus": 0}}, "resources.cpus", "use at least 0.001"),
        ({"resources": {"memory_gib": "4"}}, "resources.memory_gib", "leave out the quotes"),
        ({"resources": {"memory": 4}}, "resources.memory", "did you mean memory_gib?"),
        ({"resources": {"gpus": {"count": -1}}}, "resources.gpus.count", "use at least 0"),
        ({"resources": {"gpus": 2}}, "resources.gpus", "give it count, types"),
        ({"inputs": [{"dataset": "a"}, {"dataset": "a@2"}]}, "inputs.1.dataset", "is named twice"),
        ({"inputs": ["a"]}, "inputs.0", "give it dataset, version"),
        ({"inputs": [{}]}, "inputs.0.dataset", "such as `dataset: corpus`"),
        ({"inputs": [{"dataset": "a@1", "version": "1"}]}, "inputs.0.version", "leave one out"),
        ({"inputs": [{"dataset": "speech/a"}]}, "inputs.0.dataset", "reads datasets of default"),
        ({"outputs": [{"dataset": "A b"}]}, "outputs.0.dataset", "use 1 to 40 of a-z"),
        ({"outputs": [{"dataset": "a"}, {"dataset": "a"}]}, "outputs.1.dataset", "is named twice"),
        ({"run_time": "soon"}, "run_time", "1h30m"),
        ({"run_time": ""}, "run_time", "1h30m"),
        ({"run_time": "2 m"}, "run_time", "1h30m"),
        ({"run_time": -1}, "run_time", "use at least a millisecond"),
        ({"run_time": "0s"}, "run_time", "use at least a millisecond"),
        ({"run_time": 1e-320}, "run_time", "use at least a millisecond"),
        ({"resources": {"memory_gib": 1e-320}}, "resources.memory_gib", "use 0, or at least 1e-09"),
        ({"objective": {"hours": 1e-300}}, "objective.hours", "use 0, or at least 1e-09"),
        ({"walltime": True}, "walltime", "1h30m"),
        ({"walltime": "9999d"}, "walltime", "at most 366 days"),
        ({"walltime": 10**400}, "walltime", "at most 366 days"),
        ({"objective": "best"}, "objective", "use one of fastest, cheapest, greenest"),
        ({"objective": "fast"}, "objective", "did you mean fastest?"),
        ({"objective": {"hours": 0}}, "objective", "a weight above 0"),
        ({"objective": {"hours": -1, "money": 2}}, "objective.hours", "use at least 0"),
        ({"objective": {"carbon": 1}}, "objective.carbon", "did you mean carbon_kg?"),
        ({"retry": {"reasons": ["bad-luck"]}}, "retry.reasons.0", "site-lost"),
        ({"retry": {"reasons": ["site_lost"]}}, "retry.reasons.0", "did you mean site-lost?"),
        ({"retry": {"reasons": ["withdrawn"]}}, "retry.reasons.0", "use one of"),
        ({"retry": {"attempts": 0}}, "retry.attempts", "use at least 1"),
        ({"inputs": [{"dataset": f"d{number}"} for number in range(19)]}, "inputs", "at most 18"),
        ({"env": {"A=B": "x"}}, "env.A=B", "use letters, digits"),
        ({"env": {"FED_JOB": "x"}}, "env.FED_JOB", "are the broker's: use another"),
        ({"env": {"A": 1}}, "env.A", "quote it"),
        ({"sites": {"fabric": "any"}}, "sites.fabric", "rdma"),
        ({"sites": {"require": {"regions": "eu"}}}, "sites.require.regions", "did you mean region?"),
        ({"sites": {"require": {"site": "ams"}, "exclude": ["ams"]}}, "sites.require.site.0", "is excluded too"),
        ({"priority": -1}, "priority", "use at least 0"),
        ({"tenant": None}, "tenant", "leave the field out"),
        ({"kind": "Job"}, "kind", "is no field here"),
        ({"after": "other"}, "after", "is no field here"),
    ],
)
def test_a_mistake_in_a_job_is_told_with_field_and_cure(change, field, cure):
    body = {name: value for name, value in {**JOB, **change}.items() if (name, value) != ("command", None)}
    with pytest.raises(DocumentError) as error:
        parse_json(JobBody, json.dumps(body).encode())
    (fault,) = error.value.faults
    assert (fault.field, fault.line) == (field, 0)
    assert cure in fault.message


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"{}{}", "not JSON"),
        (b"[]", "is no mapping: give it name"),
        (b'{"name": "a", "name": "b"}', "'name' is given twice"),
        (b'{"priority": NaN}', "NaN is not finite"),
        (b'{"priority": -Infinity}', "-Infinity is not finite"),
        (b'{"priority": 1e400}', "use a finite number"),
        (b'{"priority": %s}' % (b"9" * 5000), "not JSON that can be taken"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"name": "\\ud800", "command": ["a"]}', "name: "),
        (b'{"name": "a", "command": ["\\ud800"]}', "command.0: "),
    ],
)
def test_what_is_no_decent_json_is_refused(raw, told):
    with pytest.raises(DocumentError, match=told):
        parse_json(JobBody, raw)


def test_every_fault_of_every_document_is_told_at_once():
    with pytest.raises(DocumentError) as error:
        parse_documents(SITE.replace("nodes: 2", "nodes: 0").replace("ams\n", "A\n", 1) + "---\nkind: Tenant\nname: B\n---\n]\n")
    assert [(fault.document, fault.line, fault.field, fault.subject) for fault in error.value.faults] == [
        (1, 2, "name", "Site A"), (1, 4, "pools.0.nodes", "Site A"), (2, 8, "name", "Tenant B"), (3, 10, "document", ""),
    ]  # fmt: skip
    assert "document 1 (Site A): line 4: pools.0.nodes: 0 is out of range: use at least 1" in str(error.value)


def test_what_is_declared_twice_in_a_file_is_told():
    fault = fault_of(f"{SITE}---\n{TENANT}---\n{SITE}")
    assert (fault.document, fault.line, fault.subject) == (3, 10, "Site ams")
    assert "declared already by document 1" in fault.message
    assert len(parse_documents("name: a\ncommand: [x]\n---\nname: a\ncommand: [x]\n", default_kind="Job")) == 2


def test_aliases_that_multiply_are_refused_before_they_do():
    pairs = zip("abcdefgh", "bcdefghi", strict=True)
    bomb = "a: &a [x, x]\n" + "".join(f"{name}: &{name} [*{before}, *{before}]\n" for before, name in pairs)
    with pytest.raises(DocumentError, match="write it out"):
        parse_documents(bomb)


@pytest.mark.parametrize("written", ['"hunter2"', "{value: hunter2}", "{env: A, file: /b}", "[hunter2]"])
def test_a_secret_that_is_written_out_is_refused_and_not_repeated(written):
    fault = fault_of(SITE.replace("{kind: process}", f"{{kind: process, login: {{api_token: {written}}}}}"))
    assert (fault.field, fault.line) == ("engine.login.api_token", 3)
    assert "write {env: NAME} or {file: PATH}" in fault.message
    assert "hunter2" not in str(fault)


def test_settings_of_an_engine_are_bounded():
    deep = "{a: " * 20 + "1" + "}" * 20
    fault = fault_of(SITE.replace("{kind: process}", f"{{kind: process, x: {deep}}}"))
    assert "use at most 1000 settings, 10 deep" in fault.message


@given(st.text(max_size=60) | st.text("[]{}:,-&*!|>'\"#%@ \n\tab01.", max_size=60))
def test_no_text_breaks_the_reader(text):
    with suppress(DocumentError):
        parse_documents(text)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(JobBody.model_fields)), PLAIN))
def test_no_json_breaks_the_reader(fields):
    with suppress(DocumentError):
        parse_json(JobBody, json.dumps({**JOB, **fields}).encode())
