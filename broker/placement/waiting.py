"""How many jobs of a class would rather wait: full pools fill up like vessels, the cheapest first, until one more job waiting
there would cost as much as the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from broker.placement.arrays import Floats, Places

LEAST_EACH = 1e-9
"""What a waiting job adds at the least, so that nothing is filled for ever."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Options without room, by rising `total`: their weighed cost with the hours until there is some, and what one waiting job
    adds to it for the next."""

    options: Places
    hours: Floats
    totals: Floats
    each: Floats

    def absorbed(self, jobs: int, cap: float) -> Floats:
        """How many of `jobs` wait at each, such that none costs more than `cap`; at most `jobs` together."""
        totals, rates = self.totals, 1 / np.maximum(self.each, LEAST_EACH)
        below = int(np.searchsorted(totals, cap))
        if not below:
            return np.zeros(len(totals))
        slopes = np.cumsum(rates[:below])
        filled = slopes * totals[:below] - np.cumsum(rates[:below] * totals[:below])
        last = int(np.searchsorted(filled, jobs, "right")) - 1
        last = max(last, 0)
        level = min(float(totals[last] + (jobs - filled[last]) / slopes[last]), cap)
        return np.maximum(level - totals, 0.0) * rates


def together(hours_each: Floats) -> float:
    """How much longer one more job makes the wait of the next where pools fill up alike: each of them takes so many hours for a
    job. 0 for no pools."""
    return float(1 / (1 / np.maximum(hours_each, LEAST_EACH)).sum()) if hours_each.size else 0.0
