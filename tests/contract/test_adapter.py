"""What any site adapter must do, on the twin and on real engines."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.base import Accepted, EndReason, Layer, Refused, RunRef, SiteAdapter, SiteState, StaleEpoch
from tests.contract.adapters import (
    CALL,
    LONG_S,
    POOLS,
    Does,
    Kind,
    ProcessKind,
    TwinKind,
    a_run,
    over,
    running,
    until,
    with_epoch,
)
from topology.resources import Resources
from topology.room import Room


@pytest.fixture(params=("twin", "process"))
async def kind(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kind]:
    """One after the other, each kind of engine."""
    if request.param == "twin":
        yield TwinKind()
        return
    engine = ProcessKind(tmp_path)
    yield engine
    await engine.end()


@pytest.fixture
async def adapter(kind: Kind) -> AsyncIterator[SiteAdapter]:
    adapter = kind.adapter()
    yield adapter
    await adapter.close()


async def text(adapter: SiteAdapter, run, offset: int = 0, follow: bool = False, task: int = 0) -> str:
    return b"".join([chunk async for chunk in adapter.logs(RunRef(run.name), task, offset, follow)]).decode()


async def test_a_run_goes_through_its_life(kind, adapter):
    run = a_run(kind, does=Does(seconds=0.3))
    outcome = (await adapter.submit([run], CALL))[run.name]
    assert isinstance(outcome, Accepted)
    report = (await running(kind, adapter, run.name)).reports[run.name]
    assert (report.native_id, report.pool, report.ended_at) == (outcome.native_id, "cpu", None)
    (report,) = await over(kind, adapter, run.name)
    assert (report.state, report.exit_code, report.signal, report.reason) == (SiteState.SUCCEEDED, 0, None, None)
    assert report.ended_at >= report.started_at


async def test_an_accepted_run_is_in_every_listing_from_then_on(kind, adapter):
    runs = [a_run(kind, f"j{number}") for number in range(20)]
    await adapter.submit(runs, CALL)
    seen = await adapter.observe([], CALL)
    assert seen.is_whole
    assert set(seen.reports) == {run.name for run in runs}


async def test_submitted_twice_it_starts_once_and_is_returned(kind, adapter):
    run = a_run(kind, does=Does(output="started."))
    first = await adapter.submit([run], CALL)
    assert await adapter.submit([run], CALL) == first
    await over(kind, adapter, run.name)
    assert await kind.adapter().submit([run], CALL) == first
    await over(kind, adapter, run.name)
    assert await text(adapter, run) == "started."


async def test_a_name_is_not_taken_for_another_run(kind, adapter):
    run = a_run(kind, does=Does(LONG_S))
    await adapter.submit([run], CALL)
    outcome = (await adapter.submit([replace(run, tasks=2)], CALL))[run.name]
    assert isinstance(outcome, Refused)
    assert (await running(kind, adapter, run.name)).reports[run.name].state is SiteState.RUNNING


async def test_in_a_batch_each_run_has_its_own_answer(kind, adapter):
    good, lost = a_run(kind, "good"), a_run(kind, "lost", pool="nowhere")
    large = a_run(kind, "large", per_task=Resources(5, 1))
    outcomes = await adapter.submit([good, lost, large], CALL)
    assert isinstance(outcomes[good.name], Accepted)
    assert isinstance(outcomes[lost.name], Refused)
    assert "nowhere" in outcomes[lost.name].reason
    assert isinstance(outcomes[large.name], Refused)
    assert set((await adapter.observe([], CALL)).reports) == {good.name}


async def test_a_gang_starts_all_at_once_or_not_at_all(kind, adapter):
    # 2 nodes x 4 cpus: with one cpu taken, 7 tasks fit and 8 do not
    one = a_run(kind, "one", Does(0.3))
    gang = a_run(kind, "gang", Does(0.1, output="x"), tasks=8)
    await adapter.submit([one], CALL)
    await running(kind, adapter, one.name)
    await adapter.submit([gang], CALL)
    assert (await adapter.observe([], CALL)).reports[gang.name].state is SiteState.QUEUED
    first, second = await over(kind, adapter, one.name, gang.name)
    assert second.state is SiteState.SUCCEEDED
    assert second.started_at >= first.ended_at - 0.01  # the file system's clock is that coarse


async def test_a_gang_that_never_fits_is_refused(kind, adapter):
    gang = a_run(kind, "gang", tasks=9)
    assert isinstance((await adapter.submit([gang], CALL))[gang.name], Refused)


async def test_what_fits_starts_before_what_waits_for_room(kind, adapter):
    first = a_run(kind, "first", Does(LONG_S), tasks=4)
    gang = a_run(kind, "gang", tasks=8)
    small = a_run(kind, "small")
    await adapter.submit([first, gang, small], CALL)
    await over(kind, adapter, small.name)
    assert (await adapter.observe([], CALL)).reports[gang.name].state is SiteState.QUEUED


async def test_the_exit_code_of_the_program_is_told(kind, adapter):
    run = a_run(kind, does=Does(exit_code=3))
    await adapter.submit([run], CALL)
    (report,) = await over(kind, adapter, run.name)
    assert (report.state, report.exit_code, report.signal) == (SiteState.FAILED, 3, None)
    assert report.reason is EndReason.PROGRAM_FAILED


async def test_the_signal_that_ended_the_program_is_told(kind, adapter):
    run = a_run(kind, does=Does(signal=signal.SIGUSR1))
    await adapter.submit([run], CALL)
    (report,) = await over(kind, adapter, run.name)
    assert (report.state, report.exit_code, report.signal) == (SiteState.FAILED, None, signal.SIGUSR1)
    assert report.reason is EndReason.PROGRAM_FAILED


async def test_a_run_ends_with_its_walltime(kind, adapter):
    run = a_run(kind, does=Does(LONG_S), walltime_s=0.3)
    await adapter.submit([run], CALL)
    (report,) = await over(kind, adapter, run.name)
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.WALLTIME)
    assert 0.29 <= report.ended_at - report.started_at < 10


async def test_cancelled_before_it_started_it_never_starts(kind, adapter):
    full = a_run(kind, "full", Does(LONG_S), tasks=8)
    run = a_run(kind)
    await adapter.submit([full, run], CALL)
    await adapter.cancel([RunRef(run.name)], CALL)
    (report,) = await over(kind, adapter, run.name)
    assert (report.state, report.started_at) == (SiteState.CANCELLED, None)
    await adapter.cancel([RunRef(full.name)], CALL)
    await over(kind, adapter, full.name)
    assert not kind.has_claim(run.claim)


async def test_cancelled_while_it_runs_it_ends(kind, adapter):
    run = a_run(kind, does=Does(LONG_S), tasks=3)
    await adapter.submit([run], CALL)
    await running(kind, adapter, run.name)
    await adapter.cancel([RunRef(run.name)], CALL)
    await adapter.cancel([RunRef(run.name)], CALL)
    (report,) = await over(kind, adapter, run.name)
    assert report.state is SiteState.CANCELLED
    assert report.signal in kind.terminates_with


async def test_cancelled_after_its_end_it_stays_as_it_was(kind, adapter):
    run = a_run(kind)
    await adapter.submit([run], CALL)
    before = await over(kind, adapter, run.name)
    await adapter.cancel([RunRef(run.name), RunRef("fed-never-a1")], CALL)
    assert await over(kind, adapter, run.name) == before


async def test_output_is_read_from_any_byte_while_it_runs_and_after(kind, adapter):
    run = a_run(kind, does=Does(LONG_S, output="0123456789"))
    await adapter.submit([run], CALL)
    await running(kind, adapter, run.name)
    while len(await text(adapter, run)) < 10:
        await kind.pause()
    assert await text(adapter, run, offset=4) == "456789"
    await adapter.cancel([RunRef(run.name)], CALL)
    await over(kind, adapter, run.name)
    assert await text(adapter, run, offset=8) == "89"
    assert await text(adapter, run, offset=10) == ""


async def test_output_is_followed_until_the_task_ends(kind, adapter):
    run = a_run(kind, does=Does(0.3, output="all of it"), tasks=2)
    await adapter.submit([run], CALL)
    assert await text(adapter, run, offset=4, follow=True, task=1) == "of it"


async def test_an_older_owner_is_refused_and_changes_nothing(kind, adapter):
    run, late = a_run(kind, "j1", Does(LONG_S)), a_run(kind, "late")
    await adapter.submit([run], with_epoch(7))
    for refused in (
        adapter.submit([late], with_epoch(6)),
        adapter.observe([], with_epoch(6)),
        adapter.cancel([RunRef(run.name)], with_epoch(6)),
        adapter.forget([RunRef(run.name)], with_epoch(6)),
    ):
        with pytest.raises(StaleEpoch):
            await refused
    seen = await until(kind, adapter, lambda reports: reports[run.name].state is SiteState.RUNNING, with_epoch(7))
    assert set(seen.reports) == {run.name}


async def test_a_claim_that_is_there_stops_the_run_before_it_starts(kind, adapter):
    run = a_run(kind, does=Does(output="started."))
    kind.claim(run.claim)
    await adapter.submit([run], CALL)
    (report,) = await over(kind, adapter, run.name)
    assert (report.state, report.reason, report.started_at) == (SiteState.FAILED, EndReason.CLAIMED, None)
    assert await text(adapter, run) == ""


async def test_a_run_that_started_has_its_claim(kind, adapter):
    run = a_run(kind, tasks=3)
    await adapter.submit([run], CALL)
    (report,) = await over(kind, adapter, run.name)
    assert report.state is SiteState.SUCCEEDED
    assert kind.has_claim(run.claim)


async def test_a_forgotten_run_leaves_the_listing_and_its_name_is_never_taken_again(kind, adapter):
    run, other = a_run(kind, "j1"), a_run(kind, "j2", Does(LONG_S))
    await adapter.submit([run, other], CALL)
    await over(kind, adapter, run.name)
    await adapter.forget([RunRef(run.name), RunRef(other.name)], CALL)
    assert set((await adapter.observe([], CALL)).reports) == {other.name}  # what still runs is not forgotten
    assert isinstance((await adapter.submit([run], CALL))[run.name], Refused)


async def test_runs_of_another_federation_are_left_alone_and_take_room(kind, adapter):
    theirs = a_run(kind, "j1", Does(LONG_S), federation="other", tasks=3)
    await kind.adapter("other").submit([theirs], with_epoch(1))
    await running_of(kind, "other", theirs.name)
    await adapter.cancel([RunRef(theirs.name)], CALL)
    await adapter.forget([RunRef(theirs.name)], CALL)
    seen = await adapter.observe([], CALL)
    assert seen.reports == {}
    # 2 nodes x 4 cpus, of which 3 are theirs
    assert seen.rooms["cpu"].fit(Resources(1)) == 5
    await running_of(kind, "other", theirs.name)


async def running_of(kind: Kind, federation: str, name: str) -> None:
    adapter = kind.adapter(federation)
    await until(kind, adapter, lambda reports: reports[name].state is SiteState.RUNNING, with_epoch(1))
    await adapter.close()


async def test_the_room_of_a_pool_does_not_change_with_our_own_runs(kind, adapter):
    empty = (await adapter.observe([], CALL)).rooms
    assert empty == {pool.name: Room.of([(pool.per_node, pool.nodes)]) for pool in POOLS}
    runs = [a_run(kind, f"j{number}", Does(LONG_S)) for number in range(10)]
    await adapter.submit(runs, CALL)
    await running(kind, adapter, *(run.name for run in runs[:8]))
    assert (await adapter.observe([], CALL)).rooms == empty


async def test_gpus_are_counted_by_type(kind, adapter):
    gpu = {"pool": "gpu", "per_task": Resources(1, 1, (("a100", 1),))}
    runs = [a_run(kind, f"j{number}", Does(LONG_S), **gpu) for number in range(3)]
    await adapter.submit(runs, CALL)
    seen = await running(kind, adapter, *(run.name for run in runs[:2]))
    assert seen.reports[runs[2].name].state is SiteState.QUEUED
    never = a_run(kind, "never", pool="gpu", per_task=Resources(1, 1, (("h100", 2),)))
    assert isinstance((await adapter.submit([never], CALL))[never.name], Refused)


async def test_one_listing_tells_of_500_runs(kind, adapter):
    runs = [a_run(kind, f"j{number}") for number in range(500)]
    outcomes = await adapter.submit(runs, CALL)
    assert {type(outcome) for outcome in outcomes.values()} == {Accepted}
    reports = await over(kind, adapter, *(run.name for run in runs))
    assert {report.state for report in reports} == {SiteState.SUCCEEDED}


async def test_a_healthy_site_answers_in_every_layer(kind, adapter):
    checks = await adapter.probe(10)
    assert [check.layer for check in checks] == list(Layer)
    assert all(check.is_ok and check.latency_ms >= 0 for check in checks)


@pytest.mark.parametrize("layer", Layer)
async def test_a_probe_tells_which_layer_fails(kind, adapter, layer):
    async with kind.broken(layer) as broken:
        checks = await broken.probe(10)
        await broken.close()
    *passed, failed = checks
    assert [check.layer for check in passed] == list(Layer)[: len(passed)]
    assert all(check.is_ok for check in passed)
    assert (failed.layer, failed.is_ok) == (layer, False)
    assert failed.message
