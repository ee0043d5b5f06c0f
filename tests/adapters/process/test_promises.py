"""What the engine promises of names, epochs, claims, gangs and rooms, as its adapter sees it."""

import asyncio

import pytest

from adapters.base import Accepted, EndReason, Layer, Refused, SiteState, StaleEpoch, Unreachable
from adapters.process.adapter import shut_down
from tests.adapters.process.engines import CALL, RealEngine, a_pool, a_run, is_alive, ref, until, with_epoch


async def test_submitting_one_name_twice_starts_one(engine):
    run = a_run("j1", f"echo started >> {engine.storage}/journal")
    first, second = await asyncio.gather(engine.submit(run), engine.submit(run))
    assert first == second
    await engine.ended(run)
    assert await engine.submit(run) == first
    await engine.end(a_run("j2", "true"))
    assert (engine.storage / "journal").read_text().split() == ["started"]


async def test_another_payload_under_a_known_name_is_refused(engine):
    run = a_run("j1", "sleep 0.2")
    await engine.accept(run)
    outcome = (await engine.submit(a_run("j1", "rm -rf everything")))[run.name]
    assert isinstance(outcome, Refused)
    assert (await engine.ended(run))[0].state is SiteState.SUCCEEDED


async def test_a_forgotten_name_is_never_taken_again(engine):
    run = a_run("j1", "true")
    await engine.end(run)
    await engine.adapter.forget([ref(run)], CALL)
    assert isinstance((await engine.submit(run))[run.name], Refused)
    await engine.kill()
    assert isinstance((await engine.submit(run))[run.name], Refused)
    assert await engine.report(run) is None


async def test_what_still_runs_is_not_forgotten(engine):
    run = a_run("j1", "sleep 100")
    await engine.accept(run)
    await engine.adapter.forget([ref(run)], CALL)
    assert await engine.report(run) is not None


async def test_an_old_owner_is_turned_away_by_every_call(engine):
    run = a_run("j1", "true")
    await engine.submit(run, call=with_epoch(7))
    adapter, old = engine.adapter, with_epoch(6)
    for call in (adapter.submit([a_run("j2", "true")], old), adapter.observe((), old), adapter.cancel([ref(run)], old)):
        with pytest.raises(StaleEpoch):
            await call
    with pytest.raises(StaleEpoch):
        await adapter.forget([ref(run)], old)
    await engine.kill()
    with pytest.raises(StaleEpoch):
        await adapter.observe((), old)
    assert set((await adapter.observe((), with_epoch(7))).reports) == {run.name}


async def test_epochs_of_federations_are_their_own(engine):
    await engine.submit(a_run("j1", "true"), call=with_epoch(7))
    other = engine.open("other")
    assert (await other.observe((), with_epoch(1))).reports == {}
    await other.close()


async def test_a_run_makes_its_claim_and_names_itself_in_it(engine):
    run = a_run("j1", "true")
    await engine.end(run)
    assert run.name in (engine.storage / run.claim).read_text()


async def test_a_run_whose_claim_is_there_does_not_start(engine):
    run = a_run("j1", f"touch {engine.storage}/started", outputs={"words": ".fed/outputs/words"})
    claim = engine.storage / run.claim
    claim.parent.mkdir(parents=True)
    claim.write_bytes(b"given up by the broker\n")
    report = await engine.end(run)
    assert (report.state, report.reason, report.started_at) == (SiteState.FAILED, EndReason.CLAIMED, None)
    assert not (engine.storage / "started").exists()
    assert not (engine.storage / ".fed/outputs").exists()
    assert claim.read_bytes() == b"given up by the broker\n"


MEET = "touch here.$FED_TASK; while [ $(ls here.* | wc -l) -lt $FED_TASKS ]; do sleep 0.02; done; echo met"


async def test_tasks_of_a_gang_run_at_once(wide):
    # 8 tasks of 1 cpu fill 4 nodes of 2 cpus; each waits for the other seven
    gang = a_run("gang", MEET, tasks=8)
    assert (await wide.end(gang)).state is SiteState.SUCCEEDED
    assert [await wide.log(gang, task) for task in range(8)] == [b"met\n"] * 8


async def test_a_gang_waits_until_all_of_it_fits_and_others_pass(wide):
    # one of 8 cpus is taken: a gang of 8 waits, while a later run of one cpu fits
    gate = wide.storage / "gate"
    first = a_run("first", f"while [ ! -e {gate} ]; do sleep 0.02; done")
    gang, small = a_run("gang", MEET, tasks=8), a_run("small", "true")
    await wide.accept(first, gang, small)
    await wide.ended(small)
    assert await wide.state(gang) is SiteState.QUEUED
    gate.touch()
    assert (await wide.ended(gang))[0].state is SiteState.SUCCEEDED


async def test_a_gang_ends_with_the_first_of_its_tasks_that_fails(wide):
    gang = a_run("gang", "[ $FED_TASK = 1 ] && exit 9; sleep 100", tasks=4)
    report = await wide.end(gang)
    assert (report.state, report.exit_code, report.reason) == (SiteState.FAILED, 9, EndReason.PROGRAM_FAILED)


