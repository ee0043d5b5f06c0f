"""What befalls YARN, and what becomes of runs then: each happens once or is known not to have, and is told for what it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.base import Accepted, EndReason, Refused, Run, SiteAdapter, SiteState, Unknown
from tests.contract.adapters import CALL, LONG_S, Does, a_run, finish, listed, over, ref, running, sh, text
from tests.contract.yarn_kind import YarnKind
from tests.engines.yarn.cluster import missing
from topology.resources import Resources

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.timeout(300),
]


@pytest.fixture
async def kind(tmp_path: Path) -> AsyncIterator[YarnKind]:
    kind = YarnKind(tmp_path)
    yield kind
    await kind.end()


def marking(kind: YarnKind, number: int) -> Run:
    """A run that leaves a line each time that its program starts."""
    return a_run(kind, f"j{number}", command=sh("echo $FED_JOB >> $FED_OUTPUTS/marks/$FED_JOB"), outputs={"marks": "marks"})


DONE, LOST = (SiteState.SUCCEEDED, None, True), (SiteState.FAILED, EndReason.NODE_LOST, False)
"""How a run ends under a manager that is killed, and whether it has its claim."""


def marks(kind: YarnKind) -> Mapping[str, Sequence[str]]:
    """What `marking` runs left, by job."""
    return {path.name: path.read_text().split() for path in (kind.storage / "marks").iterdir()}


async def happen(kind: YarnKind, adapter: SiteAdapter, runs: Sequence[Run]) -> None:
    """Each of these succeeds, or is told to be lost and has not started; those succeed as their next attempts.

    A resource manager saves that it gave a container to a run before it starts that: killed between the two, it waits after its
    restart for an application master that is not there (`yarn.am.liveness-monitor.expiry-interval-ms`). How many runs that
    befalls is chance."""
    told = [(report.state, report.reason, kind.has_claim(run.claim))
            for run, report in zip(runs, await over(kind, adapter, *runs), strict=True)]  # fmt: skip
    assert set(told) | {LOST} == {DONE, LOST}
    for run in (run for run, how in zip(runs, told, strict=True) if how == LOST):
        name = run.name.removesuffix("-a1") + "-a2"
        report = await finish(kind, adapter, replace(run, name=name, claim=f".fed/claims/{name}"))
        assert report.state is SiteState.SUCCEEDED


async def test_what_was_just_accepted_happens_once_though_the_manager_is_killed(kind, adapter):
    runs = [marking(kind, number) for number in range(12)]
    await adapter.submit(runs, CALL)
    await kind.restart()
    await happen(kind, adapter, runs)
    assert marks(kind) == {run.job: [run.job] for run in runs}


@pytest.mark.parametrize("sent", [1, 12, 24])
async def test_each_run_happens_once_though_the_manager_is_killed_while_they_are_submitted(kind, sent):
    """Before each run has an answer; the same are then submitted again."""
    adapter, requests = kind.counted()
    runs = [marking(kind, number) for number in range(24)]
    before = requests() + len(runs) + 3  # an id for each; whether it is active, twice; what is listed
    submitting = asyncio.create_task(adapter.submit(runs, CALL))
    while requests() < before + sent:
        await asyncio.sleep(0)
    await kind.restart()
    assert {type(outcome) for outcome in (await submitting).values()} == {Unknown}
    assert {type(outcome) for outcome in (await adapter.submit(runs, CALL)).values()} == {Accepted}
    await happen(kind, adapter, runs)
    assert marks(kind) == {run.job: [run.job] for run in runs}
    await adapter.close()


async def test_a_gang_that_gathers_starts_once_though_the_manager_is_killed(kind, adapter):
    one = a_run(kind, "one", Does(waits=True))
    gang = a_run(kind, "gang", command=sh("touch $FED_OUTPUTS/hall/$FED_TASK.$$"), outputs={"hall": "hall"}, tasks=8)
    await adapter.submit([one], CALL)
    await running(kind, adapter, one)
    await adapter.submit([gang], CALL)
    while (await listed(kind, adapter, gang)).reports[gang.name].message != "gathers its containers":
        await kind.pause()
    await kind.restart()
    kind.let_go(one.name)
    assert {report.state for report in await over(kind, adapter, one, gang)} == {SiteState.SUCCEEDED}
    assert len(list((kind.storage / "hall").iterdir())) == 8


async def test_a_gang_that_does_not_get_all_gives_back_what_it_holds(kind):
    full = kind.adapter()
    adapter = kind.adapter(gang_patience_s=1.0)
    one, gang = a_run(kind, "one", Does(LONG_S)), a_run(kind, "gang", tasks=8)
    await full.submit([one], CALL)
    await running(kind, full, one)
    report = await finish(kind, adapter, gang)
    assert (report.state, report.reason, report.started_at) == (SiteState.FAILED, EndReason.PREEMPTED, None)
    assert "7 of 8 containers" in report.message
    assert not kind.has_claim(gang.claim)
    await running(kind, full, one)
    await full.close()
    await adapter.close()


@pytest.mark.parametrize("victim", ["master", "other"])
async def test_a_node_that_is_lost_under_a_gang_is_told(kind, adapter, victim):
    gang = a_run(kind, "gang", Does(LONG_S), tasks=8)
    await adapter.submit([gang], CALL)
    await running(kind, adapter, gang)
    (app,) = kind.cluster.ask("GET", f"/ws/v1/cluster/apps?applicationTags=fed-run:{gang.name}")["apps"]["app"]
    ports = [ports.web for ports in kind.cluster.node_ports[:2]]
    has_master = ports.index(int(app["amHostHttpAddress"].rpartition(":")[2]))
    node = kind.cluster.node_managers[has_master if victim == "master" else 1 - has_master]
    node.end()
    try:
        (report,) = await over(kind, adapter, gang)
        assert (report.state, report.reason) == (SiteState.FAILED, EndReason.NODE_LOST)
        # its containers on the other node end a moment later
        while (await adapter.observe([], CALL)).rooms["cpu"].fit(Resources(1)) < 4:
            await kind.pause()
    finally:
        node.start()
        await asyncio.to_thread(kind.cluster.wait_ready)
    assert (await finish(kind, adapter, a_run(kind, "next", tasks=8))).state is SiteState.SUCCEEDED


async def test_a_node_manager_that_is_killed_and_comes_back_does_not_disturb_its_run(kind, adapter):
    run = a_run(kind, does=Does(waits=True, output="started."), tasks=8)
    await adapter.submit([run], CALL)
    # one that is killed while it launches a container loses track of that, and says so: Hadoop's "at NEW"
    for task in range(8):
        while await text(adapter, run, task) != "started.":
            await kind.pause()
    for number in range(2):
        await kind.restart_node(number)
    kind.let_go(run.name)
    (report,) = await over(kind, adapter, run)
    assert (report.state, report.message) == (SiteState.SUCCEEDED, "")
    assert [await text(adapter, run, task) for task in (0, 7)] == ["started.", "started."]


@pytest.mark.parametrize("tasks", [1, 2])
async def test_a_task_that_takes_more_memory_than_it_asked_for_is_told(kind, adapter, tasks):
    grow = "import os, time; held = b'x' * (400 << 20 if os.environ['FED_TASK'] == os.environ['GREEDY'] else 0); time.sleep(60)"
    run = a_run(
        kind,
        command=("python3", "-c", grow),
        env={"GREEDY": str(tasks - 1)},
        tasks=tasks,
        per_task=Resources(1, 0.25),
    )
    report = await finish(kind, adapter, run)
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.OUT_OF_MEMORY)


async def test_a_queue_that_is_not_there_is_told_with_those_that_are(kind):
    adapter = kind.adapter(queue="nowhere")
    run = a_run(kind)
    outcome = (await adapter.submit([run], CALL))[run.name]
    assert isinstance(outcome, Refused)
    assert "nowhere" in outcome.reason
    failed = (await adapter.probe(10))[-1]
    assert (failed.is_ok, failed.is_misconfigured) == (False, True)
    assert "batch" in failed.message
    await adapter.close()


async def test_a_label_that_is_not_there_is_told(kind):
    adapter = kind.adapter(labels={"gpu": "nothing"})
    run = a_run(kind, pool="gpu")
    outcome = (await adapter.submit([run], CALL))[run.name]
    assert isinstance(outcome, Refused)
    assert "nothing" in outcome.reason
    failed = (await adapter.probe(10))[-1]
    assert (failed.is_ok, failed.is_misconfigured) == (False, True)
    await adapter.close()


async def test_an_id_that_is_another_runs_is_not_taken_for_ours(kind):
    """YARN acknowledges a submission with an id that it knows, whatever is in it."""
    adapter = kind.bare()
    first, second = a_run(kind, "first"), a_run(kind, "second")
    (native_id,) = (await adapter.reserve([first.name], CALL)).values()
    await adapter.submit([replace(first, native_id=native_id)], CALL)
    outcome = (await adapter.submit([replace(second, native_id=native_id)], CALL))[second.name]
    assert isinstance(outcome, Refused)
    assert native_id in outcome.reason
    assert set((await listed(kind, adapter, first)).reports) == {first.name}
    await adapter.close()


async def test_what_a_program_leaves_running_ends_with_it(kind, adapter):
    leaves = "trap '' TERM; (while :; do touch $FED_OUTPUTS/pulse/beat; sleep 0.05; done) & exit 0"
    run = a_run(kind, command=sh(leaves), outputs={"pulse": "pulse"})
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    beat = kind.storage / "pulse" / "beat"
    beat.unlink(missing_ok=True)
    for _ in range(10):
        await kind.pause()
    assert not beat.exists()


async def test_an_application_master_that_is_killed_is_told(kind, adapter):
    run = a_run(kind, command=sh("kill -9 $PPID; sleep 60"))
    report = await finish(kind, adapter, run)
    assert report.state is SiteState.FAILED
    assert "137" in report.message
    await adapter.forget([ref(run)], CALL)
