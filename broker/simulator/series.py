"""What was recorded over time: whether spot machines could be had, and how much carbon a grid's electricity had."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from broker.simulator.readers import BadTrace, lines_of, number_of

TIMES = ("Datetime (UTC)", "timestamp")
INTENSITIES = ("Carbon Intensity gCO₂eq/kWh (direct)", "carbon_intensity")
"""Columns of the tables of Electricity Maps and of OpenDC, whichever is there."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values that each hold for `step_s` seconds, one after the other; after the last the first again."""

    name: str
    step_s: float
    values: tuple[float, ...]

    def changes(self, begin_s: float, until_s: float) -> list[tuple[float, float]]:
        """(second, value) of each change before second `until_s`, from a moment of the series on that is second 0; the value
        there is the first."""
        found: list[tuple[float, float]] = []
        first = int(begin_s // self.step_s)
        for step in range(first, math.ceil((begin_s + until_s) / self.step_s)):
            value = self.values[step % len(self.values)]
            if not found or value != found[-1][1]:
                found.append((max(step * self.step_s - begin_s, 0.0), value))
        return found


def read_spot(path: Path) -> Series:
    """SkyPilot's spot traces (Wu et al., NSDI 2024), gzipped or not: a JSON object with `metadata.gap_seconds` and `data`,
    1 where no machine was to be had. Raises BadTrace, and OSError."""
    try:
        found = json.loads("".join(lines_of(path)))
    except ValueError as error:
        raise BadTrace(f"{path.name}: no JSON: {error}") from None
    metadata, values = (found.get("metadata"), found.get("data")) if isinstance(found, Mapping) else (None, None)
    step = metadata.get("gap_seconds") if isinstance(metadata, Mapping) else None
    if not isinstance(step, int | float) or not 1 <= step < math.inf:
        raise BadTrace(f"{path.name}: metadata.gap_seconds {step!r}: seconds, at least 1")
    if not isinstance(values, list) or not values or any(value not in (0, 1) for value in values):
        raise BadTrace(f"{path.name}: data: a list of 0 (to be had) and 1 (not to be had)")
    return Series(_bare(path), float(step), tuple(map(float, values)))


def read_carbon(path: Path) -> Series:
    """A table of times and g/kWh, gzipped or not, with the columns of Electricity Maps or OpenDC; its first two times say how far
    they are apart. Raises BadTrace, and OSError."""
    rows = csv.DictReader(lines_of(path))
    names = rows.fieldnames or ()
    time, intensity = (next((name for name in known if name in names), None) for known in (TIMES, INTENSITIES))
    if time is None or intensity is None:
        raise BadTrace(f"{path.name}: it should have a column {' or '.join(TIMES)}, and one {' or '.join(INTENSITIES)}")
    times, values = [], []
    for row in rows:
        where = f"{path.name}:{rows.line_num}"
        try:
            times.append(datetime.fromisoformat(row[time] or "").timestamp())
        except (TypeError, ValueError):
            raise BadTrace(f"{where}: {time} {row[time]!r}: like 2022-01-01 00:00:00") from None
        values.append(number_of(row[intensity], where, intensity))
        if values[-1] < 0:
            raise BadTrace(f"{where}: {intensity} {row[intensity]!r}: g per kWh, at least 0")
    if len(values) < 2 or times[1] <= times[0]:
        raise BadTrace(f"{path.name}: at least two rows, in the order of their times")
    return Series(_bare(path), times[1] - times[0], tuple(values))


def files_of(path: Path, pattern: str) -> list[Path]:
    """A file, or those of a folder by name. Raises BadTrace for a folder without any."""
    found = sorted(path.glob(pattern)) if path.is_dir() else [path]
    if not found:
        raise BadTrace(f"{path}: there is no {pattern} in it")
    return found


def _bare(path: Path) -> str:
    return path.name.split(".")[0]
