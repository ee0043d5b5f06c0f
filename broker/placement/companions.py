"""Jobs that belong together: of one tenant, with the same word. By `affinity` all of them are at one site, which the first
chooses; by `spread` at most so many are at each."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from broker.jobs.model import Shape, Together
from broker.placement.arrays import Floats
from broker.placement.filters import Kind, Objection
from broker.placement.view import Group, Placement


class Companions:
    """How many are at each site: begins with what is there, and follows what a plan places."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self._at: dict[tuple[str, Together, str], Counter[str]] = defaultdict(Counter)
        for group in groups:
            self._at[group.tenant, group.rule, group.word] += Counter(group.at)

    def placed(self, shape: Shape, site: str, count: int) -> None:
        """So many more jobs of a class are at a site; with a count below 0, fewer."""
        for word in shape.sites.words:
            self._at[shape.tenant, *word][site] += count

    def jobs(self, shape: Shape, sites: Sequence[str]) -> Floats:
        """How many more jobs of a class may go to each of these sites now; infinitely many where no rule says anything."""
        jobs, home, spread = np.full(len(sites), math.inf), self._home(shape), shape.sites.spread
        if home is not None:
            jobs[[site != home for site in sites]] = 0.0
        if spread is not None:
            at = self._of(shape, Together.SPREAD, spread.word)
            jobs = np.minimum(jobs, [max(spread.per_site - at[site], 0) for site in sites])
        return jobs

    def objection(self, shape: Shape, site: str) -> Objection | None:
        """Why no more jobs of a class may go to a site."""
        home, spread = self._home(shape), shape.sites.spread
        if home not in (None, site):
            return Objection(Kind.TOGETHER, f"is not {home}, where its affinity {shape.sites.affinity} is", f"room at {home}")
        if spread is None or self._of(shape, Together.SPREAD, spread.word)[site] < spread.per_site:
            return None
        text = f"has the {spread.per_site} of its spread {spread.word} that may be at one site"
        return Objection(Kind.TOGETHER, text, f"one of {spread.word} at {site} to end, or a larger per_site")

    def groups(self) -> tuple[Group, ...]:
        """All that are at sites, as they are now."""
        return tuple(Group(*word, dict(+at)) for word, at in self._at.items() if +at)

    def _home(self, shape: Shape) -> str | None:
        """Where jobs of its affinity are; should they ever be at several sites, where the most are."""
        word = shape.sites.affinity
        at = +self._of(shape, Together.AFFINITY, word) if word is not None else {}
        return min(at, key=lambda site: (-at[site], site), default=None)

    def _of(self, shape: Shape, rule: Together, word: str) -> Counter[str]:
        return self._at.get((shape.tenant, rule, word), Counter())


def groups_after(groups: Iterable[Group], placements: Iterable[Placement]) -> tuple[Group, ...]:
    """The same once these placements are written."""
    companions = Companions(groups)
    for placement in placements:
        companions.placed(placement.shape, placement.site, placement.count)
    return companions.groups()
