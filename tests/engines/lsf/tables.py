"""How LSF lays out what it shows: `-o` tables, `-json`, times, and long lines.

IBM, LSF 10.1: "bjobs -o" (lsf_command_ref/bjobs.o.1: field[:[-][width]][:unit], delimiter=), "bjobs -json", "bhosts"
and "bqueues" (the same). The JSON's layout is that of public projects that keep recorded replies of bjobs, bhosts and
bqueues.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
LINE = 80
INDENT = " " * 21


class Misused(Exception):
    """A command line that the command does not take: its message."""


@dataclass(frozen=True)
class Field(Generic[T]):
    """A field of `-o`: its recommended width, and its value as text, empty where there is none."""

    width: int
    value: Callable[[T], str]


@dataclass(frozen=True)
class Column:
    """One field that was asked for: width 0 is unlimited."""

    name: str
    width: int = 0
    is_right: bool = False


def columns(spec: str, fields: Mapping[str, Field[T]], aliases: Mapping[str, str]) -> tuple[list[Column], str | None]:
    """What a format asks for, and its delimiter. Raises Misused for a field that there is not."""
    delimiter = None
    match = re.search(r"delimiter\s*=\s*(['\"])(.*?)\1", spec)
    if match:
        delimiter, spec = match[2], spec.replace(match[0], "")
    words = spec.split()
    if words and words[0].split(":")[0] == "all":
        words = [word + words[0][3:] for word in fields]
    found = []
    for word in words:
        name, *rest = word.split(":")
        name = aliases.get(name.lower(), name.lower())
        if name not in fields:
            raise Misused(f"{word}: Illegal field name. ")
        width = rest[0] if rest else None
        is_right = bool(width) and str(width).startswith("-")
        number = fields[name].width if width in ("", "-") else int(str(width).lstrip("-")) if width else 0
        found.append(Column(name, number, is_right))
    if not found:
        raise Misused("No field name is specified. ")
    return found, delimiter


def as_json(command: str, plural: str, records: Sequence[Mapping[str, str]]) -> str:
    """The JSON of a listing: every value a string."""
    lines = ["{", f'  "COMMAND":"{command}",', f'  "{plural}":{len(records)},', '  "RECORDS":[']
    for place, record in enumerate(records):
        lines.append("    {")
        lines += [
            f'      "{key}":"{_escaped(value)}"{"," if number < len(record) - 1 else ""}'
            for number, (key, value) in enumerate(record.items())
        ]
        lines.append("    }," if place < len(records) - 1 else "    }")
    return "\n".join([*lines, "  ]", "}"]) + "\n"


def as_table(shown: Sequence[Column], delimiter: str | None, rows: Iterable[Sequence[str]], has_header: bool = True) -> str:
    """The text of a listing: a hyphen where there is no value, a star where a name's beginning was cut."""
    lines = [delimiter_or_space(delimiter).join(_fit(c.name.upper(), c, delimiter) for c in shown)] if has_header else []
    for row in rows:
        cells = [_fit(value or "-", column, delimiter) for column, value in zip(shown, row, strict=True)]
        lines.append(delimiter_or_space(delimiter).join(cells))
    return "".join(f"{line.rstrip() if delimiter is None else line}\n" for line in lines)


def delimiter_or_space(delimiter: str | None) -> str:
    """What stands between columns."""
    return " " if delimiter is None else delimiter


def _fit(value: str, column: Column, delimiter: str | None) -> str:
    width = column.width
    if not width:
        return value
    if len(value) > width:
        return f"*{value[-width + 1 :]}" if column.name == "job_name" else value[:width]
    if delimiter is not None:
        return value
    return value.rjust(width) if column.is_right else value.ljust(width)


def _escaped(value: str) -> str:
    return "".join({'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}.get(character, character) for character in value)


def short_time(at: float | None, has_year: bool) -> str:
    """`May 28 12:45`; `Oct 28 12:45:12 2026` with LSB_BJOBS_DISPLAY_YEAR (lsf.conf)."""
    if at is None:
        return ""
    return time.strftime("%b %e %H:%M:%S %Y" if has_year else "%b %e %H:%M", time.localtime(at))


def long_time(at: float, has_year: bool = False) -> str:
    """`Mon Nov 29 14:08:35`, of the long formats."""
    return time.strftime("%a %b %e %H:%M:%S %Y" if has_year else "%a %b %e %H:%M:%S", time.localtime(at))


def wrapped(text: str) -> str:
    """A line of a long format: cut at 80 characters, wherever that is, and indented from then on."""
    lines, rest, room = [], text, LINE
    while len(rest) > room:
        lines.append(rest[:room])
        rest, room = rest[room:], LINE - len(INDENT)
    return "\n".join([*lines, rest]).replace("\n", "\n" + INDENT) + "\n"


@dataclass(frozen=True)
class Options:
    """A command line of a command that shows things."""

    flags: frozenset[str]
    values: Mapping[str, str]
    names: tuple[str, ...]

    @staticmethod
    def of(argv: Sequence[str], with_value: str, without: str) -> Options:
        """Read it. Raises Misused for an option that is not in either list."""
        flags, values, names = set(), {}, []
        words = iter(argv[1:])
        for word in words:
            if word in with_value.split():
                values[word] = next(words, "")
            elif word in without.split():
                flags.add(word)
            elif word.startswith("-"):
                raise Misused(f"{argv[0]}: illegal option -- {shlex.quote(word.lstrip('-'))}")
            else:
                names.append(word)
        return Options(frozenset(flags), values, tuple(names))
