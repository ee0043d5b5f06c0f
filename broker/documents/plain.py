"""Text to plain values: YAML 1.2 by its core schema (https://yaml.org/spec/1.2.2/#103-core-schema), and JSON, both strictly.

`yes`, `on` and `2024-01-01` are text; `012` is twelve and `0o14` too. Duplicate keys, tags, anchors and aliases, NaN and
infinity are refused, and depth and size are bounded: what is read here was written by people whom nobody checked.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.scalarstring import LiteralScalarString

from broker.documents.faults import DocumentError, Where, faults_of, shown
from broker.documents.fields import has_half_characters
from broker.errors import Fault

DEEPEST = 50
MOST_CHARACTERS = 8 * 2**20
MOST_DIGITS = 400
NULL = re.compile(r"|~|null|Null|NULL")
TRUTH = re.compile(r"(true|True|TRUE)|(?:false|False|FALSE)")
WHOLE = re.compile(r"[-+]?[0-9]+")
EIGHTS = re.compile(r"0o[0-7]+")
SIXTEENS = re.compile(r"0x[0-9a-fA-F]+")
REAL = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
ENDLESS = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Plain:
    """One document: dicts, lists and scalars, and the line of each part by its path. `number` counts from 1."""

    number: int
    value: Any
    lines: dict[Where, int] = field(default_factory=dict)


def read_yaml(text: str) -> Iterator[Plain | DocumentError]:
    """The documents of a YAML text, empty ones left out. A document that cannot be taken is its error; what is no YAML raises
    DocumentError, for what follows it cannot be told apart."""
    if len(text) > MOST_CHARACTERS:
        raise DocumentError(faults=[Fault("document", f"{len(text)} characters are too many: use at most {MOST_CHARACTERS}")])
    reader = _Reader(text)
    try:
        yield from reader.documents()
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        message = f"is not YAML: {error.problem or error.context}; check indentation, brackets and quotes"
        raise DocumentError(faults=[Fault("document", message, reader.number, line)]) from error
    except (YAMLError, RecursionError) as error:
        message = f"is not YAML that can be taken: {str(error)[:200]}"
        raise DocumentError(faults=[Fault("document", message, reader.number)]) from error


def read_json(raw: bytes) -> Any:
    """What JSON bytes hold. Raises DocumentError."""
    try:
        return json.loads(raw.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} at column {error.colno}"
        raise DocumentError(faults=[Fault("body", message, line=error.lineno)]) from error
    except RecursionError as error:
        raise DocumentError(faults=[Fault("body", "is nested too deeply: write it flatter")]) from error
    except ValueError as error:
        raise DocumentError(faults=[Fault("body", f"is not JSON that can be taken: {error}")]) from error


def literal(text: str) -> str:
    """A text that `yaml_of` writes line by line, below `|`."""
    written: str = LiteralScalarString(text)
    return written


def yaml_of(value: Any) -> str:
    """Plain values as a YAML document, which `read_yaml` reads back as they are."""
    text, yaml = io.StringIO(), YAML(pure=True)
    yaml.default_flow_style = False
    yaml.width = 1_000_000
    yaml.dump(value, text)
    return text.getvalue()


class _Reader:
    """Values from the parser's events. A part that is refused leaves its objection and None."""

    def __init__(self, text: str) -> None:
        self._events = YAML(typ="safe", pure=True).parse(text)
        self._lines: dict[Where, int] = {}
        self._objections: list[tuple[Where, str]] = []
        self.number = 1

    def documents(self) -> Iterator[Plain | DocumentError]:
        number = 0
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                number += 1
                self.number = number
                self._lines, self._objections = {}, []
                if event.version not in (None, (1, 2)):
                    self._objections.append(((), "is not of YAML 1.2: leave out the %YAML line"))
                value = self._value(next(self._events), ())
                if self._objections:
                    faults = faults_of(self._objections, self._lines)
                    yield DocumentError(faults=[replace(fault, document=number) for fault in faults])
                elif value is not None:
                    yield Plain(number, value, self._lines)

    def _value(self, event: Any, where: Where) -> Any:
        self._lines.setdefault(where, event.start_mark.line + 1)
        if isinstance(event, AliasEvent) or event.anchor is not None:
            self._objections.append((where, "anchors and aliases are not taken: write it out"))
        elif event.tag is not None:
            self._objections.append((where, f"the tag {str(event.tag)[:40]} is not taken: leave it out"))
        if len(where) > DEEPEST:
            raise YAMLError(f"nested more than {DEEPEST} deep: write it flatter")
        match event:
            case ScalarEvent():
                return self._scalar(event, where)
            case SequenceStartEvent():
                return self._list(where)
            case MappingStartEvent():
                return self._mapping(where)
        return None

    def _list(self, where: Where) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, (*where, len(items))))
        return items

    def _mapping(self, where: Where) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event, where)
            here = (*where, key)
            is_twice = key in fields
            if is_twice:
                self._objections.append((here, f"is given twice, the first time in line {self._lines[here]}: leave one out"))
            self._lines[here] = event.start_mark.line + 1
            fields[key] = self._value(next(self._events), here)
        return fields

    def _key(self, event: Any, where: Where) -> str:
        key = self._value(event, (*where, "(key)"))
        self._lines.pop((*where, "(key)"), None)
        if not isinstance(key, str):
            self._objections.append((where, f"{shown(key)} is not the name of a field: names are text, so quote it"))
        return str(key)

    def _scalar(self, event: Any, where: Where) -> Any:
        text: str = event.value
        if has_half_characters(text):
            self._objections.append((where, "holds half a character (a surrogate): leave it out"))
        return self._plain(text, where) if event.implicit[0] else text

    def _plain(self, text: str, where: Where) -> Any:
        """A scalar without quotes."""
        if NULL.fullmatch(text):
            return None
        if truth := TRUTH.fullmatch(text):
            return truth.group(1) is not None
        if EIGHTS.fullmatch(text) or SIXTEENS.fullmatch(text):
            return int(text, 0)
        if ENDLESS.fullmatch(text) or (REAL.fullmatch(text) and (len(text) > MOST_DIGITS or not math.isfinite(float(text)))):
            self._objections.append((where, f"{shown(text)} is not finite: use a finite number"))
            return 0
        if WHOLE.fullmatch(text):
            return int(text)
        return float(text) if REAL.fullmatch(text) else text


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} is given twice: leave one out")
    return fields


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not finite: use a finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is not finite: use a finite number")
    return number
