"""What happened: to one job, from its records; and as it happens, as server-sent events
(https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator

from aiohttp import web
from pydantic_core import to_json

from broker.api.finding import job_of_request
from broker.api.selecting import Selector, given_of, narrowed, selector_of
from broker.api.services import SERVICES, Services, answer
from broker.api.streaming import stream
from broker.api.views import Shown
from broker.errors import Fault, Invalid
from broker.feed import Change
from broker.jobs.model import Attempt, Phase
from broker.store import keys as kinds
from broker.world import Job

routes = web.RouteTableDef()

MOST_EVENTS = 100
HEARTBEAT_S = 15.0
RESET = b"event: reset\ndata: {\"detail\":\"what happened meanwhile is no longer known: list the jobs anew\"}\n\n"


@routes.get("/v1/jobs/{job}/events")
async def job_events(request: web.Request) -> web.Response:
    """The last hundred things that happened to a job, the oldest first."""
    job = await job_of_request(request)
    return answer({"items": sorted(_events(job), key=lambda event: event["at"])[-MOST_EVENTS:], "next": None})


@routes.get("/v1/events", name="events")
async def follow_events(request: web.Request) -> web.StreamResponse:
    """Changes of the jobs that the filters mean, for ever, each with the store's revision as its id. `Last-Event-ID` goes on
    behind that one; where it is too long ago, a `reset` event says that the jobs are to be listed anew."""
    services = request.app[SERVICES]
    selector = narrowed(request, selector_of(given_of(request)))
    last = request.headers.get("Last-Event-ID", "")
    if last and not re.fullmatch("[0-9]{1,19}", last):
        raise Invalid(faults=[Fault("Last-Event-ID", f"{last!r} is no revision")])
    headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    return await stream(request, _changes(services, selector, int(last) if last else None), (), headers)


async def _changes(services: Services, selector: Selector, last: int | None) -> AsyncGenerator[bytes, None]:
    """A reader that is so slow that the feed has forgotten what comes next is told to begin anew."""
    feed, signals = services.feed, services.context.world.signals
    news = signals.subscribe(kinds.WISHES, kinds.STATES)
    try:
        known = feed.number if last is None else feed.number_of(last)
        yield b": changes of jobs\n\n"
        while True:
            news.clear()
            found = feed.after(known) if known is not None else None
            if found is None:
                yield RESET
                known = feed.number
                continue
            changes = list(found)
            if changes:
                known = changes[-1].number
                if text := b"".join(_lines([change for change in changes if selector.takes(change.job)])):
                    yield text
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await news.wait()
            except TimeoutError:
                yield b": still here\n\n"
    finally:
        signals.unsubscribe(news)


def _lines(changes: list[Change]) -> Iterator[bytes]:
    """Only the last change of a revision bears its id, so that who is cut off between two of them gets both again."""
    for change, following in zip(changes, [*changes[1:], None], strict=True):
        is_last = following is None or following.revision != change.revision
        yield b"event: job\ndata: " + to_json(_change_view(change)) + (b"\nid: %d\n\n" % change.revision if is_last else b"\n\n")


def _change_view(change: Change) -> Shown:
    job = change.job
    state = job.state
    return {
        "revision": change.revision,
        "job": job.id,
        "name": job.wish.name,
        "tenant": job.wish.tenant,
        "phase": state.phase,
        "site": state.attempt.site if state.attempts and state.phase is not Phase.PENDING else None,
        "attempt": state.number,
        "is_held": job.wish.hold is not None,
        "is_cancel_asked": job.wish.cancel is not None,
        "reason": state.reason,
    }


def _events(job: Job) -> Iterator[Shown]:
    wish, state = job.wish, job.state
    yield _event(wish.created_at, "submitted", f"by {wish.created_by}")
    for what, ask in (("cancel asked", wish.cancel), ("held", wish.hold)):
        if ask:
            yield _event(ask.at, what, " ".join(filter(None, (f"by {ask.who}", ask.why))))
    for attempt in state.attempts:
        yield from _attempt_events(attempt)
    if state.finished_at is not None:
        yield _event(state.finished_at, str(state.phase), state.reason)


def _attempt_events(attempt: Attempt) -> Iterator[Shown]:
    at = (attempt.number, attempt.site)
    yield _event(attempt.placed_at, "placed", f"pool {attempt.pool}", *at)
    for moment, what in ((attempt.staged_at, "staged"), (attempt.accepted_at, "accepted"), (attempt.started_at, "started")):
        if moment is not None:
            yield _event(moment, what, (attempt.native_id or "") if what == "accepted" else "", *at)
    if attempt.end is not None:
        end = attempt.end
        code = f"exit code {end.exit_code}" if end.exit_code is not None else f"signal {end.signal}" if end.signal else ""
        yield _event(end.at, f"ended: {end.ending}" if end.ending else "ended", ", ".join(filter(None, (code, end.message))), *at)


def _event(at: float, what: str, words: str, attempt: int | None = None, site: str | None = None) -> Shown:
    return {"at": at, "event": what, "attempt": attempt, "site": site, "words": words}
