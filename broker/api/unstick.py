"""What a bug left: a job that nobody moves, or whose records cannot be read, is put to an end by an admin's word."""

from __future__ import annotations

from enum import StrEnum

from aiohttp import web

from broker.api.auth import caller_of
from broker.api.changes import is_saved
from broker.api.finding import job_of_request, reason_of
from broker.api.services import SERVICES, Services, answer
from broker.auditing import entry
from broker.errors import InConflict
from broker.jobs.lifecycle import GaveUp, step
from broker.jobs.model import End, Ending, JobState, Phase
from broker.sites.owed import OPEN, unresolved
from broker.store import codec
from broker.store import keys as kinds
from broker.store.ledger import Draft, Erase, Save
from broker.store.mirror import Entry
from broker.world import Job

routes = web.RouteTableDef()


class Outcome(StrEnum):
    """What became of a stuck job."""

    FAILED = "failed"
    REMOVED = "removed"


@routes.post("/v1/jobs/{job}/unstick")
async def unstick_job(request: web.Request) -> web.Response:
    """End a job that a bug left: it fails now, whatever its site says. What may still run of it is stopped by the site's owner.
    Of one whose records cannot be read, those are replaced or removed; the audit keeps what they held, and `why`."""
    services = request.app[SERVICES]
    why = reason_of(request, "say what is wrong with the job: it stays in the audit")
    name, who = request.match_info["job"], caller_of(request)
    outcome = Outcome.FAILED
    if name in services.context.world.frozen:
        outcome, draft = _of_unreadable(services, name, who, why)
    else:
        job = await job_of_request(request)
        name = job.id
        if job.state.reason == _reason(who, why):  # asked again, since the answer was lost
            return answer({"id": name, "outcome": outcome})
        draft = _of_readable(services, job, who, why)
    (result,) = await services.context.ledger.commit([draft])
    if not is_saved(result):
        raise InConflict(f"job {name} has just changed: it may not be stuck; look at it, and try again")
    return answer({"id": name, "outcome": outcome})


def _of_readable(services: Services, job: Job, who: str, why: str) -> Draft:
    """It fails with an end of its attempt; where the site may have its run, that is noted as one that is to be looked after."""
    context, state = services.context, job.state
    if state.phase.is_terminal:
        raise InConflict(f"job {job.id} is over: its phase is {state.phase}")
    keys, now, reason = context.world.mirror.keys, context.clock.now(), _reason(who, why)
    has_open_attempt = state.phase.is_at_site and state.phase is not Phase.COLLECTING
    end = End(now, Ending.WITHDRAWN, message=reason) if has_open_attempt else None
    failed = step(state, GaveUp(now, reason, end))
    key = keys.of(kinds.STATES, job.id)
    draft: list[Save] = [Save(key, failed, job.state_revision), entry(context, who, "unstick", key, state, failed)]
    if state.phase in OPEN:
        left = unresolved(job, now)
        place = keys.of(kinds.UNRESOLVED, left.site, left.job, str(left.attempt))
        draft.append(Save(place, left, context.world.revision(place)))
    return draft


def _of_unreadable(services: Services, job: str, who: str, why: str) -> tuple[Outcome, Draft]:
    """A state that cannot be read gives way to one that says failed. A job whose wish or spec cannot be had is removed: nothing
    is known of it. Records of a newer format are not for this broker to judge."""
    context = services.context
    entries, keys = context.world.mirror.entries, context.world.mirror.keys
    wish, state = (keys.of(kind, job) for kind in (kinds.WISHES, kinds.STATES))
    held = {key: entries[key] for key in (wish, state) if key in entries}
    spec_hash = held[wish].value.spec_hash if held[wish].value else None
    spec = entries.get(keys.of(kinds.SPECS, spec_hash)) if spec_hash else None
    newer = [each.error for each in (*held.values(), spec) if each and each.error and codec.is_newer(each.raw)]
    if newer:
        raise InConflict(f"job {job} is a newer broker's: ask one of those ({newer[0]})")
    if not held[wish].error and state in held and held[state].error:
        failed = step(JobState(job), GaveUp(context.clock.now(), _reason(who, why)))
        audited = entry(context, who, "unstick", state, held[state].raw, failed)
        return Outcome.FAILED, [Save(state, failed, held[state].revision), audited]
    draft: list[Save | Erase] = [Erase(wish, held[wish].revision), entry(context, who, "unstick", wish, held[wish].raw, None)]
    if state in held:
        draft += _state_of_removed(services, state, held[state], who, why)
    return Outcome.REMOVED, draft


def _state_of_removed(services: Services, key: str, held: Entry, who: str, why: str) -> list[Save | Erase]:
    """What becomes of the state of a job that is removed: where its site may have a run of it, it stays as failed, by which the
    site's owner knows the run for one to stop."""
    context, state = services.context, held.value
    if state is None or state.phase not in OPEN:
        return [Erase(key, held.revision), entry(context, who, "unstick", key, held.raw, None)]
    now, reason = context.clock.now(), _reason(who, why)
    failed = step(state, GaveUp(now, reason, End(now, Ending.WITHDRAWN, message=reason)))
    return [Save(key, failed, held.revision), entry(context, who, "unstick", key, held.raw, failed)]


def _reason(who: str, why: str) -> str:
    return f"ended by {who}, who found it stuck: {why}"
