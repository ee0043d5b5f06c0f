"""Which jobs a caller means by filters: the same words for lists, for many at once and for events."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile

from aiohttp import web

from broker.api.auth import tenant_asked
from broker.documents.fields import LABEL_NAME, LABEL_VALUE, epoch_of
from broker.errors import Fault, Invalid
from broker.ids import Ids
from broker.jobs.model import DEFAULT_TENANT, Phase
from broker.world import Job, World

FILTERS = ("phase", "site", "tenant", "name", "label", "since")
FEW = 2
"""Where so many times as many are to be looked through as are in the phases asked for, those are sorted instead."""
ID_STEP_S = 0.001
"""Ids sort by time in steps of so much."""
NONE = Ids()

Term = tuple[str, str, str]
"""Label, operator (`=`, `!=`, `has`, `lacks`) and value."""
_TERM = re.compile(r"(?P<lacks>!?)(?P<name>[^=!]+)(?:(?P<operator>!=|==?)(?P<value>.*))?")


@dataclass(frozen=True, slots=True)
class Selector:
    """What a job must be to be meant. Empty means any."""

    phases: frozenset[Phase] = frozenset()
    site: str = ""
    tenant: str = ""
    name: str = ""
    labels: tuple[Term, ...] = ()
    since: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether it means all jobs."""
        return self == Selector()

    def takes(self, job: Job) -> bool:
        """Whether this job is meant."""
        wish, state = job.wish, job.state
        return (
            (not self.phases or state.phase in self.phases)
            and (not self.tenant or wish.tenant == self.tenant)
            and (not self.name or wish.name == self.name)
            and wish.created_at >= self.since
            and (not self.site or (state.phase is not Phase.PENDING and bool(state.attempts) and state.attempt.site == self.site))
            and all(_holds(term, wish.labels) for term in self.labels)
        )


def given_of(request: web.Request) -> dict[str, str]:
    """The filters that a query names."""
    return {name: request.query[name] for name in FILTERS if name in request.query}


def selector_of(given: Mapping[str, str]) -> Selector:
    """The filters of a query or body: `phase` (several with commas), `site`, `tenant`, `name`, `label` (such as `a=b,c!=d,e,!f`)
    and `since` (epoch seconds, or RFC 3339). Raises Invalid."""
    return Selector(
        phases=frozenset(_phases(given.get("phase", ""))),
        site=given.get("site", ""),
        tenant=given.get("tenant", ""),
        name=given.get("name", ""),
        labels=tuple(_terms(given.get("label", ""))),
        since=_since(given.get("since", "")),
    )


def narrowed(request: web.Request, selector: Selector) -> Selector:
    """No more than the caller may see. Raises Forbidden for another tenant's."""
    return replace(selector, tenant=tenant_asked(request, selector.tenant) or "")


def newest(world: World, selector: Selector, before: str | None = None) -> Iterator[Job]:
    """The jobs that are meant, newest first; only those older than `before`. Looked through are the fewest that the world has
    sorted apart and that are sure to hold them all."""
    fewest = min(_apart(world, selector), key=len)
    of_phases = [world.by_phase[phase] for phase in selector.phases]
    if of_phases and FEW * sum(map(len, of_phases)) < len(fewest):
        ids: Iterator[str] = iter(sorted((job for at in of_phases for job in at if before is None or job < before), reverse=True))
    else:
        ids = fewest.newest(before)
    found: Iterator[Job] = (world.jobs[job] for job in ids)
    if selector.since:
        found = takewhile(lambda job: job.wish.created_at > selector.since - ID_STEP_S, found)
    return filter(selector.takes, found)


def _apart(world: World, selector: Selector) -> Iterator[Ids]:
    """All jobs, and for each filter those of its value."""
    yield world.ids
    if selector.tenant:
        yield world.sorts.get(("tenant", selector.tenant), NONE)
    if selector.site:
        yield world.sorts.get(("site", selector.site), NONE)
    for name, operator, value in selector.labels:
        if operator == "=":
            yield world.sorts.get(("label", name, value), NONE)
    if selector.name:
        yield _named(world, selector)


def _named(world: World, selector: Selector) -> Ids:
    found = Ids()
    for tenant in [selector.tenant] if selector.tenant else {DEFAULT_TENANT, *world.tenants}:
        for job in world.names.get((tenant, selector.name), ()):
            found.add(job)
    return found


def _holds(term: Term, labels: Mapping[str, str]) -> bool:
    name, operator, value = term
    match operator:
        case "=":
            return labels.get(name) == value
        case "!=":
            return labels.get(name) != value
        case "has":
            return name in labels
    return name not in labels


def _phases(text: str) -> Iterator[Phase]:
    for word in filter(None, text.split(",")):
        if word not in list(Phase):
            raise Invalid(faults=[Fault("phase", f"{word} is none of {', '.join(Phase)}")])
        yield Phase(word)


def _terms(text: str) -> Iterator[Term]:
    for word in filter(None, (part.strip() for part in text.split(","))):
        found = _TERM.fullmatch(word)
        operator = found["operator"] if found else None
        if (
            not found
            or not LABEL_NAME.fullmatch(found["name"])
            or (operator and (found["lacks"] or not LABEL_VALUE.fullmatch(found["value"])))
        ):
            raise Invalid(faults=[Fault("label", f"{word!r} is no condition: use a=b, a!=b, a or !a, with commas between")])
        if operator:
            yield found["name"], "!=" if operator == "!=" else "=", found["value"]
        else:
            yield found["name"], "lacks" if found["lacks"] else "has", ""


def _since(text: str) -> float:
    if not text:
        return 0.0
    try:
        return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else epoch_of(text)
    except ValueError as error:
        raise Invalid(faults=[Fault("since", f"{text!r} is neither epoch seconds nor a time as 2026-01-31T08:00:00Z")]) from error
