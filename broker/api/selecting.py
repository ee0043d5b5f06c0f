"""Which jobs a caller means by filters: the same words for lists, for many at once and for events."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

from aiohttp import web

from broker.api.auth import tenant_asked
from broker.documents.fields import LABEL_NAME, LABEL_VALUE
from broker.errors import Fault, Invalid
from broker.jobs.model import Phase
from broker.world import Job, World

FILTERS = ("phase", "site", "tenant", "name", "label", "since")
FEW = 0.1
"""Below this share of all jobs those of the phases asked for are sorted, rather than all looked through."""

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
    """The jobs that are meant, newest first; only those older than `before`."""
    wanted = [world.by_phase[phase] for phase in selector.phases]
    if selector.phases and sum(map(len, wanted)) < FEW * len(world.ids):
        ids: Iterator[str] = iter(sorted((job for at in wanted for job in at if before is None or job < before), reverse=True))
    elif selector.tenant and selector.name:
        named = world.names.get((selector.tenant, selector.name), {})
        ids = iter(sorted((job for job in named if before is None or job < before), reverse=True))
    else:
        ids = reversed(world.ids)
        if before is not None:
            ids = islice(reversed(world.ids), len(world.ids) - bisect_left(world.ids, before), None)
    return (world.jobs[job] for job in ids if selector.takes(world.jobs[job]))


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
        seconds = float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else _moment(text)
    except ValueError as error:
        raise Invalid(faults=[Fault("since", f"{text!r} is neither epoch seconds nor a time as 2026-01-31T08:00:00Z")]) from error
    return seconds


def _moment(text: str) -> float:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
