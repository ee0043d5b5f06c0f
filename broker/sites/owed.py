"""What is due at a site, from what is stored and what was seen. Pure: plain values in, plain values out.

Words: an attempt is open while it has no end; it is in doubt while its site may have heard of it and we do not know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from adapters.base import Accepted, EndReason, Refused, Report, Run, SiteState
from broker.jobs import lifecycle, retry
from broker.jobs.lifecycle import Cancelled, Event, Exited, GaveUp, Staged, Started, Succeeded
from broker.jobs.model import Ask, End, Ending, JobState, Phase, run_name
from broker.records import Unresolved
from broker.sites.layout import claim_path, output_path
from broker.sites.workdir import in_workdir
from broker.world import Job
from topology.dataset import Dataset, DatasetId, Replica

OPEN = (Phase.PLACED, Phase.QUEUED, Phase.RUNNING)
"""Phases in which the site may have the current attempt's run."""

OWN_FAULTS = (Ending.PROGRAM_FAILED, Ending.WALLTIME, Ending.OUT_OF_MEMORY, Ending.START_FAILED, Ending.OUTPUT_MISSING)
"""Ends that stand even where the user's wish to cancel crossed them: they happened first."""

MOST_MESSAGE = 1_000
"""Characters that are kept of what a site says of an end: all attempts of a job have to fit one record."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happened to a job: events to fold into its state, and records to write in the same change."""

    job: Job
    events: tuple[Event, ...]
    beside: tuple[Unresolved | Dataset | Replica, ...] = ()


@dataclass(frozen=True, slots=True)
class Doubt:
    """The site may have heard of a run that is stored as not accepted. `since` as the listings' begin; epoch seconds."""

    since: float
    first_look: float | None = None
    is_cleared: bool = False
    """Two whole listings, far enough apart, did not show it."""
    has_started: bool = False
    """The run has made its claim: it is never sent again, and once cleared it is over."""


class Standing(Enum):
    """What a listed run is to us."""

    CURRENT = "current"
    ENDED = "ended"
    """Its attempt has an end, and that is stored."""
    UNREADABLE = "unreadable"
    """No record speaks of it: left alone, and reported."""


def submissions(
    placed: Iterable[Job],
    epoch: int,
    doubts: Mapping[str, Doubt],
    in_flight: Collection[str],
    has_unique_names: bool,
    federation: str,
) -> list[Job]:
    """Placed jobs to submit now: what was placed under this ownership, what two looks did not find, and, where a second
    submit of a name has no effect, all."""
    due = []
    for job in placed:
        name = name_of(job, federation)
        doubt = doubts.get(name)
        if job.is_asked_to_end or name in in_flight or (doubt is not None and doubt.has_started):
            continue
        is_fresh = doubt is None and job.state_revision > epoch
        if has_unique_names or is_fresh or (doubt is not None and doubt.is_cleared):
            due.append(job)
    return due


def look(doubt: Doubt, began: float, apart_s: float) -> Doubt:
    """A doubt after a whole listing, begun at `began`, that does not show the run."""
    if began < doubt.since or doubt.is_cleared:
        return doubt
    if doubt.first_look is None:
        return replace(doubt, first_look=began)
    return replace(doubt, is_cleared=began >= doubt.first_look + apart_s)


def gone(placed: Iterable[Job], doubts: Mapping[str, Doubt], federation: str, now: float) -> list[Step]:
    """Placed jobs whose run has started, as its claim shows, and that two looks did not find."""
    steps = []
    for job in placed if doubts else ():
        doubt = doubts.get(name_of(job, federation))
        if doubt is not None and doubt.has_started and doubt.is_cleared:
            steps.append(vanished(job, now))
    return steps


def run_of(job: Job, federation: str, here: Mapping[str, str]) -> Run:
    """The current attempt in engine-neutral terms. `here`: dataset name to the replica's path at the site."""
    state, spec, attempt = job.state, job.spec, job.state.attempt
    name = run_name(federation, state.id, attempt.number)
    return Run(
        name=name,
        federation=federation,
        job=state.id,
        tenant=spec.tenant,
        tasks=spec.tasks,
        per_task=spec.resources.on(attempt.gpu_type),
        pool=attempt.pool,
        command=in_workdir(spec.workdir.name, spec.command, spec.script) if spec.workdir else spec.command,
        env=spec.env,
        script=None if spec.workdir else spec.script,
        inputs=here,
        outputs={output: output_path(name, output) for output in spec.outputs},
        walltime_s=spec.walltime_s,
        claim=claim_path(name),
        image=spec.image,
        spark=spec.spark,
        native_id=attempt.native_id,
    )