async def test_room_is_what_is_free_and_what_our_own_runs_hold(wide):
    # other's 2 tasks of 1 cpu fill one node of 2 cpus; ours of 1 cpu changes nothing for us
    other = wide.open("other")
    theirs = a_run("theirs", "sleep 100", tasks=2, federation="other")
    await other.submit([theirs], CALL)
    await until(lambda: _is_running(other, theirs))
    ours = a_run("ours", "sleep 100")
    await wide.accept(ours)
    await until(lambda: _is_running(wide.adapter, ours))
    seen = await wide.adapter.observe((), CALL)
    assert set(seen.reports) == {ours.name}
    assert seen.is_whole
    assert sorted((free.cpus, count) for free, count in seen.rooms["cpu"].groups) == [(0.0, 1), (2.0, 3)]
    assert [free.gpus for free, _ in seen.rooms["gpu"].groups] == [(("a100", 2),)]
    room = (await other.observe((), CALL)).rooms["cpu"]
    assert sorted((free.cpus, count) for free, count in room.groups) == [(1.0, 1), (2.0, 3)]
    await other.close()


async def _is_running(adapter, run):
    return (await adapter.observe((), CALL)).reports[run.name].state is SiteState.RUNNING


async def test_a_run_that_does_not_fit_waits(engine):
    big, next_one = a_run("big", "sleep 100", cpus=3.0), a_run("next", "true", cpus=2.0)
    await engine.accept(big, next_one)
    await until(lambda: _is_running(engine.adapter, big))
    assert await engine.state(next_one) is SiteState.QUEUED
    await engine.adapter.cancel([ref(big)], CALL)
    assert (await engine.ended(next_one))[0].state is SiteState.SUCCEEDED


async def test_hundreds_are_taken_in_one_call(engine):
    runs = [a_run(f"j{number}", "true") for number in range(300)]
    await engine.accept(*runs)
    reports = await engine.ended(*runs)
    assert {report.state for report in reports} == {SiteState.SUCCEEDED}


async def test_a_healthy_site_answers_every_layer(engine):
    checks = await engine.adapter.probe(10.0)
    assert [(check.layer, check.is_ok) for check in checks] == [(layer, True) for layer in Layer]


async def test_other_pools_than_the_sites_are_a_misconfiguration(engine):
    await engine.adapter.probe(10.0)
    engine.site = type(engine.site)("ams", engine.site.engine, (a_pool(cpus=64.0),), engine.site.storage)
    other = engine.open(autostart=False)
    last = (await other.probe(10.0))[-1]
    assert (last.layer, last.is_ok, last.is_misconfigured) == (Layer.SCHEDULER, False, True)
    await other.close()


async def test_storage_that_cannot_be_written_fails_its_own_layer(engine):
    await engine.adapter.probe(10.0)
    engine.storage.rename(engine.storage.with_name("moved"))
    try:
        layers = {check.layer: check.is_ok for check in await engine.open(autostart=False).probe(10.0)}
    finally:
        engine.storage.with_name("moved").rename(engine.storage)
    assert not layers[list(layers)[-1]]


async def test_without_an_engine_every_call_is_unreachable(tmp_path):
    engine = RealEngine(tmp_path / "site", autostart=False)
    run = a_run("j1", "true")
    adapter = engine.adapter
    for call in (adapter.submit([run], CALL), adapter.observe((), CALL), adapter.cancel([ref(run)], CALL)):
        with pytest.raises(Unreachable):
            await call
    with pytest.raises(Unreachable):
        await engine.log(run)
    checks = await adapter.probe(5.0)
    assert [(check.layer, check.is_ok) for check in checks] == [(Layer.REACH, False)]
    await adapter.close()


async def test_an_engine_may_lie_deeper_than_a_sockets_address_is_long(tmp_path):
    engine = RealEngine(tmp_path / ("deep" * 20) / ("deeper" * 20) / "site")
    try:
        assert (await engine.end(a_run("j1", "true"))).state is SiteState.SUCCEEDED
    finally:
        await engine.close()


async def test_two_that_start_it_at_once_make_one(engine):
    adapters = [engine.open() for _ in range(3)]
    run = a_run("j1", f"echo started >> {engine.storage}/journal")
    outcomes = await asyncio.gather(*(adapter.submit([run], CALL) for adapter in adapters))
    assert len({outcome[run.name] for outcome in outcomes}) == 1
    assert isinstance(outcomes[0][run.name], Accepted)
    await engine.ended(run)
    assert (engine.storage / "journal").read_text().split() == ["started"]
    for adapter in adapters:
        await adapter.close()


async def test_shutting_down_leaves_nothing(engine):
    run = a_run("j1", "trap '' TERM; setsid sh -c 'echo $$; sleep 100' & echo $$; while :; do sleep 0.1; done")
    await engine.accept(run)

    async def both():
        return len((await engine.log(run, follow=False)).split()) == 2

    await until(both)
    pids = [engine.pid, *map(int, (await engine.log(run, follow=False)).split())]
    await shut_down(engine.state_dir)
    await until(lambda: not any(map(is_alive, pids)))


async def test_shutting_down_ends_what_ended_runs_left_elsewhere(engine):
    run = a_run("j1", "setsid sh -c 'echo $$ > pid; sleep 100' & while [ ! -s pid ]; do sleep 0.02; done; cat pid")
    await engine.end(run)
    stray = int(await engine.log(run))
    assert is_alive(stray)
    await engine.adapter.forget([ref(run)], CALL)
    await shut_down(engine.state_dir)
    await until(lambda: not is_alive(stray))


async def test_shutting_down_where_nothing_runs_is_no_error(tmp_path):
    await shut_down(tmp_path / "nothing")
