"""From text to bodies: YAML 1.2 with lines, and JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from broker.documents.bodies import DatasetBody, JobBody, LinkBody, SiteBody, TenantBody
from broker.errors import Fault, Invalid

KINDS: Mapping[str, type[BaseModel]] = {
    "Site": SiteBody,
    "Link": LinkBody,
    "Dataset": DatasetBody,
    "Tenant": TenantBody,
    "Job": JobBody,
}
"""What a document's `kind` may be."""

DEEPEST = 50
MOST_CHARACTERS = 8 * 2**20
TAG = "tag:yaml.org,2002:"
DECIMAL = re.compile(r"[-+]?[0-9]+")
B = TypeVar("B", bound=BaseModel)
Where = tuple[str | int, ...]


class DocumentError(Invalid):
    """What was written cannot be taken; `faults` has all that is wrong."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file. `plain` is what was written, without `kind`; `body` what it means."""

    number: int
    line: int
    kind: str
    plain: Mapping[str, Any]
    body: BaseModel


def parse_documents(text: str, default_kind: str | None = None) -> list[Document]:
    """All documents of a YAML text, empty ones left out. One without `kind` is of `default_kind`. Raises DocumentError."""
    faults: list[Fault] = []
    documents = []
    for number, node in enumerate(_nodes(text), 1):
        try:
            lines: dict[Where, int] = {}
            plain = _plain(node, (), lines)
            documents.append(_document(number, plain, lines, default_kind))
        except DocumentError as error:
            faults += [Fault(each.field, each.message, number, each.line) for each in error.faults]
    if faults:
        raise DocumentError(faults=faults)
    return documents


def parse_plain(text: str) -> list[Any]:
    """The plain values of a YAML text's documents, for what has its model elsewhere. Raises DocumentError."""
    return [_plain(node, (), {}) for node in _nodes(text)]


def parse_json(model: type[B], raw: bytes) -> B:
    """The body that JSON bytes hold. Raises DocumentError."""
    return check(model, load_json(raw))


def load_json(raw: bytes) -> Any:
    """JSON, without duplicate keys, NaN, infinite or absurdly deep values. Raises DocumentError."""
    try:
        return json.loads(raw, object_pairs_hook=_distinct, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DocumentError(faults=[Fault("body", f"is not JSON that can be taken: {message}")]) from error


def check(model: type[B], plain: Any, lines: Mapping[Where, int] | None = None) -> B:
    """The body that plain values hold. Raises DocumentError with every fault."""
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        faults = [_fault(each["loc"], each["msg"], lines or {}) for each in error.errors(include_url=False, include_input=False)]
        raise DocumentError(faults=faults) from error


def _document(number: int, plain: Any, lines: dict[Where, int], default_kind: str | None) -> Document:
    if not isinstance(plain, dict):
        raise DocumentError(faults=[Fault("document", "must be a mapping of fields", line=lines[()])])
    fields = dict(plain)
    kind = fields.pop("kind", default_kind)
    if kind not in KINDS:
        raise DocumentError(faults=[Fault("kind", f"use one of {', '.join(KINDS)}", line=lines.get(("kind",), lines[()]))])
    return Document(number, lines[()], kind, fields, check(KINDS[kind], fields, lines))


def _fault(where: Sequence[str | int], message: str, lines: Mapping[Where, int]) -> Fault:
    """The line is that of the nearest part that was written."""
    written = next((where[:depth] for depth in range(len(where), -1, -1) if tuple(where[:depth]) in lines), ())
    message = message.removeprefix("Value error, ")
    return Fault(".".join(map(str, where)) or "document", message, line=lines.get(tuple(written), 0))


def _nodes(text: str) -> Iterator[Node]:
    if len(text) > MOST_CHARACTERS:
        raise DocumentError(faults=[Fault("document", f"use at most {MOST_CHARACTERS} characters")])
    try:
        yield from (node for node in YAML(typ="safe", pure=True).compose_all(text) if not _is_empty(node))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise DocumentError(faults=[Fault("document", f"is not YAML: {error.problem}", line=line)]) from error
    except (YAMLError, RecursionError) as error:
        raise DocumentError(faults=[Fault("document", f"is not YAML that can be taken: {str(error)[:200]}")]) from error


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value == ""


def _plain(node: Node, where: Where, lines: dict[Where, int]) -> Any:
    """Dicts, lists and scalars of a node, by YAML 1.2's core schema; the line of each part goes into `lines`."""
    lines[where] = node.start_mark.line + 1
    if getattr(node, "anchor", None):
        raise _refused(where, "anchors and aliases are not taken: write it out", lines)
    if len(where) > DEEPEST:
        raise _refused(where, "nested too deeply", lines)
    if isinstance(node, SequenceNode):
        return [_plain(item, (*where, number), lines) for number, item in enumerate(node.value)]
    if isinstance(node, MappingNode):
        return _mapping(node, where, lines)
    return _scalar(node, where, lines)


def _mapping(node: MappingNode, where: Where, lines: dict[Where, int]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, item in node.value:
        if not isinstance(key, ScalarNode):
            raise _refused(where, "use plain text for the names of fields", lines)
        lines[(*where, key.value)] = key.start_mark.line + 1
        if key.value in fields:
            raise _refused((*where, key.value), "is given twice: leave one out", lines)
        fields[key.value] = _plain(item, (*where, key.value), lines)
    return fields


def _scalar(node: Any, where: Where, lines: dict[Where, int]) -> Any:
    text: str = node.value
    match node.tag.removeprefix(TAG):
        case "str" | "timestamp":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text) if DECIMAL.fullmatch(text) else int(text, 0)
        case "float":
            number = float(text) if not text.lower().lstrip("+-").startswith((".inf", ".nan")) else math.nan
            if not math.isfinite(number):
                raise _refused(where, "use a finite number", lines)
            return number
    raise _refused(where, f"the tag {node.tag} is not taken: leave it out", lines)


def _refused(where: Where, message: str, lines: Mapping[Where, int]) -> DocumentError:
    return DocumentError(faults=[_fault(where, message, lines)])


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:40]!r} is given twice")
    return fields


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number that can be taken")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number
