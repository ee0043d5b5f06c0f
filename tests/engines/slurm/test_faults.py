"""What real Slurms do to us, done to them: nothing is lost without notice, and nothing starts twice."""

import asyncio
import contextlib
import signal
from dataclasses import replace

import pytest

from adapters.base import Accepted, EndReason, SiteState, Unknown, Unreachable
from adapters.slurm.adapter import open_slurm
from adapters.slurm.settings import SlurmSettings
from tests.contract.adapters import (
    CALL,
    IMPATIENT,
    LONG_S,
    POOLS,
    Does,
    a_run,
    finish,
    listed,
    over,
    ref,
    running,
    sh,
    text,
    until,
)
from tests.contract.slurm_kind import SlurmCliKind, SlurmNewerKind, SlurmRestKind
from tests.engines.slurm.cluster import missing
from tests.engines.slurm.configuration import MIN_JOB_AGE_S
from tests.engines.ssh import server
from tests.engines.ssh.server import LoginNode
from topology.resources import Resources

pytestmark = [pytest.mark.engines, pytest.mark.skipif(bool(missing()), reason=missing())]
KINDS = {kind.name: kind for kind in (SlurmCliKind, SlurmRestKind, SlurmNewerKind) if not kind.missing()}


@pytest.fixture(params=KINDS)
async def kind(request, tmp_path):
    engine = KINDS[request.param](tmp_path)
    yield engine
    await engine.end()


@contextlib.contextmanager
def forgetting(kind):
    """Slurm lists what is over for two seconds."""
    kind.cluster.remember(2)
    try:
        yield
    finally:
        kind.cluster.remember(MIN_JOB_AGE_S)


def counting(run):
    """The run, noting each time that its program starts."""
    return replace(run, command=sh("echo started >> $FED_OUTPUTS/starts/all"), outputs={"starts": f".fed/starts/{run.name}"})


def starts(kind, run):
    """How often its program started."""
    path = kind.storage / ".fed" / "starts" / run.name / "all"
    return len(path.read_text().splitlines()) if path.exists() else 0


def crash(kind):
    """The controller is killed, with what it did not save, and started again."""
    kind.cluster.end("slurmctld", signal.SIGKILL)
    kind.cluster.start_controller()
    kind.cluster.wait_idle()


async def test_a_job_that_slurm_lost_is_missing_and_the_one_that_has_its_id_now_is_another(kind, adapter):
    full = a_run(kind, "full", Does(LONG_S), tasks=8)
    await adapter.submit([full], CALL)
    await running(kind, adapter, full)
    kind.cluster.wait_saved()
    lost, next_one = a_run(kind, "lost"), a_run(kind, "next")
    first = (await adapter.submit([lost], CALL))[lost.name]
    crash(kind)
    second = (await adapter.submit([next_one], CALL))[next_one.name]
    assert isinstance(first, Accepted)
    assert first == second  # the same id
    known = [replace(ref(lost), native_id=first.native_id), replace(ref(next_one), native_id=second.native_id)]
    seen = await adapter.observe(known, CALL)
    assert (seen.is_whole, set(seen.reports)) == (True, {full.name, next_one.name})
    await adapter.cancel([known[0]], CALL)
    await adapter.forget([known[0]], CALL)
    assert (await listed(kind, adapter, next_one)).reports[next_one.name].state is SiteState.QUEUED
    await adapter.cancel([ref(full)], CALL)
    (report,) = await over(kind, adapter, next_one)
    assert report.state is SiteState.SUCCEEDED


async def test_a_controller_that_was_stopped_during_a_submit_starts_each_run_once_when_it_goes_on(kind, adapter):
    runs = [counting(a_run(kind, f"j{number}")) for number in range(6)]
    async with kind.silent():
        outcomes = await adapter.submit(runs, IMPATIENT)
    assert {type(outcome) for outcome in outcomes.values()} == {Unknown}
    again = await adapter.submit(runs, CALL)
    assert {type(outcome) for outcome in again.values()} == {Accepted}
    assert {report.state for report in await over(kind, adapter, *runs)} == {SiteState.SUCCEEDED}
    await finish(kind, adapter, a_run(kind, "last"))
    assert [starts(kind, run) for run in runs] == [1] * len(runs)


