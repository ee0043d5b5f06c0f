"""Daemons are killed -9: what runs goes on, what waits is not lost, and nothing is started twice."""

import os
import random
import signal
from collections import Counter

from adapters.base import EndReason, SiteState
from adapters.process.adapter import shut_down
from tests.adapters.process.engines import CALL, a_run, is_alive, ref, until


async def is_running(engine, run):
    return (await engine.report(run)).state is SiteState.RUNNING


async def test_tasks_go_on_and_are_reported_after_the_daemon_was_killed(engine):
    gate = engine.storage / "gate"
    run = a_run("j1", f"echo $$; while [ ! -e {gate} ]; do sleep 0.02; done; exit 4")
    await engine.accept(run)
    await until(lambda: engine.log(run, follow=False))
    before = await engine.report(run)
    await engine.kill()
    task = int(await engine.log(run, follow=False))
    assert is_alive(task)
    assert await engine.report(run) == before
    gate.touch()
    report = (await engine.ended(run))[0]
    assert (report.exit_code, report.reason, report.started_at) == (4, EndReason.PROGRAM_FAILED, before.started_at)


async def test_what_ended_while_no_daemon_ran_is_known(engine):
    gate, ended = engine.storage / "gate", engine.storage / "ended"
    run = a_run("j1", f"echo here; while [ ! -e {gate} ]; do sleep 0.02; done; touch {ended}; exit 4")
    await engine.accept(run)
    await until(lambda: engine.log(run, follow=False))
    await engine.kill()
    gate.touch()
    await until(ended.exists)
    report = (await engine.ended(run))[0]
    assert (report.state, report.exit_code) == (SiteState.FAILED, 4)


async def test_what_waited_is_started_by_the_next_daemon(engine):
    first, second = a_run("j1", "sleep 0.5", cpus=4.0), a_run("j2", "true")
    await engine.accept(first, second)
    await engine.kill()
    assert [report.state for report in await engine.ended(first, second)] == [SiteState.SUCCEEDED] * 2


async def test_a_daemon_killed_as_soon_as_it_accepted_forgets_nothing(engine):
    runs = [a_run(f"j{number}", f"echo j{number} >> {engine.storage}/journal") for number in range(20)]
    await engine.accept(*runs)
    await engine.kill()
    assert {report.state for report in await engine.ended(*runs)} == {SiteState.SUCCEEDED}
    assert Counter((engine.storage / "journal").read_text().split()) == {run.job: 1 for run in runs}


async def test_through_many_kills_every_task_starts_once(wide):
    chance = random.Random(5)
    journal = wide.storage / "journal"
    runs = [
        a_run(f"j{number}", f"echo j{number}.$FED_TASK >> {journal}; sleep {chance.uniform(0, 0.05):.3f}", tasks=1 + number % 3)
        for number in range(60)
    ]
    for first in range(0, 60, 10):
        await wide.accept(*runs[first : first + 10])
        if chance.random() < 0.5:
            await wide.report(runs[first])
        await wide.kill()
    reports = await wide.ended(*runs)
    assert {report.state for report in reports} == {SiteState.SUCCEEDED}
    assert Counter(journal.read_text().split()) == {f"{run.job}.{task}": 1 for run in runs for task in range(run.tasks)}


async def test_a_walltime_counts_while_no_daemon_runs(engine):
    run = a_run("j1", "echo $$; sleep 100", walltime_s=1.0)
    await engine.accept(run)
    await until(lambda: engine.log(run, follow=False))
    task = int(await engine.log(run, follow=False))
    await engine.kill()
    assert is_alive(task)
    report = (await engine.ended(run))[0]
    assert report.reason is EndReason.WALLTIME
    assert 0.9 <= report.ended_at - report.started_at < 5.0
    assert not is_alive(task)


