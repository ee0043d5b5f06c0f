"""Recorded work, read from the formats in which traces are published, as plain records."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

MIB = 2**20
GIB = 2**30


class BadTrace(ValueError):
    """A file that is not what it should be: says where, and what would be right."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One job of a trace. `at` is in seconds since some beginning; sizes are of one task. What a trace does not tell is None."""

    name: str
    at: float
    run_time_s: float
    tenant: str = "default"
    tasks: int = 1
    cpus: float = 1.0
    memory_gib: float | None = None
    gpus: int = 0
    expected_s: float | None = None
    home: str | None = None
    """Where it ran."""
    input_gib: float | None = None
    kind: str | None = None
    """Jobs of one kind are equal but for their run time."""
    datasets: tuple[str, ...] = ()
    """What it reads, by name: `corpus`, `corpus@1` or, of another tenant, `vision/corpus`."""
    gpu_type: str | None = None
    priority: int = 50
    deadline_s: float | None = None
    where: str = ""
    """In its file, where it can name what is wrong."""


def read_swf(path: Path) -> Iterator[Recorded]:
    """Standard Workload Format 2.2 (Feitelson), gzipped or not: 18 fields, -1 where unknown. A job is as many tasks of one cpu as
    it was given processors; its home is its partition, its tenant its group. Jobs that never ran are left out."""
    for number, line in enumerate(lines_of(path), 1):
        if line.startswith(";") or not line.strip():
            continue
        fields = line.split()
        where = f"{path.name}:{number}"
        if len(fields) < 16:
            raise BadTrace(f"{where}: {len(fields)} fields: a job in Standard Workload Format has 18")
        run_time_s, tasks = number_of(fields[3], where, "run time"), int(number_of(fields[4], where, "processors"))
        if run_time_s <= 0 or tasks <= 0:
            continue
        requested, memory_kib = number_of(fields[8], where, "requested time"), number_of(fields[6], where, "memory")
        yield Recorded(
            name=f"j{fields[0]}",
            at=number_of(fields[1], where, "submit time"),
            run_time_s=run_time_s,
            tenant=f"g{fields[12]}",
            tasks=tasks,
            memory_gib=memory_kib / MIB if memory_kib > 0 else None,
            expected_s=requested if requested > 0 else None,
            home=f"p{fields[15]}",
        )


PHILLY_GPUS_PER_NODE = 8