async def test_what_slurm_no_longer_lists_is_found_in_what_it_noted(kind, adapter):
    good, bad = a_run(kind, "good"), a_run(kind, "bad", Does(exit_code=3))
    await adapter.submit([good, bad], CALL)
    before = await over(kind, adapter, good, bad)
    with forgetting(kind):
        while (await adapter.observe([], CALL)).reports:
            await kind.pause()
        reports = (await adapter.observe([ref(good), ref(bad)], CALL)).reports
    said = [(report.name, report.native_id, report.state, report.exit_code, report.reason) for report in before]
    assert said == [
        (report.name, report.native_id, report.state, report.exit_code, report.reason)
        for report in (reports[good.name], reports[bad.name])
    ]


async def test_what_was_cancelled_and_left_the_listing_is_found_in_accounting_where_there_is_some(kind, adapter):
    run = a_run(kind, does=Does(LONG_S))
    await adapter.submit([run], CALL)
    await running(kind, adapter, run)
    await adapter.cancel([ref(run)], CALL)
    await over(kind, adapter, run)
    with forgetting(kind):
        while (await adapter.observe([], CALL)).reports:
            await kind.pause()
        reports = (await adapter.observe([ref(run)], CALL)).reports
    assert {name: report.state for name, report in reports.items()} == (
        {run.name: SiteState.CANCELLED} if adapter.capabilities.history else {}
    )


async def test_a_node_that_dies_under_a_run_is_told_from_a_program_that_fails(kind, adapter):
    run = a_run(kind, does=Does(LONG_S))
    await adapter.submit([run], CALL)
    await running(kind, adapter, run)
    node = kind.cluster.node_of(run.name)
    kind.cluster.end(node, signal.SIGKILL)
    try:
        (report,) = await over(kind, adapter, run)
        assert (report.state, report.reason) == (SiteState.FAILED, EndReason.NODE_LOST)
        rooms = (await adapter.observe([], CALL)).rooms
        assert rooms["cpu"].groups[0][1] == 1
    finally:
        kind.cluster.start_node(node)
        kind.cluster.wait_idle()


async def test_a_node_that_dies_under_a_gang_ends_it(kind, adapter):
    gang = a_run(kind, does=Does(LONG_S), tasks=8)
    await adapter.submit([gang], CALL)
    await running(kind, adapter, gang)
    node = kind.cluster.node_names[1]
    kind.cluster.command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=fault")
    try:
        (report,) = await over(kind, adapter, gang)
        assert (report.state, report.reason) == (SiteState.FAILED, EndReason.NODE_LOST)
    finally:
        kind.cluster.command("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)  # or it came back by itself
        kind.cluster.wait_idle()


async def test_the_first_task_that_fails_ends_its_gang_and_gives_it_its_exit_code(kind, adapter):
    body = "if [ $FED_TASK = 2 ]; then exit 7; fi; sleep 3600"
    report = await finish(kind, adapter, a_run(kind, command=sh(body), tasks=5))
    assert (report.state, report.exit_code, report.reason) == (SiteState.FAILED, 7, EndReason.PROGRAM_FAILED)


async def test_each_task_of_a_gang_has_a_gpu_of_its_own(kind, adapter):
    gpu = Resources(1, 0.5, (("a100", 1),))
    gang = a_run(kind, command=sh("echo $CUDA_VISIBLE_DEVICES; sleep 3"), tasks=2, pool="gpu", per_task=gpu)
    await adapter.submit([gang], CALL)
    seen = await running(kind, adapter, gang)
    assert seen.rooms["gpu"] == POOLS[1].empty
    assert (await over(kind, adapter, gang))[0].state is SiteState.SUCCEEDED
    assert sorted([await text(adapter, gang, task) for task in range(2)]) == ["0\n", "1\n"]


async def test_a_program_that_is_not_there_is_told_for_a_gang_too(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, command=("no-such-program-here",), tasks=3))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.START_FAILED)
    assert "no-such-program-here" in report.message


