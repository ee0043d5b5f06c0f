"""A link: one direction between two sites."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
BITS_PER_BYTE = 8


@dataclass(frozen=True, slots=True)
class Link:
    """A directed connection. 1 Gbps = 1e9 bit/s; GiB = 2**30 bytes."""

    source: str
    target: str
    bandwidth_gbps: float
    latency_ms: float = 0.0
    price_per_gib: float = 0.0

    @property
    def name(self) -> str:
        """`source:target`."""
        return f"{self.source}:{self.target}"


def bytes_per_second(gbps: float) -> float:
    """What a rate in Gbps moves in a second, in bytes."""
    return gbps * 1e9 / BITS_PER_BYTE