async def test_a_cancel_is_finished_by_the_next_daemon(engine):
    run = a_run("j1", "trap '' TERM; echo $$; while :; do sleep 0.1; done")
    await engine.accept(run)
    await until(lambda: engine.log(run, follow=False))
    await engine.adapter.cancel([ref(run)], CALL)
    await engine.kill()
    assert (await engine.ended(run))[0].state is SiteState.CANCELLED
    assert not is_alive(int(await engine.log(run)))


async def test_an_adopted_run_can_be_cancelled(engine):
    run = a_run("j1", "echo $$; sleep 100")
    await engine.accept(run)
    await until(lambda: engine.log(run, follow=False))
    await engine.kill()
    await engine.adapter.cancel([ref(run)], CALL)
    assert (await engine.ended(run))[0].state is SiteState.CANCELLED


async def test_room_is_still_taken_by_what_was_adopted(engine):
    first, second = a_run("j1", "echo $$; sleep 100", cpus=3.0), a_run("j2", "true", cpus=2.0)
    await engine.accept(first)
    await until(lambda: engine.log(first, follow=False))
    await engine.kill()
    await engine.accept(second)
    assert [report.state for report in await engine.reports(first, second)] == [SiteState.RUNNING, SiteState.QUEUED]
    await engine.adapter.cancel([ref(first)], CALL)
    assert (await engine.ended(second))[0].state is SiteState.SUCCEEDED


def supervisor_of(pid):
    """The leader of the session a task runs in."""
    return os.getsid(pid)


async def test_a_task_whose_supervisor_was_killed_is_lost_with_it(engine):
    run = a_run("j1", "echo $$; sleep 100")
    await engine.accept(run)
    await until(lambda: engine.log(run, follow=False))
    task = int(await engine.log(run, follow=False))
    os.kill(supervisor_of(task), signal.SIGKILL)
    report = (await engine.ended(run))[0]
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.NODE_LOST)
    await until(lambda: not is_alive(task))


async def test_a_supervisor_killed_while_no_daemon_runs_is_noticed(engine):
    run = a_run("j1", "echo $$; sleep 100")
    await engine.accept(run)
    await until(lambda: engine.log(run, follow=False))
    task = int(await engine.log(run, follow=False))
    await engine.kill()
    os.kill(supervisor_of(task), signal.SIGKILL)
    report = (await engine.ended(run))[0]
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.NODE_LOST)
    await until(lambda: not is_alive(task))


async def test_a_run_that_died_between_its_claim_and_its_start_is_started_by_the_next_daemon(engine):
    """The claim holds what the run's own would: as the first run's, with its name and id in the place of the other's."""
    first = a_run("j1", "sleep 0.5", cpus=4.0)
    run = a_run("j2", f"echo started >> {engine.storage}/journal")
    ids = {name: outcome.native_id for name, outcome in (await engine.submit(first, run)).items()}
    await until(lambda: is_running(engine, first))
    await engine.kill()
    claim = (engine.storage / first.claim).read_text()
    (engine.storage / run.claim).write_text(claim.replace(first.name, run.name).replace(ids[first.name], ids[run.name]))
    assert (await engine.ended(run))[0].state is SiteState.SUCCEEDED
    assert (engine.storage / "journal").read_text().split() == ["started"]


async def test_a_torn_last_line_of_the_journal_costs_nothing(engine):
    run = a_run("j1", "true")
    await engine.end(run)
    await engine.kill()
    with (engine.state_dir / "journal").open("ab") as journal:
        journal.write(b'{"t":"run","run":{"na')
    assert (await engine.report(run)).state is SiteState.SUCCEEDED


async def test_what_a_killed_engine_left_is_shut_down_as_well(engine):
    run = a_run("j1", "echo $$; sleep 100")
    await engine.accept(run)
    await until(lambda: engine.log(run, follow=False))
    task = int(await engine.log(run, follow=False))
    await engine.kill()
    await shut_down(engine.state_dir)
    await until(lambda: not is_alive(task))