async def test_a_run_that_an_admin_requeues_does_not_start_twice_and_says_what_befell_it(kind, adapter):
    run = a_run(kind, command=sh("echo started >> $FED_OUTPUTS/starts/all; sleep 600"))
    run = replace(run, outputs={"starts": f".fed/starts/{run.name}"})
    outcome = (await adapter.submit([run], CALL))[run.name]
    while not starts(kind, run):
        await kind.pause()
    kind.cluster.command("scontrol", "update", f"JobId={outcome.native_id}", "Requeue=1")
    kind.cluster.command("scontrol", "requeue", outcome.native_id)
    await until(kind, adapter, lambda reports: reports[run.name].state is SiteState.QUEUED)
    # by itself Slurm waits for two minutes; within the second of the requeue slurmd takes the start for the one that was ended
    kind.cluster.command("scontrol", "update", f"JobId={outcome.native_id}", "StartTime=now+2seconds")
    (report,) = await over(kind, adapter, run)
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.NODE_LOST)
    assert starts(kind, run) == 1


async def test_a_run_that_takes_all_memory_it_may_is_ended(kind, adapter):
    program = ("python3", "-c", "import time; kept = bytearray(300 * 2**20); time.sleep(600)")
    run = a_run(kind, command=program, per_task=replace(a_run(kind).per_task, memory_gib=0.1))
    report = await finish(kind, adapter, run)
    assert (report.state, report.signal) == (SiteState.FAILED, signal.SIGKILL)  # without cgroups Slurm tells no more


async def objection(adapter):
    """What keeps it from being observed."""
    try:
        await adapter.observe([], CALL)
    except Unreachable as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", [SlurmRestKind.name], indirect=True)
async def test_a_token_that_ended_leaves_runs_unknown_until_it_is_renewed(kind, adapter):
    kind.renew_token(1)
    run = counting(a_run(kind))
    while not (said := await objection(adapter)):
        await kind.pause()
    assert "scontrol token" in said
    assert isinstance((await adapter.submit([run], CALL))[run.name], Unknown)
    kind.renew_token(3600)
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert starts(kind, run) == 1


async def test_output_of_both_tasks_is_apart(kind, adapter):
    run = a_run(kind, command=sh("echo $FED_TASK; echo error >&2"), tasks=2)
    await finish(kind, adapter, run)
    assert [await text(adapter, run, task) for task in range(2)] == ["0\nerror\n", "1\nerror\n"]


@pytest.fixture
def node(tmp_path):
    """A login node of the test's own."""
    (tmp_path / "ssh").mkdir()
    node = LoginNode(tmp_path / "ssh")
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.mark.skipif(bool(server.missing()), reason=server.missing())
@pytest.mark.parametrize("kind", [SlurmCliKind.name], indirect=True)
async def test_a_connection_to_the_login_node_that_is_cut_in_mid_command_starts_nothing_twice(kind, node):
    place = {"host": node.host, "port": node.port, "user": node.user, "known_hosts": str(node.known_hosts)}
    ssh = {"kind": "ssh", **place, "key": {"file": str(node.key)}, "env": dict(kind.cluster.environment)}
    adapter = open_slurm(kind.site, SlurmSettings.model_validate({"command": ssh}), kind.federation)
    try:
        assert all(check.is_ok for check in await adapter.probe(10))
        runs = [counting(a_run(kind, f"j{number}")) for number in range(30)]
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(adapter.submit(runs, CALL))
            while not kind.cluster.command("squeue", "-h", "--states=all", "-o", "%j").count(kind.federation):
                await kind.pause()
            node.cut()
        assert Unknown in {type(outcome) for outcome in sending.result().values()}
        again = await adapter.submit(runs, CALL)
        assert {type(outcome) for outcome in again.values()} == {Accepted}
        assert {report.state for report in await over(kind, adapter, *runs)} == {SiteState.SUCCEEDED}
        assert [starts(kind, run) for run in runs] == [1] * len(runs)
        assert await text(adapter, runs[0]) == ""
    finally:
        await adapter.close()
