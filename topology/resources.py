"""Amounts of what a node has and a task needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

EPSILON = 1e-9
"""Slack for sums of fractions: ten tasks of 0.1 cpus fit one cpu."""
MOST_TIMES = 1_000_000
"""Of an amount of nothing in any room."""


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of cpus, memory and GPUs by type; of one task, one node, or a whole pool.

    GPUs are a sorted tuple of (type, count) without zeros, so that equal amounts are equal and hash alike;
    build one from a mapping with `of`.
    """

    cpus: float = 0.0
    memory_gib: float = 0.0
    gpus: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def of(cpus: float = 0.0, memory_gib: float = 0.0, gpus: Mapping[str, int] = MappingProxyType({})) -> Resources:
        """Resources from a mapping of GPU type to count; zero counts are dropped."""
        return Resources(cpus, memory_gib, tuple(sorted((kind, count) for kind, count in gpus.items() if count)))

    @property
    def gpu_count(self) -> int:
        """GPUs of all types together."""
        return sum([count for _, count in self.gpus]) if self.gpus else 0

    def __add__(self, other: Resources) -> Resources:
        if not other.gpus:
            return Resources(self.cpus + other.cpus, self.memory_gib + other.memory_gib, self.gpus)
        return Resources.of(self.cpus + other.cpus, self.memory_gib + other.memory_gib, _summed(self, other, 1))

    def __sub__(self, other: Resources) -> Resources:
        """What is left; may be negative, which says by how much it was overcommitted."""
        if not other.gpus:
            return Resources(self.cpus - other.cpus, self.memory_gib - other.memory_gib, self.gpus)
        return Resources.of(self.cpus - other.cpus, self.memory_gib - other.memory_gib, _summed(self, other, -1))

    def __mul__(self, times: int) -> Resources:
        return Resources(self.cpus * times, self.memory_gib * times, tuple((kind, n * times) for kind, n in self.gpus if times))

    def fits(self, room: Resources) -> bool:
        """Whether this amount fits into `room`."""
        return self.times_in(room) >= 1

    def times_in(self, room: Resources) -> int:
        """How many times this amount fits into `room`; an amount of nothing, or next to nothing, `MOST_TIMES`."""
        times: float = MOST_TIMES
        if self.cpus > EPSILON:
            times = min(times, (room.cpus + EPSILON) / self.cpus)
        if self.memory_gib > EPSILON:
            times = min(times, (room.memory_gib + EPSILON) / self.memory_gib)
        if self.gpus:
            have = dict(room.gpus)
            for kind, count in self.gpus:
                times = min(times, have.get(kind, 0) // count)
        return max(int(times), 0)

    def shortfall(self, room: Resources) -> Resources:
        """What `room` lacks to hold this amount; `Resources()` when it fits."""
        have = dict(room.gpus)
        return Resources.of(
            _lack(self.cpus, room.cpus),
            _lack(self.memory_gib, room.memory_gib),
            {kind: max(count - have.get(kind, 0), 0) for kind, count in self.gpus},
        )

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} cpus"] if self.cpus else []
        parts += [f"{self.memory_gib:g} GiB memory"] if self.memory_gib else []
        parts += [f"{count} {kind} GPUs" for kind, count in self.gpus]
        return ", ".join(parts) or "nothing"


def _lack(want: float, have: float) -> float:
    return want - have if want - have > EPSILON else 0.0


def _summed(a: Resources, b: Resources, sign: int) -> dict[str, int]:
    gpus = dict(a.gpus)
    for kind, count in b.gpus:
        gpus[kind] = gpus.get(kind, 0) + sign * count
    return gpus
