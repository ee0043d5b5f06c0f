"""What verbs share: the endpoint they talk to, and how they print."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from broker.errors import FedError, Invalid

if TYPE_CHECKING:
    from broker.client import Client

T = TypeVar("T")

GAP = 2
"""Characters between columns."""
WONDER_S = 1.0
LEAST, LEAST_CUT = 24, 12
"""Characters that a column of words should have before others go for its sake: folded, and cut off."""


class Format(StrEnum):
    """How to print."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]


@dataclass(frozen=True, slots=True)
class Session:
    """The endpoint of this call of `fed`."""

    url: str
    token: str | None
    patience_s: float
    ca_file: str | None = None

    def run(self, action: Callable[[Client], Awaitable[T]]) -> T:
        """`action` with a client of the endpoint."""
        from broker.client import run

        return run(self.url, self.token, action, self.patience_s, self.ca_file, self._told_waits())

    def _told_waits(self) -> Callable[[FedError], None]:
        """Says on a terminal, once, that there is no answer yet, when that takes long enough for people to wonder."""
        began, is_told = time.monotonic(), not sys.stderr.isatty()

        def tell(error: FedError) -> None:
            nonlocal is_told
            if not is_told and time.monotonic() - began > WONDER_S:
                is_told = True
                print(f"fed: {error.detail}; asking again for up to {self.patience_s:g} s", file=sys.stderr)

        return tell


def text_of(file: Path) -> str:
    """What a file holds; `-` is standard input. Raises Invalid."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except OSError as error:
        raise Invalid(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{file}: {error}") from error


def show(answer: Any, output: Format, table: Callable[[Any], None], wide: Callable[[Any], None] | None = None) -> None:
    """Print an answer as the user wants it: by `table`, by `wide` if there is more to tell, or for programs."""
    match output:
        case Format.JSON:
            print(json.dumps(answer, indent=2))
        case Format.YAML:
            from broker.documents.plain import yaml_of

            print(yaml_of(answer), end="")
        case Format.NAME:
            for item in answer.get("items", [answer]):
                print(name_of(item))
        case Format.WIDE if wide:
            wide(answer)
        case _:
            table(answer)


def name_of(item: Mapping[str, Any]) -> str:
    """What other verbs take for it: a job's id, a dataset's name with its version, else the name."""
    if "phase" in item:
        return str(item.get("id") or item["job"])
    return f"{item['name']}@{item['version']}" if "checksum" in item else str(item.get("name", ""))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], spare: Sequence[str] = (), short: bool = False) -> None:
    """Columns as wide as what they hold; where no terminal is, a row is a line with all there is. On one that is too narrow
    columns go, the first of `spare` first; then the last is folded or, with `short`, cut off, so that a row is a line."""
    from rich.console import Console
    from rich.table import Table

    cells = [[cell(each) for each in row] for row in rows]
    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else 1_000, highlight=False, markup=False, soft_wrap=not is_terminal)
    widths = [max(len(column), *(len(row[number]) for row in cells), 0) for number, column in enumerate(columns)]
    least = min(widths[-1], LEAST_CUT if short else LEAST)
    kept = _fitting(columns, widths, spare, console.width - least) if is_terminal else range(len(columns))
    left = console.width - sum(widths[number] + GAP for number in kept[:-1])
    fits = left >= least
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number in kept[:-1]:
        table.add_column(columns[number], no_wrap=not is_terminal, overflow="fold", min_width=widths[number] if fits else None)
    is_cut = short and fits
    table.add_column(
        columns[-1],
        no_wrap=not is_terminal or is_cut,
        overflow="ellipsis" if is_cut else "fold",
        max_width=left if fits else None,
    )
    for row in cells:
        table.add_row(*(row[number] for number in kept))
    console.print(table)


def _fitting(columns: Sequence[str], widths: Sequence[int], spare: Sequence[str], room: int) -> Sequence[int]:
    """The columns that are shown: of `spare` as many go as it takes until all but the last find room."""
    kept = list(range(len(columns)))
    for name in (name for name in spare if name in columns):
        if sum(widths[number] + GAP for number in kept[:-1]) <= room:
            break
        kept.remove(columns.index(name))
    return kept


def ago(at: float | None) -> str:
    """How long since an epoch second."""
    if at is None:
        return "-"
    seconds = max(time.time() - at, 0.0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def clock_time(at: float) -> str:
    """An epoch second by this machine's clock."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def cell(value: object) -> str:
    """A value as a table shows it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {cell(each)}" for name, each in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value)) or "-"
    return str(value)
