"""Why a class stays in the queue: one sentence, and what would help."""

from __future__ import annotations

from collections.abc import Mapping

from broker.jobs.model import Shape
from broker.placement.filters import Kind, Objection
from broker.placement.judge import Option
from broker.placement.view import Passed
from broker.placement.words import listed, span
from topology.resources import Resources

MOST_TOLD = 3
"""Sites named in a reason; the others are counted."""


def objected(objections: Mapping[str, tuple[Objection, ...]]) -> Passed:
    """Every site objects. Where for some that will pass by itself, or by an admin's word, only they are named.
    Those that the job itself leaves out come last."""
    if not objections:
        return Passed("no site is registered", ("a site",))
    lasting = {site: tuple(each for each in said if each.kind.is_lasting) for site, said in objections.items()}
    passing = {site: said for site, said in objections.items() if not lasting[site]}
    left_out = {site for site, said in objections.items() if any(each.kind in (Kind.NAME, Kind.REGION) for each in said)}
    told = dict(sorted((passing or lasting).items(), key=lambda each: each[0] in left_out))
    texts = [f"{site}: {listed([each.text for each in said], MOST_TOLD, ', ')}" for site, said in told.items()]
    cures = [tuple(each.help for each in said) for said in told.values()]
    lead = "no site takes it now" if passing else "no site can run it"
    others = len(objections) - len(told)
    more = f"; {others} {'other' if others == 1 else 'others'} can never run it" if others else ""
    helps = tuple(" and ".join(cure) for cure in cures if all(cure))
    return Passed(f"{lead}: {listed(texts, MOST_TOLD)}{more}", helps[:MOST_TOLD])


def waits(shape: Shape, option: Option, hours: float, here: Option | None) -> Passed:
    """It waits for room in a pool; `here` is the costlier option that has room now."""
    where = f"{option.view.site.name}/{option.state.name}"
    besides = f"; {here.view.site.name} has room but would cost more" if here else ""
    return Passed(f"waits for {where}, about {span(hours)}: {lack(shape, option)}{besides}", (what_helps(shape, option),))


def lack(shape: Shape, option: Option) -> str:
    """Why a pool cannot start the job now."""
    fit = option.state.fit(option.task)
    if fit >= shape.tasks:
        return "its room is kept for an earlier job"
    return f"{fit} of {shape.tasks} tasks fit" if shape.tasks > 1 else f"short of {_short(shape, option) or option.task}"


def what_helps(shape: Shape, option: Option) -> str:
    """What would let a job start in a full pool."""
    site = option.view.site.name
    if option.state.fit(option.task) >= shape.tasks:
        return f"a shorter run time, or more room at {site}"
    short = _short(shape, option)
    return f"{short} more at {site}" if short else f"{option.task} free on one node at {site}"


def _short(shape: Shape, option: Option) -> str:
    """What the pool lacks by its sums; empty when only its nodes are too broken up."""
    short = (option.task * shape.tasks).shortfall(option.state.total)
    return str(short) if short != Resources() else ""
