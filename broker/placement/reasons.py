"""Why a class stays in the queue: one sentence, and what would help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from broker.placement.filters import Kind, Objection
from broker.placement.view import Passed
from broker.placement.words import listed, span
from topology.resources import Resources

MOST_TOLD = 3
"""Sites named in a reason; the others are counted."""
LEFT_OUT = (Kind.NAME, Kind.REGION, Kind.TOGETHER)
"""The job itself leaves out a site of which one of these is said."""


def objected(objections: Mapping[str, tuple[Objection, ...]]) -> Passed:
    """Every site objects. Where for some that will pass by itself, or by an admin's word, only they are named.
    Those that the job itself leaves out come last."""
    if not objections:
        return Passed("no site is registered", ("a site",))
    lasting = {site: tuple(each for each in said if each.kind.is_lasting) for site, said in objections.items()}
    passing = {site: said for site, said in objections.items() if not lasting[site]}
    left_out = {site for site, said in objections.items() if any(each.kind in LEFT_OUT for each in said)}
    told = dict(sorted((passing or lasting).items(), key=lambda each: each[0] in left_out))
    texts = [f"{site}: {listed([each.text for each in said], MOST_TOLD, ', ')}" for site, said in told.items()]
    cures = [tuple(each.help for each in said) for said in told.values()]
    lead = "no site takes it now" if passing else "no site can run it"
    others = len(objections) - len(told)
    more = f"; {others} {'other' if others == 1 else 'others'} can never run it" if others else ""
    helps = tuple(" and ".join(cure) for cure in cures if all(cure))
    return Passed(f"{lead}: {listed(texts, MOST_TOLD)}{more}", helps[:MOST_TOLD])


@dataclass(frozen=True, slots=True)
class Full:
    """A pool that cannot start a job now: `fit` of its tasks fit, and `free` is what is free there by sums."""

    site: str
    pool: str
    task: Resources
    tasks: int
    fit: int
    free: Resources

    @property
    def lack(self) -> str:
        """Why it cannot."""
        if self.fit >= self.tasks:
            return "its room is kept for an earlier job"
        return f"{self.fit} of {self.tasks} tasks fit" if self.tasks > 1 else f"short of {self._short or self.task}"

    @property
    def help(self) -> str:
        """What would let the job start there."""
        if self.fit >= self.tasks:
            return f"a shorter run time, or more room at {self.site}"
        short = self._short
        return f"{short} more at {self.site}" if short else f"{self.task} free on one node at {self.site}"

    @property
    def _short(self) -> str:
        """What the pool lacks by its sums; empty when only its nodes are too broken up."""
        short = (self.task * self.tasks).shortfall(self.free)
        return str(short) if short != Resources() else ""


def waits(at: Full, hours: float, here: str) -> Passed:
    """It waits for room in a pool; `here` is a costlier site that has room now, if one has."""
    besides = f"; {here} has room but would cost more" if here else ""
    return Passed(f"waits for {at.site}/{at.pool}, about {span(hours)}: {at.lack}{besides}", (at.help,), at.site, at.pool)


@dataclass(frozen=True, slots=True)
class Spill:
    """The next rank of sites that a job may not go to yet: in how many hours it may, the sites before it, and the one of that
    rank; empty for all that it does not name."""

    hours: float
    before: tuple[str, ...]
    then: str


def prefers(spill: Spill, passed: Passed) -> Passed:
    """It does not look any further yet."""
    before, then = " or ".join(spill.before), spill.then or "any other site"
    return replace(passed, reason=f"waits for {before}, which it prefers, {span(spill.hours)} more; then {then}")


def is_late(left_hours: float, passed: Passed) -> Passed:
    """Its deadline is so many hours away, or past where that is negative, and there is no saving it."""
    when = f"in {span(left_hours)}, cannot be met any more" if left_hours > 0 else f"{span(-left_hours)} ago, was not met"
    return replace(passed, reason="; ".join(filter(None, (passed.reason, f"its deadline, {when}"))))


def gives_way(at: Full, evictions: int) -> Passed:
    """Others end so that it can start in a pool: `evictions` more than were asked to before."""
    who = f"{evictions} {'run gives' if evictions == 1 else 'runs give'} way to it" if evictions else "what ends there makes room"
    return Passed(f"waits for {at.site}/{at.pool}, about a minute: {who}", (), at.site, at.pool)
