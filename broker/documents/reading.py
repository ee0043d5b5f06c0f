"""From text to bodies: what people wrote, checked against the shape it should have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from broker.documents.bodies import DatasetBody, LinkBody, SiteBody, TenantBody
from broker.documents.faults import MOST_FAULTS, DocumentError, Where, faults_of, line_of, objections_of, shown, suggestion
from broker.documents.job import JobBody
from broker.documents.plain import Plain, read_json, read_yaml
from broker.errors import Fault

__all__ = ["KINDS", "Document", "DocumentError", "check", "load_json", "parse_documents", "parse_json", "parse_plain"]

KINDS: Mapping[str, type[BaseModel]] = {
    "Site": SiteBody,
    "Link": LinkBody,
    "Dataset": DatasetBody,
    "Tenant": TenantBody,
    "Job": JobBody,
}
"""What a document's `kind` may be."""

NAMED_ONCE = ("Site", "Link", "Dataset", "Tenant")
"""Of these a file declares each once; jobs may share a name."""

B = TypeVar("B", bound=BaseModel)

load_json = read_json


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file. `plain` is what was written, without `kind`; `body` what it means; `name` as its kind is named:
    a link's is `from:to`, a dataset's `name@version`."""

    number: int
    line: int
    kind: str
    name: str
    plain: Mapping[str, Any]
    body: BaseModel


def parse_documents(text: str, default_kind: str | None = None) -> list[Document]:
    """All documents of a YAML text, empty ones left out. One without `kind` is of `default_kind`. Raises DocumentError with
    the faults of all documents."""
    faults: list[Fault] = []
    documents: list[Document] = []
    try:
        for found in read_yaml(text):
            try:
                if isinstance(found, DocumentError):
                    raise found
                documents.append(_document(found, default_kind))
            except DocumentError as error:
                faults += error.faults
    except DocumentError as error:
        faults += error.faults
    faults += _doubles(documents)
    if faults:
        raise DocumentError(faults=sorted(faults, key=lambda fault: (fault.document, fault.line))[:MOST_FAULTS])
    return documents


def parse_plain(text: str) -> list[Any]:
    """The plain values of a YAML text's documents, for what has its model elsewhere. Raises DocumentError."""
    values = []
    for found in read_yaml(text):
        if isinstance(found, DocumentError):
            raise found
        values.append(found.value)
    return values


def parse_json(model: type[B], raw: bytes) -> B:
    """The body that JSON bytes hold. Raises DocumentError."""
    return check(model, read_json(raw))


def check(model: type[B], plain: Any, lines: Mapping[Where, int] | None = None) -> B:
    """The body that plain values hold. Raises DocumentError with every fault."""
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise DocumentError(faults=faults_of(objections_of(error, model)[:MOST_FAULTS], lines or {})) from error


def _document(found: Plain, default_kind: str | None) -> Document:
    """Raises DocumentError."""
    line = found.lines[()]
    if not isinstance(found.value, dict):
        message = f"{shown(found.value)} is no mapping of fields: begin with `kind: Site` or another"
        raise DocumentError(faults=[Fault("document", message, found.number, line)])
    fields = dict(found.value)
    kind = fields.pop("kind", default_kind)
    if kind is None:
        raise DocumentError(faults=[Fault("kind", f"is missing: {suggestion('', tuple(KINDS))}", found.number, line)])
    if not isinstance(kind, str) or kind not in KINDS:
        message = f"{shown(kind)} is no kind: {suggestion(str(kind), tuple(KINDS))}"
        raise DocumentError(faults=[Fault("kind", message, found.number, line_of(("kind",), found.lines))])
    name = _name(kind, fields)
    try:
        return Document(found.number, line, kind, name, fields, check(KINDS[kind], fields, found.lines))
    except DocumentError as error:
        subject = f"{kind} {name}".strip()
        faults = [replace(fault, document=found.number, subject=subject) for fault in error.faults]
        raise DocumentError(faults=faults) from error


def _name(kind: str, fields: Mapping[str, Any]) -> str:
    """What the document is called, as far as it can be told before it is checked."""
    parts = {"Link": (fields.get("from"), fields.get("to")), "Dataset": (fields.get("name"), fields.get("version", "1"))}
    named = [part for part in parts.get(kind, (fields.get("name"),)) if isinstance(part, str)]
    return (":" if kind == "Link" else "@").join(named)


def _doubles(documents: list[Document]) -> list[Fault]:
    """What is declared more than once."""
    first: dict[tuple[str, str, Any], int] = {}
    faults = []
    for each in documents:
        earlier = first.setdefault((each.kind, each.name, each.plain.get("tenant")), each.number)
        if earlier != each.number and each.kind in NAMED_ONCE:
            message = f"is declared already by document {earlier}: leave one out"
            faults.append(Fault("name", message, each.number, each.line, f"{each.kind} {each.name}"))
    return faults