def read_philly(path: Path) -> Iterator[Recorded]:
    """Microsoft's Philly trace as a table of timestamp, duration (s), num_gpus and cluster (a virtual cluster: home and tenant).
    Jobs of more than a node's 8 GPUs are gangs of whole nodes; 4 cpus and 32 GiB come with each GPU: the trace does not say."""
    for number, row in _table(path, "timestamp", "duration", "num_gpus", "cluster"):
        where = f"{path.name}:{number}"
        try:
            at = datetime.fromisoformat(row["timestamp"]).timestamp()
        except ValueError:
            raise BadTrace(f"{where}: timestamp {row['timestamp']!r}: like 2017-10-09 07:01:55") from None
        gpus, run_time_s = int(number_of(row["num_gpus"], where, "num_gpus")), number_of(row["duration"], where, "duration")
        if gpus <= 0 or run_time_s <= 0:
            continue
        tasks, each = (1, gpus) if gpus <= PHILLY_GPUS_PER_NODE else (-(-gpus // PHILLY_GPUS_PER_NODE), PHILLY_GPUS_PER_NODE)
        yield Recorded(f"j{number}", at, run_time_s, row["cluster"], tasks, 4.0 * each, 32.0 * each, each, home=row["cluster"])


def read_alibaba(path: Path) -> Iterator[Recorded]:
    """Alibaba's GPU cluster of 2023 (`openb_pod_list`): one task per pod. A part of a GPU counts as a whole one; pods that were
    never scheduled are left out. The tenant is the class of service."""
    columns = ("name", "cpu_milli", "memory_mib", "num_gpu", "qos", "creation_time", "deletion_time", "scheduled_time")
    for number, row in _table(path, *columns):
        where = f"{path.name}:{number}"
        if not row["scheduled_time"]:
            continue
        began = number_of(row["scheduled_time"], where, "scheduled_time")
        run_time_s = number_of(row["deletion_time"], where, "deletion_time") - began
        if run_time_s <= 0:
            continue
        yield Recorded(
            name=row["name"],
            at=number_of(row["creation_time"], where, "creation_time"),
            run_time_s=run_time_s,
            tenant=row["qos"].lower() or "default",
            cpus=number_of(row["cpu_milli"], where, "cpu_milli") / 1000,
            memory_gib=number_of(row["memory_mib"], where, "memory_mib") / 1024,
            gpus=int(number_of(row["num_gpu"], where, "num_gpu")),
        )


def read_swim(path: Path) -> Iterator[Recorded]:
    """SWIM's samples of Facebook's Hadoop: tab-separated name, submit time, gap, and bytes of map input, shuffle and reduce
    output. It tells no sizes and no run times: what counts here is `input_gib`, and the run time is 0."""
    for number, line in enumerate(lines_of(path), 1):
        fields = line.rstrip("\n").split("\t")
        where = f"{path.name}:{number}"
        if len(fields) < 6:
            raise BadTrace(f"{where}: {len(fields)} columns: name, submit time, gap and three numbers of bytes, by tabs")
        at, input_bytes = number_of(fields[1], where, "submit time"), number_of(fields[3], where, "input bytes")
        yield Recorded(f"{fields[0]}-{number}", at, 0.0, input_gib=input_bytes / GIB)


COLUMNS: Mapping[str, str] = {
    "name": "the job's",
    "at": "seconds since some beginning",
    "run_time_s": "seconds",
    "tenant": "its name; optional",
    "tasks": "optional; 1",
    "cpus": "of a task; optional; 1",
    "memory_gib": "of a task; optional",
    "gpus": "of a task; optional; 0",
    "expected_s": "seconds, as its user thought; optional",
    "home": "where it ran; optional",
    "input_gib": "what it read; optional",
    "datasets": "what it reads, by name, with spaces between: corpus, corpus@2, vision/corpus; optional",
    "gpu_type": "such as a100; optional: any",
    "priority": "0 to 100; optional: 50",
    "deadline_s": "seconds after it came; optional",
}
"""Of a plain table."""
NEEDED = ("name", "at", "run_time_s")
WORDS = ("name", "tenant", "home", "gpu_type")
WHOLE = ("tasks", "gpus", "priority")
LEAST: Mapping[str, float] = {"tasks": 1}
"""What a number may be at the least; others 0."""


def read_table(path: Path) -> Iterator[Recorded]:
    """A plain table with the columns `COLUMNS`: CSV, or Parquet by its suffix (needs the extra `simulate`)."""
    rows = _parquet(path) if path.suffix == ".parquet" else _table(path, *NEEDED)
    for number, row in rows:
        where = f"{path.name}:{number}"
        unknown = row.keys() - COLUMNS.keys()
        if unknown:
            raise BadTrace(f"{path.name}: column {min(unknown)} is none of {', '.join(COLUMNS)}")
        missing = [name for name in NEEDED if row.get(name) in (None, "")]
        if missing:
            raise BadTrace(f"{where}: {missing[0]} is missing: {COLUMNS[missing[0]]}")
        given = {name: _cell(name, cell, where) for name, cell in row.items() if cell not in (None, "")}
        yield Recorded(**given, where=where)


def _cell(name: str, cell: Any, where: str) -> Any:
    """What a table's cell stands for."""
    if name == "datasets":
        return tuple(cell.split()) if isinstance(cell, str) else tuple(map(str, cell))
    if name in WORDS:
        return str(cell)
    value, least = number_of(cell, where, name), LEAST.get(name, 0)
    if value < least:
        raise BadTrace(f"{where}: {name} {cell!r}: at least {least:g}")
    if name not in WHOLE:
        return value
    if value != int(value):
        raise BadTrace(f"{where}: {name} {cell!r}: a whole number")
    return int(value)


READERS: Mapping[str, Callable[[Path], Iterator[Recorded]]] = {
    "swf": read_swf,
    "philly": read_philly,
    "alibaba": read_alibaba,
    "swim": read_swim,
    "table": read_table,
}


def lines_of(path: Path) -> Iterator[str]:
    """Of a text, gzipped or not. Raises BadTrace for what ends in .gz and is not, and OSError."""
    if path.suffix == ".gz":
        try:
            with gzip.open(path, "rt", encoding="utf-8", errors="replace") as zipped:
                yield from zipped
        except (gzip.BadGzipFile, EOFError) as error:
            raise BadTrace(f"{path.name}: not gzipped, or cut off: {error}") from None
    else:
        with path.open(encoding="utf-8", errors="replace") as plain:
            yield from plain


def _table(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with their line numbers. Raises BadTrace where a column is missing."""
    rows = csv.DictReader(lines_of(path))
    missing = [column for column in columns if column not in (rows.fieldnames or ())]
    if missing:
        raise BadTrace(f"{path.name}: no column {missing[0]}: it should have {', '.join(columns)}")
    for row in rows:
        if None in row or None in row.values():
            raise BadTrace(f"{path.name}:{rows.line_num}: not as many cells as there are columns")
        yield rows.line_num, row


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]
    except ImportError:
        raise BadTrace(f"{path.name}: Parquet needs the extra `simulate`: pip install 'fedbroker[simulate]'") from None
    try:
        table = parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise BadTrace(f"{path.name}: not a Parquet file: {error}") from None
    missing = [column for column in NEEDED if column not in table.column_names]
    if missing:
        raise BadTrace(f"{path.name}: no column {missing[0]}: it should have {', '.join(NEEDED)}")
    yield from enumerate(table.to_pylist(), 1)


def number_of(cell: Any, where: str, field: str) -> float:
    """What a cell says. Raises BadTrace for what is no number, or infinite."""
    try:
        number = float(cell)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadTrace(f"{where}: {field} {cell!r}: a number")
    return number
