"""A decision in words and numbers: every site's verdict, what binds, and what would help."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from broker.jobs.model import Attempt, Choice, Cost, Shape
from broker.placement import reasons
from broker.placement.costs import Staging
from broker.placement.filters import LASTING_RULES, Objection, gpu_types, pool_objection, site_objections
from broker.placement.judge import Option, grounds, options
from broker.placement.pools import pools_of
from broker.placement.shares import Shares
from broker.placement.view import PlanInput, SiteView
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
    what would end it.
    """

    verdicts: tuple[Verdict, ...]
    site: str | None = None
    reason: str = ""
    help: tuple[str, ...] = ()


def why(shape: Shape, given: PlanInput, waited_hours: float = 0.0) -> Explanation:
    """What every site says of a job of this shape, as if it were next in the queue."""
    shares = Shares.of(given.topology, given.bookings)
    found: list[tuple[Verdict, Option]] = []
    against: dict[str, tuple[Objection, ...]] = {}
    for view in sorted(given.sites, key=lambda view: view.site.name):
        at = grounds(shape, view)
        here = at.objections or options(shape, at, pools_of(view, given.now), given.topology, shares, given.now)
        if isinstance(here, Objection):
            against[view.site.name] = (here,)
        elif at.objections:
            against[view.site.name] = at.objections
        else:
            judged = [_of_option(shape, option, waited_hours, given.topology) for option in here if isinstance(option, Option)]
            found.append(min(judged, key=_rank))
    found.sort(key=_rank)
    verdicts = (*(verdict for verdict, _ in found), *(_of_objections(site, said) for site, said in against.items()))
    if not found:
        passed = reasons.objected(against)
        return Explanation(verdicts, None, passed.reason, passed.help)
    best, option = found[0]
    if best.cost and best.cost.wait_hours:
        passed = reasons.waits(shape, option, best.cost.wait_hours, None)
        return Explanation(verdicts, None, passed.reason, passed.help)
    return Explanation(verdicts, best.site)


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


def _of_option(shape: Shape, option: Option, waited_hours: float, topology: Topology) -> tuple[Verdict, Option]:
    cost = replace(option.cost, wait_hours=option.wait_hours(waited_hours))
    name, currency = option.view.site.name, option.view.site.price.currency
    words = cost_in_words(cost, currency, option.staging, f" ({reasons.lack(shape, option)})")
    guessed = [str(booking.dataset) for booking in option.staging.bookings if not _is_measured(booking, topology)]
    if guessed:
        words += f", with 1 GiB taken for {listed(guessed, len(guessed), ' and ')}, not measured yet"
    weighed = cost.weighed(shape.objective)
    return Verdict(name, (), option.state.name, option.gpu_type, cost, weighed, f"{name}: {words}"), option


def _is_measured(booking: Booking, topology: Topology) -> bool:
    known = topology.datasets.get(booking.dataset)
    return known is not None and known.size_bytes is not None


def _of_objections(site: str, objections: tuple[Objection, ...]) -> Verdict:
    return Verdict(site, objections, text=f"{site}: no, {listed([each.text for each in objections], len(objections), ', ')}")


def _rank(found: tuple[Verdict, Option]) -> tuple[float, tuple[str, str, str]]:
    return (round(found[0].weighed, 9), found[1].name)


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
