"""A decision in words and numbers: every site's verdict, what binds, and what would help."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from broker.jobs.model import Attempt, Choice, Cost, Shape
from broker.placement import reasons
from broker.placement.behind import before
from broker.placement.board import Board, Choices
from broker.placement.filters import LASTING_RULES, Kind, Objection, gpu_types, pool_objection, site_objections
from broker.placement.memory import Memory
from broker.placement.narrowing import Narrowed, is_narrowed, narrowed
from broker.placement.order import Rank
from broker.placement.quotas import Allowance, objection, over_quota
from broker.placement.remedies import Remedy, remedies
from broker.placement.staging import Staging
from broker.placement.view import Binding, Passed, Plan, PlanInput, SiteView, Wait
from broker.placement.words import amount, listed, mass, span, sum_of_money
from broker.records import Booking
from topology.graph import Topology


@dataclass(frozen=True, slots=True)
class Verdict:
    """One site's: objections, or its best pool with the cost there by parts. `weighed` is that cost by the job's objective."""

    site: str
    objections: tuple[Objection, ...] = ()
    pool: str = ""
    gpu_type: str | None = None
    cost: Cost | None = None
    weighed: float = 0.0
    text: str = ""
    """As people read it: `fra: 2.0 h = bring 3600 GiB from ams 1.0 h + run 1.0 h`."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job goes where it goes, or nowhere. Verdicts come best first, objecting sites last.

    `site` is where it would start now; None when it waits, or no site takes it. `reason` then says what binds, and `help`
    what would end it; `binding` names the one thing that binds most, `waits_for` the site and pool it waits for, if it does, with
    `wait` how long, and `remedies` what would help most.
    """

    verdicts: tuple[Verdict, ...]
    site: str | None = None
    reason: str = ""
    help: tuple[str, ...] = ()
    binding: Binding | None = None
    waits_for: tuple[str, str] | None = None
    wait: Wait | None = None
    remedies: tuple[Remedy, ...] = ()


NOTHING_PLANNED = Plan()


def why(
    shape: Shape,
    given: PlanInput,
    waited_hours: float = 0.0,
    last: Plan = NOTHING_PLANNED,
    memory: Memory | None = None,
) -> Explanation:
    """What every site says of a job of this shape: behind what the last plan left waiting before it, or as if it were next where
    that is not given."""
    memory = memory or Memory()
    explanation = _verdicts(shape, given, waited_hours, last, memory)
    if explanation.site:
        return explanation
    return replace(explanation, remedies=remedies(shape, given, waited_hours, before(shape, last), memory))


def _verdicts(shape: Shape, given: PlanInput, waited_hours: float, last: Plan, memory: Memory) -> Explanation:
    board = Board(given, memory)
    board.stand_behind(before(shape, last))
    choices = board.choices(shape, waited_hours)
    allowance, rank = board.allowance(choices), Rank.SPARE if shape.preemptible else Rank.FIRM
    against = dict(board.objections(choices))
    if allowance is not None and (allowance.jobs(rank)[np.isfinite(choices.weighed)] > 0).any():
        against |= _over_quota(choices, allowance, rank, board)
        choices = replace(choices, weighed=np.where(allowance.jobs(rank) > 0, choices.weighed, math.inf))
    found = [each for each in _by_site(shape, choices, board, given.topology) if each[0].site not in against]
    verdicts = (*(verdict for verdict, _ in found), *(_of_objections(site, said) for site, said in against.items()))
    if not found:
        passed = reasons.objected(against)
        return Explanation(verdicts, None, passed.reason, passed.help, _ruling_out(against))
    if allowance is not None and not (allowance.jobs(rank)[np.isfinite(choices.weighed)] > 0).any():
        passed = over_quota(shape, allowance, choices.weighed, rank)
        return Explanation(verdicts, None, passed.reason, passed.help, Binding(Kind.QUOTA, passed.reason))
    narrow = None
    if is_narrowed(shape):
        quota = None if allowance is None else allowance.jobs(rank)
        narrow = narrowed(choices, quota, (given.now - waited_hours * 3600,), board)
        found = _by_site(shape, narrow.choices, board, given.topology)
    if not found:
        told, help_ = _told(Passed(""), narrow)
        return Explanation(verdicts, None, told, help_, Binding("preference", told))
    best, option = found[0]
    if not best.cost or not best.cost.wait_hours:
        return Explanation(verdicts, best.site, *_told(Passed(""), narrow))
    passed = last.passed.get(shape, Passed(""))
    if passed.wait is None:
        behind_hours = float(board.pools.backlog[choices.options.places[option]])
        passed = reasons.waits(board.waiting_at(choices, option), best.cost.wait_hours, "", behind_hours)
        passed = narrow.told(passed) if narrow else passed
    binding = passed.wait.binding if passed.wait else None
    return Explanation(verdicts, None, passed.reason, passed.help, binding, (passed.site, passed.pool), passed.wait)


def _over_quota(choices: Choices, allowance: Allowance, rank: Rank, board: Board) -> dict[str, tuple[Objection, ...]]:
    """What quotas say against each site where they allow no option."""
    possible = np.flatnonzero(np.isfinite(choices.weighed))
    allowed = allowance.jobs(rank)
    barred = {board.site(choices, int(option)): int(option) for option in possible if not allowed[option]}
    for option in possible:
        if allowed[option]:
            barred.pop(board.site(choices, int(option)), None)
    return {site: (objection(choices.shape, *allowance.binding(option, rank)),) for site, option in barred.items()}


def _told(passed: Passed, narrow: Narrowed | None) -> tuple[str, tuple[str, ...]]:
    """A reason and what would help, with what the job itself asks for."""
    passed = narrow.told(passed) if narrow else passed
    return passed.reason, passed.help


def _ruling_out(against: Mapping[str, tuple[Objection, ...]]) -> Binding | None:
    """The rule that leaves out the most sites, and of which sites it is the only one; None where there are no sites. Of several
    the one without which the most are left."""
    kinds = {site: {objection.kind for objection in said} for site, said in against.items()}
    alone = {kind: [site for site, said in kinds.items() if said == {kind}] for said in kinds.values() for kind in said}
    counts = Counter(kind for said in kinds.values() for kind in said)
    if not counts:
        return None
    kind = max(counts, key=lambda kind: (counts[kind], len(alone[kind])))
    left = listed(alone[kind], reasons.MOST_TOLD, ", ") or "no site"
    sites = "site" if len(against) == 1 else "sites"
    return Binding(kind, f"{kind} rules out {counts[kind]} of {len(against)} {sites}; without it {left} could take it")


def _by_site(shape: Shape, choices: Choices, board: Board, topology: Topology) -> list[tuple[Verdict, int]]:
    """The best option of each site, best first."""
    room = board.room(choices)
    waits = board.waits(choices, room, math.inf)
    hours = np.zeros(len(room))
    hours[waits.options] = waits.hours
    total = choices.weighed.copy()
    total[waits.options] = np.round(waits.totals, 9)
    found: dict[int, tuple[Verdict, int]] = {}
    for option in (int(option) for option in np.argsort(total, kind="stable") if np.isfinite(total[option])):
        site = int(choices.options.sites[option])
        if site not in found:
            waits_for = "" if room[option] else f" ({board.waiting_at(choices, option).lack})"
            found[site] = _of_option(choices, option, float(hours[option]), waits_for, board, topology), option
    return list(found.values())


def misses_deadline(shape: Shape, given: PlanInput) -> str | None:
    """A warning where a job of this shape, submitted now, is not expected to be over by its deadline anywhere; None where it is,
    where it has none, or where it cannot run at all."""
    if shape.deadline_s is None:
        return None
    board = Board(given, Memory())
    choices = board.choices(shape, 0.0)
    possible = np.isfinite(choices.weighed)
    if not possible.any():
        return None
    waits = board.waits(choices, board.room(choices), math.inf)
    hours = np.where(possible, choices.busy_hours, math.inf)
    within = shape.deadline_s / 3600
    least = int(hours.argmin())
    lead = f"the deadline, in {span(within)}, cannot be met"
    if hours[least] > within:
        return f"{lead}: even at {board.site(choices, least)} it takes {span(float(hours[least]))}"
    hours[waits.options] += waits.hours
    least = int(hours.argmin())
    if hours[least] <= within:
        return None
    return f"{lead} as things are: the soonest end is in {span(float(hours[least]))}, at {board.site(choices, least)}"


def can_ever_fit(shape: Shape, views: Iterable[SiteView]) -> tuple[str, ...]:
    """Warnings at submit: empty when some site could run the job if it were empty, open and up; else what each lacks."""
    warnings = []
    for view in views:
        site = view.site
        objections = list(site_objections(shape, view, LASTING_RULES))
        pairs = [(pool, gpu_type) for pool in site.pools for gpu_type in gpu_types(shape, pool)]
        against = [pool_objection(shape, site, pool, gpu_type) for pool, gpu_type in pairs]
        if all(against):
            objections += dict.fromkeys(objection for objection in against if objection)
        if not objections:
            return ()
        warnings.append(f"{site.name}: {listed([objection.text for objection in objections], len(objections), ', ')}")
    return tuple(warnings) or ("no site is registered",)


def of_attempt(attempt: Attempt, currency: str) -> tuple[str, ...]:
    """Why an attempt went where it went, from the decision that was stored with it."""
    decision = attempt.decision
    chosen = Choice(attempt.site, attempt.pool, decision.cost)
    lines = [f"{choice.site}: {cost_in_words(choice.cost, currency)}" for choice in (chosen, *decision.runners_up)]
    count = decision.objections
    return (*lines, f"{count} {'site' if count == 1 else 'sites'} could not take it") if count else tuple(lines)


def cost_in_words(cost: Cost, currency: str, staging: Staging | None = None, waits_for: str = "") -> str:
    """Hours by part, then money and carbon where there are any."""
    parts = [f"wait {span(cost.wait_hours)}{waits_for}"] if cost.wait_hours else []
    if staging and staging.bookings:
        parts.append(f"{_transfers(staging)} {span(cost.staging_hours)}")
    elif cost.staging_hours:
        parts.append(f"staging {span(cost.staging_hours)}")
    words = f"{span(cost.hours)} = {' + '.join([*parts, f'run {span(cost.run_hours)}'])}"
    if cost.money:
        egress = f" ({sum_of_money(cost.egress_money, currency)} of it for transfers)" if cost.egress_money else ""
        words += f", {sum_of_money(cost.money, currency)}{egress}"
    return f"{words}, {mass(cost.carbon_kg)}" if cost.carbon_kg else words


def _of_option(
    choices: Choices, option: int, wait_hours: float, waits_for: str, board: Board, topology: Topology
) -> Verdict:
    options, staging = choices.options, board.staging(choices, option)
    cost = options.cost(option, choices.stagings, wait_hours)
    site, pool = board.judge.views[options.sites[option]].site, board.pools.pools[options.places[option]].name
    words = cost_in_words(cost, site.price.currency, staging, waits_for)
    guessed = [str(booking.dataset) for booking in staging.bookings if not _is_measured(booking, topology)]
    if guessed:
        words += f", with 1 GiB taken for {listed(guessed, len(guessed), ' and ')}, not measured yet"
    weighed = cost.weighed(choices.shape.objective)
    return Verdict(site.name, (), pool, options.gpu_types[option], cost, weighed, f"{site.name}: {words}")


def _is_measured(booking: Booking, topology: Topology) -> bool:
    known = topology.datasets.get(booking.dataset)
    return known is not None and known.size_bytes is not None


def _of_objections(site: str, objections: tuple[Objection, ...]) -> Verdict:
    return Verdict(site, objections, text=f"{site}: no, {listed([each.text for each in objections], len(objections), ', ')}")


def _transfers(staging: Staging) -> str:
    """`bring 3600 GiB from ams`, and what is already on its way."""
    words = []
    if staging.new:
        words.append(f"bring {_loads(staging.new)}")
    if staging.shared:
        words.append(f"{'and ' if staging.new else ''}await {_loads(staging.shared)}")
    return " ".join(words)


def _loads(bookings: tuple[Booking, ...]) -> str:
    by_source: dict[str, float] = {}
    for booking in bookings:
        by_source[booking.source] = by_source.get(booking.source, 0.0) + booking.gib
    return " and ".join(f"{amount(gib)} from {source}" for source, gib in sorted(by_source.items()))