def reserved(jobs: Iterable[Job], ids: Mapping[str, str], federation: str) -> list[Step]:
    """Jobs whose runs were given an id before they are submitted."""
    steps = []
    for job in jobs:
        native_id = ids.get(name_of(job, federation))
        if native_id is not None:
            steps.append(Step(job, (lifecycle.Reserved(native_id),)))
    return steps


def inputs_here(job: Job, site: str, replicas: Mapping[DatasetId, Mapping[str, Replica]]) -> Mapping[str, str] | None:
    """Dataset name to the path of its replica at the site; None when an input is not there."""
    paths = {}
    for dataset in job.spec.inputs:
        replica = replicas.get(dataset, {}).get(site)
        if replica is None:
            return None
        paths[dataset.name] = replica.path
    return paths


def staged(
    staging: Iterable[Job],
    site: str,
    replicas: Mapping[DatasetId, Mapping[str, Replica]],
    booked: Collection[DatasetId],
    now: float,
) -> list[Step]:
    """Jobs whose inputs are all at the site go on; those with an input that is neither there nor under way go back."""
    missing: dict[tuple[DatasetId, ...], tuple[DatasetId, ...]] = {}
    steps = []
    for job in staging:
        if job.is_asked_to_end:
            continue
        inputs = job.spec.inputs
        if inputs not in missing:
            missing[inputs] = tuple(dataset for dataset in inputs if site not in replicas.get(dataset, {}))
        if not missing[inputs]:
            steps.append(Step(job, (Staged(now),)))
            continue
        lost = next((dataset for dataset in missing[inputs] if dataset not in booked), None)
        if lost is not None:
            steps.append(taken_back(job, f"{lost} is not at {site} and no transfer brings it", now))
    return steps


def after_submit(job: Job, outcome: Accepted | Refused, now: float) -> tuple[Event, ...]:
    """What a site's answer makes of a placed job."""
    match outcome:
        case Accepted(native_id):
            return (lifecycle.Accepted(now, native_id),)
        case Refused(reason):
            return (end_with(job, End(now, Ending.REFUSED, message=f"{job.state.attempt.site} refused it: {reason}")),)


def settle(job: Job, report: Report, now: float) -> tuple[Event, ...]:
    """Events that bring an open attempt's job to what its site reports; none when it says nothing new, or nothing final."""
    state = job.state
    events: list[Event] = []
    phase = state.phase
    if phase is Phase.PLACED:
        events.append(lifecycle.Accepted(now, report.native_id))
        phase = Phase.QUEUED
    started_at = _within(report.started_at, state.attempt.placed_at, now)
    has_started = report.started_at is not None or report.state is SiteState.RUNNING
    if phase is Phase.QUEUED and has_started and report.state not in (SiteState.QUEUED, SiteState.UNKNOWN):
        events.append(Started(started_at))
    if report.state.is_over:
        at = _within(report.ended_at, max(started_at, state.attempt.placed_at) if has_started else state.attempt.placed_at, now)
        events += _over(job, report, at, now)
    return tuple(events)


def _over(job: Job, report: Report, at: float, now: float) -> Iterable[Event]:
    if report.state is SiteState.SUCCEEDED:
        return (Exited(at), *(() if job.spec.outputs else (Succeeded(now),)))
    if report.state is SiteState.CANCELLED:
        message = f"cancelled at {job.state.attempt.site}" + (f": {report.message}" if report.message else "")
        return (end_with(job, End(at, Ending.CANCELLED, report.exit_code, report.signal, message)),)
    ending = Ending(report.reason.value) if report.reason else Ending.PROGRAM_FAILED
    return (end_with(job, End(at, ending, report.exit_code, report.signal, _words(report))),)


