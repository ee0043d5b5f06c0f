"""Options of `fed submit`, and `#FED` lines of the same names, as fields of a job."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from broker.errors import Fault, Invalid

if TYPE_CHECKING:
    from broker.client import Json

SHORT = ("cpus", "memory", "gpus", "input", "save", "site", "prefer")
"""What `fields_of` knows."""
MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGT])(?:iB|B)?)?", re.IGNORECASE)
GIB_IN = {"K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 2.0**10}


def fields_of(given: Mapping[str, Any], sign: str = "") -> Json:
    """What the short words mean; lists stay away where they are empty. `sign` stands before a word in errors. Raises Invalid."""
    gpus = given.get("gpus")
    resources = {
        "cpus": _cpus(given.get("cpus"), sign),
        "memory_gib": _gib(given.get("memory"), sign),
        "gpus": None if gpus is None else _gpus(str(gpus), sign),
    }
    sites, prefer = _each(given.get("site")), _each(given.get("prefer"))
    fields: Json = {
        "resources": {name: value for name, value in resources.items() if value is not None},
        "inputs": [{"dataset": each} for each in _each(given.get("input"))],
        "outputs": [{"dataset": each} for each in _each(given.get("save"))],
        "sites": {**({"require": {"site": sites}} if sites else {}), **({"prefer": prefer} if prefer else {})},
    }
    return {name: value for name, value in fields.items() if value}


def variables(texts: Sequence[str]) -> Json:
    """`NAME=VALUE` as the field `env`, away where there are none. Raises Invalid."""
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, _) in zip(texts, pairs, strict=True):
        if not equals or not name:
            raise Invalid(faults=[Fault("--env", f"{text} is not NAME=VALUE")])
    return {"env": {name: value for name, _, value in pairs}} if pairs else {}


def merged(body: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """`body` with what `over` says: of two mappings, field by field."""
    found = dict(body)
    for name, value in over.items():
        known = found.get(name)
        found[name] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return found


def _each(value: str | Sequence[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _cpus(value: Any, sign: str) -> Any:
    if value is not None and (not isinstance(value, int | float) or not math.isfinite(value)):
        raise Invalid(faults=[Fault(f"{sign}cpus", f"{value} is no amount: use a number, such as 2 or 0.5")])
    return value


def _gib(value: Any, sign: str) -> float | None:
    if value is None:
        return None
    found = MEMORY.fullmatch(str(value).strip())
    if found is None:
        raise Invalid(faults=[Fault(f"{sign}memory", f"{value} is no amount: use GiB, such as 4, or 4G or 512M")])
    return float(found[1]) * GIB_IN[(found[2] or "G").upper()]


def _gpus(text: str, sign: str) -> Json:
    kind, colon, number = text.rpartition(":")
    if not number.isdecimal() or (colon and not kind):
        raise Invalid(faults=[Fault(f"{sign}gpus", f"{text} is neither a number nor TYPE:NUMBER, such as a100:2")])
    return {"count": int(number), **({"types": [kind]} if kind else {})}
