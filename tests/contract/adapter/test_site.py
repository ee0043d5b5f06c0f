"""What a site keeps apart and keeps up: owners, claims, federations, rooms, kills and probes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import (
    Accepted,
    EndReason,
    Layer,
    Refused,
    RunRef,
    SiteState,
    StaleEpoch,
    Unknown,
    Unreachable,
)
from tests.contract.adapter.kinds import (
    where_accepted_runs_are_kept,
    where_names_are_not_unique,
    where_names_are_unique,
    where_owners_are_known,
    where_runs_outlive_a_kill,
)
from tests.contract.adapters import (
    CALL,
    LONG_S,
    POOLS,
    PROBE_S,
    Does,
    a_run,
    finish,
    listed,
    over,
    ref,
    running,
    text,
    until,
    with_epoch,
)
from topology.resources import Resources
from topology.room import Room


@where_owners_are_known
async def test_an_older_owner_is_refused_and_changes_nothing(kind, adapter):
    run, late = a_run(kind, "j1", Does(LONG_S)), a_run(kind, "late")
    await adapter.submit([run], with_epoch(7))
    for refused in (
        adapter.submit([late], with_epoch(6)),
        adapter.observe([], with_epoch(6)),
        adapter.cancel([ref(run)], with_epoch(6)),
        adapter.forget([ref(run)], with_epoch(6)),
    ):
        with pytest.raises(StaleEpoch):
            await refused
    assert set((await running(kind, adapter, run, call=with_epoch(7))).reports) == {run.name}


async def test_a_claim_that_is_there_stops_the_run_before_it_starts(kind, adapter):
    run = a_run(kind, does=Does(output="started."), tasks=2)
    kind.claim(run.claim)
    report = await finish(kind, adapter, run)
    assert (report.state, report.reason, report.started_at) == (SiteState.FAILED, EndReason.CLAIMED, None)
    assert [await text(adapter, run, task) for task in range(2)] == ["", ""]


async def test_a_run_that_started_has_its_claim(kind, adapter):
    run = a_run(kind, tasks=3)
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert kind.has_claim(run.claim)


async def test_a_forgotten_run_leaves_the_listing_and_what_still_runs_is_not_forgotten(kind, adapter):
    run, other = a_run(kind, "j1"), a_run(kind, "j2", Does(LONG_S))
    await adapter.submit([run, other], CALL)
    await over(kind, adapter, run)
    await adapter.forget([ref(run), ref(other), RunRef(f"{kind.federation}-never-a1")], CALL)
    assert set((await adapter.observe([], CALL)).reports) == {other.name}


@where_names_are_unique
async def test_a_forgotten_name_is_never_taken_again(kind, adapter):
    run = a_run(kind)
    await finish(kind, adapter, run)
    await adapter.forget([ref(run)], CALL)
    assert isinstance((await adapter.submit([run], CALL))[run.name], Refused)
    await kind.restart()
    assert isinstance((await adapter.submit([run], CALL))[run.name], Refused)


@where_names_are_not_unique
async def test_a_late_duplicate_of_a_forgotten_run_finds_its_claim(kind, adapter):
    run = a_run(kind)
    await finish(kind, adapter, run)
    await adapter.forget([ref(run)], CALL)
    assert (await finish(kind, adapter, run)).reason is EndReason.CLAIMED


async def test_runs_of_another_federation_are_left_alone_and_take_room(kind, adapter):
    name = f"{kind.federation}-b"  # so that its runs look like ours
    other, theirs = kind.adapter(name), a_run(kind, "j1", Does(waits=True), federation=name, tasks=3)
    await other.submit([theirs], CALL)
    await running(kind, other, theirs)
    await adapter.cancel([ref(theirs)], CALL)
    await adapter.forget([ref(theirs)], CALL)
    seen = await adapter.observe([ref(theirs)], CALL)
    assert seen.reports == {}
    assert list(seen.foreign) == [theirs.name]
    # 2 nodes x 4 cpus, of which 3 are theirs
    assert seen.rooms["cpu"].fit(Resources(1)) == 5
    assert (await other.observe([], CALL)).rooms["cpu"].fit(Resources(1)) == 8
    kind.let_go(theirs.name)
    (report,) = await over(kind, other, theirs)
    assert report.state is SiteState.SUCCEEDED
    await other.close()


@where_owners_are_known
async def test_owners_of_another_federation_are_its_own(kind, adapter):
    await adapter.observe([], with_epoch(7))
    other = kind.adapter("other")
    assert (await other.observe([], with_epoch(1))).reports == {}
    await other.close()


async def test_the_room_of_a_pool_does_not_change_with_our_own_runs(kind, adapter):
    empty = (await adapter.observe([], CALL)).rooms
    assert empty == {pool.name: Room.of([(pool.per_node, pool.nodes)]) for pool in POOLS}
    runs = [a_run(kind, f"j{number}", Does(LONG_S)) for number in range(10)]
    await adapter.submit(runs, CALL)

    def eight_run(reports):
        return sum(report.state is SiteState.RUNNING for report in reports.values()) == 8

    assert (await until(kind, adapter, eight_run)).rooms == empty


async def test_gpus_are_counted_by_type(kind, adapter):
    gpu = {"pool": "gpu", "per_task": Resources(1, 1, (("a100", 1),))}
    never = a_run(kind, "never", pool="gpu", per_task=Resources(1, 1, (("h100", 2),)))
    assert isinstance((await adapter.submit([never], CALL))[never.name], Refused)
    first, second, third = (a_run(kind, f"j{number}", Does(LONG_S), **gpu) for number in range(3))
    await adapter.submit([first, second], CALL)
    await running(kind, adapter, first, second)
    await adapter.submit([third], CALL)
    assert (await listed(kind, adapter, third)).reports[third.name].state is SiteState.QUEUED


async def test_a_listing_takes_as_many_requests_for_500_runs_as_for_one(kind):
    adapter, requests = kind.counted()
    full = a_run(kind, "full", Does(LONG_S), tasks=8)
    waiting = [a_run(kind, f"j{number}") for number in range(500)]

    async def requests_of_listing(*runs):
        await listed(kind, adapter, *runs)
        before = requests()
        assert (await adapter.observe([ref(run) for run in runs], CALL)).reports.keys() == {run.name for run in runs}
        return requests() - before

    await adapter.submit([full], CALL)
    await running(kind, adapter, full)  # when it begins some are asked once more
    for_one = await requests_of_listing(full)
    # how fast so many are taken is no part of the claim
    outcomes = await adapter.submit(waiting, replace(CALL, timeout_s=getattr(kind, "patience_s", CALL.timeout_s)))
    assert {type(outcome) for outcome in outcomes.values()} == {Accepted}
    assert await requests_of_listing(full, *waiting) == for_one
    await adapter.close()


@where_runs_outlive_a_kill
async def test_what_runs_goes_on_when_the_engine_is_killed(kind, adapter):
    run = a_run(kind, does=Does(waits=True, exit_code=4, output="started."))
    await adapter.submit([run], CALL)
    before = (await running(kind, adapter, run)).reports[run.name]
    await kind.restart()
    assert (await running(kind, adapter, run)).reports[run.name] == before
    kind.let_go(run.name)
    (report,) = await over(kind, adapter, run)
    assert (report.native_id, report.started_at, report.exit_code) == (before.native_id, before.started_at, 4)
    assert await text(adapter, run) == "started."


@where_runs_outlive_a_kill
async def test_what_waits_starts_once_though_the_engine_is_killed(kind, adapter):
    full, run = a_run(kind, "full", Does(waits=True), tasks=8), a_run(kind, does=Does(output="started."))
    await adapter.submit([full, run], CALL)
    await running(kind, adapter, full)
    await kind.restart()
    kind.let_go(full.name)
    assert {report.state for report in await over(kind, adapter, full, run)} == {SiteState.SUCCEEDED}
    assert await text(adapter, run) == "started."


@where_accepted_runs_are_kept
async def test_what_was_just_accepted_starts_once_though_the_engine_is_killed(kind, adapter):
    runs = [a_run(kind, f"j{number}", Does(output="started.")) for number in range(12)]
    await adapter.submit(runs, CALL)
    await kind.restart()
    assert {report.state for report in await over(kind, adapter, *runs)} == {SiteState.SUCCEEDED}
    assert {await text(adapter, run) for run in runs} == {"started."}


@where_owners_are_known
async def test_an_older_owner_is_refused_by_an_engine_that_was_killed_since(kind, adapter):
    await adapter.observe([], with_epoch(7))
    await kind.restart()
    with pytest.raises(StaleEpoch):
        await adapter.observe([], with_epoch(6))


async def test_a_healthy_site_answers_in_every_layer(kind, adapter):
    checks = await adapter.probe(getattr(kind, "probe_timeout_s", PROBE_S))
    assert [check.layer for check in checks] == list(Layer)
    assert all(check.is_ok and check.latency_ms >= 0 for check in checks)


@pytest.mark.parametrize("layer", [Layer.REACH, Layer.LOGIN])
async def test_who_is_not_reached_or_not_let_in_concludes_nothing(kind, layer):
    run = a_run(kind)
    async with kind.broken(layer) as broken:
        for failing in (broken.observe([], CALL), broken.cancel([ref(run)], CALL), broken.forget([ref(run)], CALL)):
            with pytest.raises(Unreachable):
                await failing
        try:
            outcome = (await broken.submit([run], CALL))[run.name]
        except Unreachable as error:
            outcome = Unknown(str(error))
        await broken.close()
    assert isinstance(outcome, Unknown)


@pytest.mark.parametrize("layer", Layer)
async def test_a_probe_tells_which_layer_fails(kind, layer):
    async with kind.broken(layer) as broken:
        checks = await broken.probe(getattr(kind, "probe_timeout_s", PROBE_S))
        await broken.close()
    *passed, failed = checks
    assert [check.layer for check in passed] == list(Layer)[: len(passed)]
    assert all(check.is_ok for check in passed)
    assert (failed.layer, failed.is_ok) == (layer, False)
    assert failed.message