def _words(report: Report) -> str:
    """Why a run failed, for people."""
    if report.reason not in (None, EndReason.PROGRAM_FAILED):
        return report.message or str(report.reason)
    if report.signal is not None:
        what = f"killed by signal {report.signal}"
    elif report.exit_code is not None:
        what = f"exit code {report.exit_code}"
    else:
        what = "it failed, and the site does not say why"
    return f"{what}: {report.message}" if report.message else what


def _within(at: float | None, earliest: float, latest: float) -> float:
    """A time by the site's clock, held between what we know; `latest` when it does not say."""
    return latest if at is None else min(max(at, earliest), latest)


def end_with(job: Job, end: End) -> Event:
    """The event that follows an end of the current attempt, given what the user wishes by now."""
    wish, phase = job.wish, job.state.phase
    end = replace(end, message=end.message[:MOST_MESSAGE])
    if phase is Phase.COLLECTING or not job.is_asked_to_end:
        return retry.decide(job.spec.retry, job.state, end)
    if wish.cancel is None:
        if end.ending is Ending.CANCELLED and wish.stop is not None:
            end = replace(end, ending=Ending.WITHDRAWN, message=f"attempt stopped by {_words_of(wish.stop.ask)}")
        return retry.decide(job.spec.retry, job.state, end)
    if end.ending in OWN_FAULTS and isinstance(event := retry.decide(job.spec.retry, job.state, end), GaveUp):
        return event
    return Cancelled(end.at, f"cancelled by {_words_of(wish.cancel)}", end)


def _words_of(ask: Ask) -> str:
    return f"{ask.who}: {ask.why}" if ask.why else ask.who


def stopped(job: Job, now: float, is_lost: bool = False) -> Step:
    """A job that was asked to end and whose run surely does not start any more or, `is_lost`, cannot be told to stop."""
    step = Step(job, (end_with(job, End(now, Ending.CANCELLED)),))
    return replace(step, beside=(unresolved(job, now),)) if is_lost else step


def taken_back(job: Job, why: str, now: float) -> Step:
    """An attempt that its site has never heard of, and never will, goes back to the queue."""
    return Step(job, (end_with(job, End(now, Ending.WITHDRAWN, message=why)),))


def vanished(job: Job, now: float) -> Step:
    """A run that the site had is nowhere, and its claim is taken: it does not start any more."""
    site = job.state.attempt.site
    return Step(job, (end_with(job, End(now, Ending.VANISHED, message=f"{site} had the run and knows nothing of it")),))


def is_missing(accepted_seen: float, began: float, settling_s: float) -> bool:
    """Whether a whole listing, begun at `began`, had to show a run whose acceptance we knew of at `accepted_seen`."""
    return began >= accepted_seen + settling_s


def evictions(jobs: Iterable[Job], site: str, now: float) -> list[Step]:
    """What leaves a lost site. Never sent: goes back. Sent: only if the job lets itself be moved; what may still run there
    is written down in the same change. The others wait for their site."""
    steps = []
    for job in jobs:
        phase = job.state.phase
        if phase is Phase.STAGING:
            steps.append(taken_back(job, f"site {site} is lost", now))
        elif job.is_asked_to_end and phase in OPEN:
            steps.append(stopped(job, now, is_lost=True))
        elif Ending.SITE_LOST in job.spec.retry.reasons:
            beside = (unresolved(job, now),) if phase in OPEN else ()
            steps.append(Step(job, (end_with(job, End(now, Ending.SITE_LOST, message=f"site {site} is lost")),), beside))
    return steps


def unresolved(job: Job, now: float) -> Unresolved:
    """The note that a run of an ended attempt may still be at its site."""
    attempt = job.state.attempt
    return Unresolved(attempt.site, job.id, attempt.number, attempt.native_id, now)


def standing(state: JobState | None, number: int, site: str) -> Standing:
    """What a listed run, attempt `number` of the job with this stored state, is to us. A job that is over has no run,
    even where its attempts were lost with a record that could not be read."""
    attempt = state.attempt_of(number) if state else None
    if state is not None and attempt is None and state.phase.is_terminal:
        return Standing.ENDED
    if state is None or attempt is None or attempt.site != site:
        return Standing.UNREADABLE
    is_open = number == state.number and state.phase.is_at_site
    return Standing.CURRENT if is_open else Standing.ENDED


def name_of(job: Job, federation: str) -> str:
    """The name of the current attempt's run."""
    return run_name(federation, job.id, job.state.number)
