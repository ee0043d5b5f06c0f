"""What is wrong with a document, in words: each fault has its field, what was found there, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from broker.errors import Fault, Invalid

Where = tuple[str | int, ...]
"""A path into a document: names of fields and positions in lists."""

MOST_FAULTS = 100
MOST_SHOWN = 60
MOST_NAMED = 20
FEW = 8
OBJECTIONS = "objections"

LIMITS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
WANTED: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
}
"""Pydantic's errors about types: what would be right."""


class DocumentError(Invalid):
    """What was written cannot be taken; `faults` has all that is wrong, up to a hundred."""


def refuse(*objections: tuple[Where, str]) -> None:
    """From inside a validator: raise if there are any objections, each to a field below the value that is validated."""
    if objections:
        raise PydanticCustomError(OBJECTIONS, "contradicts itself", {OBJECTIONS: objections})


def objections_of(error: ValidationError, model: type[BaseModel]) -> list[tuple[Where, str]]:
    """Path and message of all that is wrong."""
    found: list[tuple[Where, str]] = []
    for each in error.errors(include_url=False):
        where = tuple(step for step in each["loc"] if step != "[key]")
        if each["type"] == OBJECTIONS:
            found += [((*where, *below), message) for below, message in each["ctx"][OBJECTIONS]]
        else:
            found.append((where, _message(each, where, model)))
    return found


def faults_of(objections: Iterable[tuple[Where, str]], lines: Mapping[Where, int]) -> list[Fault]:
    """With the line of the nearest part that was written."""
    return [Fault(".".join(map(str, where)) or "document", message, line=line_of(where, lines)) for where, message in objections]


def line_of(where: Where, lines: Mapping[Where, int]) -> int:
    """The line of the nearest part that was written; 0 when there are no lines."""
    return next((lines[where[:depth]] for depth in range(len(where), -1, -1) if where[:depth] in lines), 0)


def suggestion(given: str, known: Sequence[str]) -> str:
    """Which of the known names was meant; all of them where they are few, or none is near."""
    if not known:
        return "there is none yet"
    near = difflib.get_close_matches(given, known, 1)
    meant = f"did you mean {near[0]}?" if near else ""
    if near and len(known) > FEW:
        return meant
    choice = f"use one of {', '.join(known[:MOST_NAMED])}{' ...' if len(known) > MOST_NAMED else ''}"
    return f"{meant} {choice}".lstrip()


def shown(value: object) -> str:
    """A value as a message quotes it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _message(error: ErrorDetails, where: Where, model: type[BaseModel]) -> str:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return f"is missing: add it{_example(where, model)}"
    if kind == "extra_forbidden":
        return f"is no field here: {_meant(str(where[-1]), _model_at(model, where[:-1]))}"
    if kind in ("model_type", "model_attributes_type"):
        home = _model_at(model, where)
        return f"{shown(given)} is no mapping: give it {', '.join(_fields(home)) if home else 'fields'}"
    if kind == "finite_number" or (kind == "float_type" and type(given) is int):
        return f"{shown(given)} is out of range: use a finite number"
    if kind in WANTED:
        cure = _example(where, model).replace(", such as", ": write") if kind == "dict_type" else _cure(WANTED[kind], given)
        return f"{shown(given)} is not {WANTED[kind]}{cure}"
    if kind in LIMITS:
        name, words = LIMITS[kind]
        return f"{shown(given)} is out of range: use {words} {context[name]:g}"
    if kind in ("too_short", "too_long"):
        length = context["min_length"] if kind == "too_short" else context["max_length"]
        return f"has {context['actual_length']}: give {'at least' if kind == 'too_short' else 'at most'} {length}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{shown(given)} will not do: {message}"


def _meant(given: str, home: type[BaseModel] | None) -> str:
    """Where a field belongs that is none of `home`: deeper below it, or under another name."""
    if home is None:
        return suggestion(given, ())
    deeper = dict(_below(home))
    if given in deeper:
        return f"it belongs into {deeper[given]}"
    near = difflib.get_close_matches(given, deeper, 1)
    if near and not difflib.get_close_matches(given, _fields(home), 1):
        return f"did you mean {deeper[near[0]]}?"
    return suggestion(given, _fields(home))


def _below(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str]]:
    """Name and path of each field of the models that a model holds, the nearest last."""
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is None:
            continue
        here = f"{path}{field.alias or name}"
        yield from _below(inner, f"{here}.")
        yield from ((each, f"{here}.{each}") for each in _fields(inner))


def _cure(wanted: str, given: object) -> str:
    if given is None:
        return ": fill it in, or leave the field out"
    if wanted == "text" and isinstance(given, bool | int | float):
        return ": quote it"
    if "number" in wanted and isinstance(given, str):
        return ": leave out the quotes" if _is_number(given) else ": write digits, in the unit that the field's name says"
    if wanted == "a whole number" and isinstance(given, float):
        return ": leave out the fraction"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _example(where: Where, model: type[BaseModel]) -> str:
    home = _model_at(model, where[:-1])
    field = _field(home, str(where[-1])) if home else None
    return f", such as `{where[-1]}: {field.examples[0]}`" if field and field.examples else ""


def _fields(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _field(model: type[BaseModel], name: str) -> FieldInfo | None:
    return next((field for known, field in model.model_fields.items() if name in (known, field.alias)), None)


def _model_at(model: type[BaseModel], where: Where) -> type[BaseModel] | None:
    """The model of what lies at a path."""
    found: type[BaseModel] | None = model
    for step in where:
        if isinstance(step, str):
            field = _field(found, step) if found else None
            found = _model_in(field.annotation) if field else None
    return found


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation such as `list[PoolBody]` or `LocationBody | None` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)
