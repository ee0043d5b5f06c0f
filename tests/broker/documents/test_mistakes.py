"""Mistakes in what people write: each is told with its line, its field and the cure."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.documents import DocumentError, JobBody, parse_documents, parse_json
from tests.broker.documents.examples import JOB, SITE, TENANT
from tests.broker.documents.mistakes import DOCUMENTS, JOBS, NO_JSON, bomb, without


def fault_of(text):
    """The one fault of a text."""
    with pytest.raises(DocumentError) as error:
        parse_documents(text)
    (fault,) = error.value.faults
    return fault


@pytest.mark.parametrize(("text", "field", "line", "cure"), DOCUMENTS)
def test_a_mistake_in_a_document_is_told_with_line_field_and_cure(text, field, line, cure):
    fault = fault_of(text)
    assert (fault.field, fault.line, fault.document) == (field, line, 1)
    assert cure in fault.message


@pytest.mark.parametrize(("change", "field", "cure"), JOBS)
def test_a_mistake_in_a_job_is_told_with_field_and_cure(change, field, cure):
    body = without(change)
    with pytest.raises(DocumentError) as error:
        parse_json(JobBody, json.dumps(body).encode())
    (fault,) = error.value.faults
    assert (fault.field, fault.line) == (field, 0)
    assert cure in fault.message


@pytest.mark.parametrize(("raw", "told"), NO_JSON)
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
    with pytest.raises(DocumentError, match="write it out"):
        parse_documents(bomb())


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
