"""What tenants have held of late: an hour of a cpu counts half as much after a half-life."""

from __future__ import annotations

from collections.abc import Mapping

from topology.resources import Resources

Amounts = tuple[float, float, float]
"""Cpus, GiB of memory and GPUs."""
NONE: Amounts = (0.0, 0.0, 0.0)
NEXT_TO_NOTHING = 1e-6
"""What is less is forgotten."""


class Fading:
    """Follows what is held, look by look: what was held at one is taken to have been held until the next."""

    def __init__(self, half_life_s: float, past: Mapping[str, Amounts], now: float) -> None:
        """`past` by tenant, as of `now` (seconds)."""
        self.past = dict(past)
        self._half_life_s = half_life_s
        self._held: dict[str, Amounts] = {}
        self._as_of = now

    def look(self, now: float, holds: Mapping[str, Resources]) -> Mapping[str, Amounts]:
        """What was held of late, as of now. `holds` is what tenants hold from now on."""
        kept = 0.5 ** (max(now - self._as_of, 0.0) / self._half_life_s)
        for name in {*self.past, *self._held}:
            pairs = zip(self.past.get(name, NONE), self._held.get(name, NONE), strict=True)
            cpus, memory, gpus = (past * kept + held * (1 - kept) for past, held in pairs)
            if cpus + memory + gpus > NEXT_TO_NOTHING:
                self.past[name] = (cpus, memory, gpus)
            else:
                self.past.pop(name, None)
        self._as_of = now
        self._held = {name: amounts(held) for name, held in holds.items()}
        return self.past


def faded(held: Amounts, began_s: float, ended_s: float, half_life_s: float) -> Amounts:
    """What fading leaves of what was held from `began_s` to `ended_s` seconds ago: 2**(-ended/h) - 2**(-began/h) of it."""
    part = 0.5 ** (max(ended_s, 0.0) / half_life_s) - 0.5 ** (max(began_s, 0.0) / half_life_s)
    return held[0] * part, held[1] * part, held[2] * part


def amounts(held: Resources) -> Amounts:
    """Of all GPU types together."""
    return held.cpus, held.memory_gib, float(held.gpu_count)
