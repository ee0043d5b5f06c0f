"""What tenants may hold by their quotas, and by those of the tenants above them, while a plan is made.

Jobs that may not be preempted stay within a quota's `amount`. Those that may be are the tenant's own work as long as all that it
holds is within the amount of its nearest quota; beyond, they borrow: up to `borrow` more, of what others leave idle, and for as
long as nobody needs it back. So whatever is lent can be taken back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from broker.jobs.model import Shape
from broker.placement.arrays import Flags, Floats
from broker.placement.filters import Kind, Objection
from broker.placement.order import Rank
from broker.placement.reasons import MOST_TOLD
from broker.placement.view import Passed, PlanInput, SiteView, TenantView
from broker.records import Quota
from topology.resources import EPSILON, Resources


@dataclass(slots=True, eq=False)
class Line:
    """One quota of a tenant. `used` counts all that it and those below it hold; `firm` the part of it that may not be preempted,
    `ending` that which will soon be over."""

    owner: str
    quota: Quota
    used: float = 0.0
    firm: float = 0.0
    ending: float = 0.0

    @property
    def most(self) -> float:
        """With what may be borrowed."""
        borrow = self.quota.borrow
        return math.inf if borrow is None else self.quota.amount + borrow

    def of(self, site: str, held: Resources) -> float:
        """How much of an amount at a site it counts."""
        quota = self.quota
        if quota.site not in (None, site):
            return 0.0
        if quota.resource == "gpus":
            return float(sum(count for kind, count in held.gpus if quota.gpu_type in (None, kind)))
        return held.cpus if quota.resource == "cpus" else held.memory_gib

    def __str__(self) -> str:
        quota = self.quota
        what = "GiB of memory" if quota.resource == "memory_gib" else quota.resource
        what = f"{quota.gpu_type + ' ' if quota.gpu_type else ''}GPUs" if quota.resource == "gpus" else what
        return f"{what} at {quota.site}" if quota.site else what


@dataclass(slots=True, eq=False)
class Allowance:
    """What the quotas let one class have, by its options: for each line what a job takes of it. `own` are the lines of the
    nearest tenant that has some for an option; `has_own` says where one has."""

    lines: tuple[tuple[Line, Floats], ...]
    own: tuple[tuple[Line, Floats], ...]
    has_own: Flags

    def jobs(self, rank: Rank) -> Floats:
        """How many jobs may start now."""
        return np.minimum(self.entitled(rank), _times(((line.most - line.used, need) for line, need in self.lines), self.has_own))

    def entitled(self, rank: Rank) -> Floats:
        """How many might, if all that this rank may preempt gave way."""
        match rank:
            case Rank.FIRM:
                return _times(((line.quota.amount - line.firm, need) for line, need in self.lines), self.has_own)
            case Rank.OWN:
                within = _times(((line.quota.amount - line.used, need) for line, need in self.own), self.has_own)
                return np.where(self.has_own, within, 0.0)
            case Rank.SPARE:
                return _times(((line.most - line.used, need) for line, need in self.lines), self.has_own)

    def shortages(self, option: int, jobs: int) -> Iterator[tuple[Line, float]]:
        """The lines that have too little left for so many jobs, even once what is ending is over, and how much they lack."""
        for line, need in self.lines:
            lack = float(need[option]) * jobs - (line.most - line.used + line.ending)
            if lack > EPSILON:
                yield line, lack

    def binding(self, option: int, rank: Rank) -> tuple[Line, float]:
        """The line that leaves the least beside what a job takes of it, and how much that is."""
        pairs = ((line, float(need[option])) for line, need in self.lines if need[option])
        return min(pairs, key=lambda pair: _left(pair[0], rank) - pair[1])


class Quotas:
    """Begins with what tenants hold; `add` follows what a plan places and what it makes give way."""

    def __init__(self, given: PlanInput) -> None:
        known = {tenant.name: tenant for tenant in given.tenants}
        own = {name: tuple(Line(name, quota) for quota in tenant.quotas) for name, tenant in known.items()}
        self._chains: dict[str, tuple[Line, ...]] = {}
        """By tenant, its lines and those of the tenants above it, nearest first; only where there are any."""
        if not any(own.values()):
            return
        for name in known:
            chain = tuple(line for each in above(name, known) for line in own[each])
            if chain:
                self._chains[name] = chain
        for tenant in given.tenants:
            for site, held in tenant.holds_at.items():
                self.add(tenant.name, site, held, is_firm=True)
        for view in given.sites:
            self._set_apart(view)

    def __contains__(self, tenant: str) -> bool:
        """Whether a tenant has quotas, or is below one that has."""
        return tenant in self._chains

    def allowance(self, shape: Shape, sites: Sequence[str], tasks: Sequence[Resources]) -> Allowance | None:
        """What a class may have at each of these pairs of site and task; None where no quota says anything."""
        chain = self._chains.get(shape.tenant)
        if chain is None:
            return None
        pairs = list(zip(sites, (task * shape.tasks for task in tasks), strict=True))
        lines = tuple((line, np.array([line.of(site, whole) for site, whole in pairs])) for line in chain)
        settled = np.zeros(len(pairs), dtype=bool)
        own = []
        for owner in dict.fromkeys(line.owner for line in chain):
            of_owner = [(line, need) for line, need in lines if line.owner == owner]
            own += [(line, np.where(settled, 0.0, need)) for line, need in of_owner]
            settled = settled | (sum(need for _, need in of_owner) > 0)
        return Allowance(lines, tuple(own), settled)

    def add(self, tenant: str, site: str, held: Resources, *, is_firm: bool, sign: int = 1) -> None:
        """A tenant holds so much more at a site; with `sign` -1, less."""
        for line in self._chains.get(tenant, ()):
            amount = sign * line.of(site, held)
            line.used += amount
            line.firm += amount if is_firm else 0.0

    def rank_of(self, tenant: str, site: str, held: Resources) -> Rank:
        """Whether a run that may be preempted is its tenant's own, or borrowed: whether without it the tenant would still hold
        all of the amount of one of its nearest quotas that count the run."""
        owner = ""
        for line in self._chains.get(tenant, ()):
            amount = line.of(site, held)
            if owner and line.owner != owner:
                break
            if amount:
                owner = line.owner
                if line.used - amount >= line.quota.amount - EPSILON:
                    return Rank.SPARE
        return Rank.OWN if owner else Rank.SPARE

    def has_scopes(self, tenant: str) -> bool:
        """Whether it matters to the quotas where jobs of a tenant go."""
        return any(line.quota.site or line.quota.gpu_type for line in self._chains.get(tenant, ()))

    def is_below(self, tenant: str, line: Line) -> bool:
        """Whether what a tenant holds counts on a line."""
        return line in self._chains.get(tenant, ())

    def _set_apart(self, view: SiteView) -> None:
        """What is preemptible, or ending, was counted with all that is held."""
        for group, is_ending in (*((each, False) for each in view.preemptible), *((each, True) for each in view.ending)):
            for line in self._chains.get(group.tenant, ()):
                amount = line.of(view.site.name, group.task * (group.tasks * len(group.jobs)))
                line.firm -= amount
                line.ending += amount if is_ending else 0.0


def over_quota(shape: Shape, allowance: Allowance, weighed: Floats, rank: Rank) -> Passed:
    """Of a class of which quotas allow no more anywhere: the lines that bind, those of the cheapest options first."""
    options = [int(option) for option in np.argsort(weighed, kind="stable") if math.isfinite(weighed[option])]
    said = [objection(shape, *bound) for bound in dict.fromkeys(allowance.binding(option, rank) for option in options)]
    return Passed("; ".join(each.text for each in said[:MOST_TOLD]), tuple(each.help for each in said[:MOST_TOLD]))


def objection(shape: Shape, line: Line, need: float) -> Objection:
    """Why a quota takes no more jobs of a class, each of which takes `need` of it."""
    is_firm = not shape.preemptible and line.quota.amount - line.firm < line.most - line.used
    held, may = (line.firm, line.quota.amount) if is_firm else (line.used, line.most)
    never = f", and a job needs {need:g}" if need > may + EPSILON else ""
    told = f"tenant {line.owner} holds {held:g} of the {may:g} {line} that it may{never}"
    can_borrow = is_firm and need <= line.most + EPSILON and line.most > line.quota.amount
    cure = f"a larger quota of {line} for {line.owner}{', or `preemptible: true`, which may borrow' if can_borrow else ''}"
    return Objection(Kind.QUOTA, told, cure)


def above(name: str, known: Mapping[str, TenantView]) -> list[str]:
    """A tenant and those above it, as far as that is a line."""
    line: list[str] = []
    while name in known and name not in line:
        line.append(name)
        name = known[name].parent
    return line


def _left(line: Line, rank: Rank) -> float:
    left = line.most - line.used
    return min(left, line.quota.amount - line.firm) if rank is Rank.FIRM else left


def _times(pairs: Iterator[tuple[float, Floats]], like: Flags) -> Floats:
    """How many times what is needed is in what is left, for all pairs of them; what is not needed does not count."""
    least = np.full(len(like), math.inf)
    for left, need in pairs:
        times = np.floor((left + EPSILON) / np.where(need > 0, need, 1.0))
        np.minimum(least, np.where(need > 0, np.maximum(times, 0.0), math.inf), out=least)
    return least
