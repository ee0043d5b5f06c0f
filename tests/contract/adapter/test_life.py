"""A run's life at any site: submitted, started, ended, read."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace

import pytest

from adapters.base import (
    Accepted,
    EndReason,
    Outcome,
    Refused,
    Run,
    RunRef,
    SiteAdapter,
    SiteState,
    Unknown,
    Unreachable,
)
from tests.contract.adapter.kinds import (
    where_listings_are_prompt,
    where_names_are_unique,
)
from tests.contract.adapters import (
    CALL,
    IMPATIENT,
    LONG_S,
    Does,
    a_run,
    finish,
    listed,
    over,
    ref,
    running,
    text,
)
from topology.resources import Resources


async def test_what_an_adapter_promises_is_what_its_kind_was_tested_for(kind, adapter):
    assert adapter.capabilities == kind.capabilities


async def test_a_run_goes_through_its_life(kind, adapter):
    run = a_run(kind, does=Does(waits=True))
    outcome = (await adapter.submit([run], CALL))[run.name]
    assert isinstance(outcome, Accepted)
    report = (await running(kind, adapter, run)).reports[run.name]
    assert (report.native_id, report.pool, report.ended_at) == (outcome.native_id, "cpu", None)
    kind.let_go(run.name)
    (report,) = await over(kind, adapter, run)
    assert (report.state, report.exit_code, report.signal, report.reason) == (SiteState.SUCCEEDED, 0, None, None)
    assert report.ended_at >= report.started_at


@where_listings_are_prompt
async def test_an_accepted_run_is_in_every_listing_from_then_on(kind, adapter):
    runs = [a_run(kind, f"j{number}") for number in range(20)]
    await adapter.submit(runs, CALL)
    seen = await adapter.observe([], CALL)
    assert seen.is_whole
    assert set(seen.reports) == {run.name for run in runs}


async def test_what_is_known_and_nowhere_is_not_told_of(kind, adapter):
    run = a_run(kind)
    await finish(kind, adapter, run)
    known = [ref(run), RunRef(f"{kind.federation}-never-a1", "77")]
    assert set((await adapter.observe(known, CALL)).reports) == {run.name}


async def test_nothing_to_do_is_no_error(kind, adapter):
    assert await adapter.reserve([], CALL) == {}
    assert await adapter.submit([], CALL) == {}
    await adapter.cancel([], CALL)
    await adapter.forget([], CALL)
    assert (await adapter.observe([], CALL)).reports == {}


async def test_ids_that_were_reserved_are_the_runs_ids(kind, adapter):
    runs = [a_run(kind, f"j{number}") for number in range(3)]
    reserved = await adapter.reserve([run.name for run in runs], CALL)
    outcomes = await adapter.submit(runs, CALL)
    assert {name: outcomes[name] for name in reserved} == {name: Accepted(native_id) for name, native_id in reserved.items()}


async def test_submitted_again_by_whomever_it_starts_once(kind, adapter):
    run, other = a_run(kind, does=Does(output="started.")), kind.adapter()
    await asyncio.gather(adapter.submit([run], CALL), other.submit([run], CALL))
    (report,) = await over(kind, adapter, run)
    await other.submit([run], CALL)
    await other.close()
    await finish(kind, adapter, a_run(kind, "last"))
    assert report.state is SiteState.SUCCEEDED
    assert await over(kind, adapter, run) == [report]
    assert await text(adapter, run) == "started."


@where_names_are_unique
async def test_a_name_submitted_again_is_the_run_that_has_it(kind, adapter):
    run = a_run(kind)
    first = await adapter.submit([run], CALL)
    assert await adapter.submit([run], CALL) == first
    await over(kind, adapter, run)
    assert await adapter.submit([run], CALL) == first


@where_names_are_unique
async def test_a_name_is_not_taken_for_another_run(kind, adapter):
    run = a_run(kind, does=Does(LONG_S))
    await adapter.submit([run], CALL)
    assert isinstance((await adapter.submit([replace(run, tasks=2)], CALL))[run.name], Refused)
    assert set((await running(kind, adapter, run)).reports) == {run.name}


async def test_a_submit_that_was_not_answered_may_be_sent_again(kind, adapter):
    run = a_run(kind, does=Does(output="started."))
    async with kind.silent():
        assert isinstance(await heard(adapter, run), Unknown)
    report = await finish(kind, adapter, run)
    await finish(kind, adapter, a_run(kind, "last"))
    assert report.state is SiteState.SUCCEEDED
    assert await text(adapter, run) == "started."


async def heard(adapter: SiteAdapter, run: Run) -> Outcome:
    """What a caller with little time hears of a submit: no answer for all is the same to it as none for each."""
    try:
        return (await adapter.submit([run], IMPATIENT))[run.name]
    except Unreachable as error:
        return Unknown(str(error))


async def test_a_call_that_is_not_answered_ends_in_its_time(kind, adapter):
    run = a_run(kind)
    await finish(kind, adapter, run)
    async with kind.silent():
        for unanswered in (
            adapter.observe([], IMPATIENT),
            adapter.cancel([ref(run)], IMPATIENT),
            adapter.forget([ref(run)], IMPATIENT),
        ):
            with pytest.raises(Unreachable):
                await unanswered
        assert not (await adapter.probe(IMPATIENT.timeout_s))[-1].is_ok


async def test_in_a_batch_each_run_has_its_own_answer(kind, adapter):
    good, lost = a_run(kind, "good"), a_run(kind, "lost", pool="nowhere")
    large = a_run(kind, "large", per_task=Resources(5, 1))
    outcomes = await adapter.submit([good, lost, large], CALL)
    assert isinstance(outcomes[good.name], Accepted)
    assert isinstance(outcomes[lost.name], Refused)
    assert "nowhere" in outcomes[lost.name].reason
    assert isinstance(outcomes[large.name], Refused)
    assert outcomes[large.name].reason
    assert set((await listed(kind, adapter, good)).reports) == {good.name}


async def test_what_fits_starts_beside_what_runs(kind, adapter):
    first, second = (a_run(kind, name, Does(LONG_S), tasks=4) for name in ("first", "second"))
    await adapter.submit([first], CALL)
    await running(kind, adapter, first)
    await adapter.submit([second], CALL)
    await running(kind, adapter, first, second)


async def test_a_gang_does_not_start_before_all_of_it_fits(kind, adapter):
    # 2 nodes x 4 cpus: with one cpu taken, 7 tasks fit and 8 do not
    one, gang = a_run(kind, "one", Does(waits=True)), a_run(kind, "gang", tasks=8)
    await adapter.submit([one], CALL)
    await running(kind, adapter, one)
    await adapter.submit([gang], CALL)
    reports = (await listed(kind, adapter, gang)).reports
    assert (reports[one.name].state, reports[gang.name].state) == (SiteState.RUNNING, SiteState.QUEUED)
    kind.let_go(one.name)
    assert {report.state for report in await over(kind, adapter, one, gang)} == {SiteState.SUCCEEDED}


async def test_a_gang_that_never_fits_is_refused(kind, adapter):
    gang = a_run(kind, "gang", tasks=9)
    assert isinstance((await adapter.submit([gang], CALL))[gang.name], Refused)


async def test_the_exit_code_of_the_program_is_told(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, does=Does(exit_code=3)))
    assert (report.state, report.exit_code, report.signal) == (SiteState.FAILED, 3, None)
    assert report.reason is EndReason.PROGRAM_FAILED


async def test_the_signal_that_ended_the_program_is_told(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, does=Does(signal=signal.SIGUSR1)))
    assert (report.state, report.exit_code, report.signal) == (SiteState.FAILED, None, signal.SIGUSR1)
    assert report.reason is EndReason.PROGRAM_FAILED


async def test_a_run_ends_with_its_walltime(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, does=Does(LONG_S), walltime_s=0.3))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.WALLTIME)
    assert 0.29 - getattr(kind, "time_step_s", 0.0) <= report.ended_at - report.started_at < 10


async def test_cancelled_before_it_started_it_never_starts(kind, adapter):
    full, run = a_run(kind, "full", Does(LONG_S), tasks=8), a_run(kind)
    await adapter.submit([full], CALL)
    await running(kind, adapter, full)
    await adapter.submit([run], CALL)
    await adapter.cancel([ref(run)], CALL)
    (report,) = await over(kind, adapter, run)
    assert (report.state, report.started_at) == (SiteState.CANCELLED, None)
    await adapter.cancel([ref(full)], CALL)
    await over(kind, adapter, full)
    assert not kind.has_claim(run.claim)


async def test_cancelled_while_it_runs_it_ends(kind, adapter):
    run = a_run(kind, does=Does(LONG_S), tasks=3)
    await adapter.submit([run], CALL)
    await running(kind, adapter, run)
    await adapter.cancel([ref(run)], CALL)
    await adapter.cancel([ref(run)], CALL)
    (report,) = await over(kind, adapter, run)
    assert report.state is SiteState.CANCELLED
    assert report.signal in kind.terminates_with


async def test_cancelled_after_its_end_it_stays_as_it_was(kind, adapter):
    run = a_run(kind)
    before = await finish(kind, adapter, run)
    await adapter.cancel([ref(run), RunRef(f"{kind.federation}-never-a1")], CALL)
    assert await over(kind, adapter, run) == [before]


async def test_output_is_read_from_any_byte_while_it_runs_and_after(kind, adapter):
    # by lines: there are engines that keep back the beginning of one
    run = a_run(kind, does=Does(LONG_S, output="012345678\n"))
    await adapter.submit([run], CALL)
    await running(kind, adapter, run)
    while len(await text(adapter, run)) < 10:
        await kind.pause()
    assert await text(adapter, run, offset=4) == "45678\n"
    await adapter.cancel([ref(run)], CALL)
    await over(kind, adapter, run)
    assert await text(adapter, run, offset=8) == "8\n"
    assert await text(adapter, run, offset=8, follow=True) == "8\n"
    assert await text(adapter, run, offset=10) == ""
