"""How many jobs of a class would rather wait: full pools fill up like vessels, the cheapest first, until one more job waiting
there would cost as much as the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from broker.placement.judge import Option


@dataclass(frozen=True, slots=True)
class Wait:
    """An option without room: the hours until there is some, its weighed cost with them, and what one waiting job adds to it
    for the next."""

    option: Option
    hours: float
    total: float
    each: float


def absorbed(waiting: Sequence[Wait], jobs: int, cap: float) -> list[float]:
    """How many of `jobs` wait at each, by rising `total`, such that none costs more than `cap`; at most `jobs` together."""
    level, slope, left = -math.inf, 0.0, float(jobs)
    for wait in waiting:
        reach = min(wait.total, cap)
        if slope and slope * (reach - level) >= left:
            break
        left -= slope * (reach - level) if slope else 0.0
        level = reach
        if wait.total >= cap:
            break
        slope += 1 / max(wait.each, 1e-9)
    if slope:
        level = min(level + left / slope, cap)
    return [max(level - wait.total, 0.0) / max(wait.each, 1e-9) for wait in waiting]
