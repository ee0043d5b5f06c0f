"""Resource requirement strings, as far as the stand-in heeds them.

IBM, LSF 10.1, "About resource requirement strings" (lsf_admin/res_req_strings_about): sections `select order rusage
span same cu affinity`, each `name[...]`; a string without sections is a selection. `order`, `same` and `cu` are read
and not heeded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SECTION = re.compile(r"\b(select|order|rusage|span|same|cu|affinity)\s*\[((?:[^\[\]]|\[[^\]]*\])*)\]")
COMPARISON = re.compile(r"(\w+)\s*(==|!=|>=|<=|>|<|=)\s*'?\"?([\w.\-*]+)'?\"?")
UNITS = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


class BadRequirement(ValueError):
    """The string is not one."""


@dataclass(frozen=True)
class Requirement:
    """What was asked for. Memory is in MB, `per` says of what: job, host or task."""

    selections: tuple[str, ...] = ()
    mem_mb: float = 0.0
    mem_per: str = "host"
    ngpus: int = 0
    one_host: bool = False
    ptile: int = 0
    block: int = 0
    cores: int = 1


def megabytes(text: str, unit: str) -> float:
    """MB of a limit or reservation: a number in `unit`, or with a unit of its own (`512M`, `2GB`)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT])?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise BadRequirement(text)
    return float(match[1]) * UNITS[(match[2] or unit[0]).upper()]


def parse(texts: Sequence[str], unit: str, per_task: bool) -> Requirement:
    """The requirement that these strings make together. Raises BadRequirement."""
    found: dict[str, object] = {"mem_per": "task" if per_task else "host"}
    selections: list[str] = []
    for text in texts:
        sections = SECTION.findall(text)
        rest = SECTION.sub("", text).strip()
        if rest and ("[" in rest or "]" in rest):
            raise BadRequirement(text)
        if rest:
            selections.append(rest)
        for name, body in sections:
            if name == "select":
                selections.append(body)
            elif name == "rusage":
                _read_usage(body, unit, found)
            elif name == "span":
                _read_span(body, found)
            elif name == "affinity" and (match := re.search(r"(?:core|thread|cpu)\s*\(?(\d*)", body)):
                found["cores"] = int(match[1] or 1)
    return Requirement(selections=tuple(selections), **found)  # type: ignore[arg-type]


def _read_usage(body: str, unit: str, found: dict[str, object]) -> None:
    for item in re.split(r"[:,]", body):
        name, _, value = (part.strip() for part in item.partition("="))
        value, _, per = value.partition("/")
        if name == "mem":
            found["mem_mb"] = megabytes(value, unit)
            if per:
                found["mem_per"] = per.strip()
        elif name == "ngpus_physical":
            found["ngpus"] = int(float(value))
        elif name not in ("duration", "decay", "swp", "tmp", "ut"):
            raise BadRequirement(f"rusage[{body}]")


def _read_span(body: str, found: dict[str, object]) -> None:
    match = re.fullmatch(r"\s*(hosts|ptile|block)\s*=\s*(-?\d+)\s*", body)
    if match is None:
        raise BadRequirement(f"span[{body}]")
    if match[1] == "hosts":
        found["one_host"] = match[2] == "1"
    else:
        found[match[1]] = int(match[2])


def selects(text: str, values: dict[str, str | float | bool]) -> bool:
    """Whether a host with these values meets a selection: comparisons and boolean resources joined by && and ||, and !."""
    if text.strip() in ("", "-", "any", "type == any", "type==any"):
        return True
    either = [[term.strip().strip("()").strip() for term in side.split("&&")] for side in text.split("||")]
    return any(all(_holds(term, values) for term in terms) for terms in either)


def _holds(term: str, values: dict[str, str | float | bool]) -> bool:
    if not term or term.replace(" ", "") in ("type==any", "type==local", "defined(mem)"):
        return True
    match = COMPARISON.fullmatch(term)
    if match is None:
        negated = term.startswith("!")
        return bool(values.get(term.lstrip("!").strip(), False)) is not negated
    have, operator, wanted = values.get(match[1]), match[2], match[3]
    if isinstance(have, str) or have is None:
        return ((have or "") == wanted) is (operator != "!=")
    want = float(wanted)
    return bool(
        {"==": have == want, "=": have == want, "!=": have != want, ">": have > want, "<": have < want, ">=": have >= want,
         "<=": have <= want}[operator]
    )  # fmt: skip
