"""What an LSF site does to us, on the stand-in: each has its own state, reason and cure, and nothing starts twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.base import (
    Accepted,
    EndReason,
    Layer,
    Observation,
    Refused,
    Run,
    RunRef,
    SiteAdapter,
    SiteState,
    Unknown,
    Unreachable,
)
from adapters.kinds import open_adapter
from tests.contract.adapters import CALL, POOLS
from tests.engines.lsf.cluster import A100, H100, TWO_POOLS, LsfCluster
from tests.engines.running import running
from tests.engines.ssh.server import LoginNode, missing
from topology.resources import Resources
from topology.room import Room
from topology.site import Engine, Site, Storage

NOISE = ["Cannot connect to LSF. Please wait ...", "Welcome to <cluster> {beta}: jobs & queues"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LsfCluster]:
    cluster = LsfCluster(tmp_path, replace(TWO_POOLS, clean_period_s=3600.0)).start()
    yield cluster
    cluster.stop()


@pytest.fixture
async def adapter(cluster: LsfCluster, tmp_path: Path) -> AsyncIterator[SiteAdapter]:
    adapter = opened(cluster, tmp_path)
    yield adapter
    await adapter.close()


def opened(cluster: LsfCluster, folder: Path, **settings) -> SiteAdapter:
    storage = folder / "storage"
    storage.mkdir(exist_ok=True)
    given = {"bin": str(cluster.bin), "gpus": {"a100": A100, "h100": H100}, **settings}
    return open_adapter(Site("ams", Engine("lsf", given), POOLS, Storage(f"file://{storage}")), "fed")


def a_run(name: str = "j1", body: str = "true", **rest) -> Run:
    full = f"fed-{name}-a1"
    defaults = {"tasks": 1, "per_task": Resources(1, 0.5), "pool": "cpu", "command": ("sh", "-c", body)}
    return Run(full, "fed", name, "default", **{**defaults, "claim": f".fed/claims/{full}", **rest})


async def until(adapter: SiteAdapter, run: Run, *states: SiteState) -> Observation:
    async with asyncio.timeout(60):
        while True:
            seen = await adapter.observe([], CALL)
            if run.name in seen.reports and seen.reports[run.name].state in states:
                return seen
            await asyncio.sleep(0.05)


async def ended(adapter: SiteAdapter, run: Run):
    seen = await until(adapter, run, SiteState.SUCCEEDED, SiteState.FAILED, SiteState.CANCELLED)
    return seen.reports[run.name]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_lines_that_sites_print_first_change_nothing(cluster, adapter, stream):
    cluster.switch(noise=NOISE, noise_on=stream, esub=["Checking your project ...", "<quota> is 4 %"])
    run = a_run()
    assert isinstance((await adapter.submit([run], CALL))[run.name], Accepted)
    assert (await ended(adapter, run)).state is SiteState.SUCCEEDED
    assert (await adapter.submit([run], CALL))[run.name] == Accepted((await ended(adapter, run)).native_id)
    assert all(check.is_ok for check in await adapter.probe(20))


async def test_what_an_esub_refuses_is_refused_in_its_words(cluster, adapter):
    cluster.switch(esub_refuses="Project p1 has no hours left")
    told = (await adapter.submit([a_run()], CALL))["fed-j1-a1"]
    assert isinstance(told, Refused)
    assert "no hours left" in told.reason


async def test_a_queue_that_is_not_there_is_refused_and_the_probe_says_what_to_set(cluster, tmp_path):
    adapter = opened(cluster, tmp_path, pools={"gpu": {"queue": "gpuz"}})
    told = await adapter.submit([a_run(), a_run("j2", pool="gpu")], CALL)
    assert isinstance(told["fed-j1-a1"], Accepted)
    assert "gpuz: No such queue" in told["fed-j2-a1"].reason
    *_, failed = await adapter.probe(20)
    assert (failed.layer, failed.is_ok, failed.is_misconfigured) == (Layer.SCHEDULER, False, True)
    assert "pools.<pool>.queue" in failed.message


async def test_a_site_that_has_a_queue_less_is_observed_all_the_same(cluster, tmp_path):
    adapter = opened(cluster, tmp_path, pools={"gpu": {"queue": "gpuz"}})
    seen = await adapter.observe([], CALL)
    assert (seen.rooms["cpu"].fit(Resources(1)), seen.rooms["gpu"]) == (8, Room())


async def test_commands_that_are_not_there_are_told_with_the_cure(cluster, tmp_path):
    adapter = opened(cluster, tmp_path, bin="/nowhere")
    with pytest.raises(Unreachable, match="set bin"):
        await adapter.submit([a_run()], CALL)
    *_, failed = await adapter.probe(20)
    assert (failed.layer, failed.is_misconfigured) == (Layer.SCHEDULER, True)
    assert "set bin" in failed.message


async def test_a_lim_that_is_down_is_told(cluster, adapter):
    cluster.switch(lim_is_down=True)
    *_, failed = await adapter.probe(20)
    assert (failed.layer, failed.is_ok, failed.is_misconfigured) == (Layer.SCHEDULER, False, False)
    assert "LIM is down" in failed.message


@pytest.mark.parametrize(
    ("prints", "words"),
    [
        ("echo '<html>502 Bad Gateway</html>'", "502 Bad Gateway"),
        ("yes '{\"COMMAND\": 1,'", "writes without end"),
        ('printf \'{"COMMAND":"bjobs","JOBS":1,"RECORDS":[{"JOBID":"1",\'', "no answer"),
        ("printf '{\"JOBS\": 0}'", "no answer"),
        ("exit 3", "ended with 3"),
    ],
)
async def test_what_is_no_listing_is_no_answer_and_nothing_is_sent(cluster, tmp_path, prints, words):
    bjobs = cluster.bin / "bjobs"
    bjobs.write_text(f"#!/bin/sh\n{prints}\n")
    adapter = opened(cluster, tmp_path)
    for call in (adapter.observe([], CALL), adapter.submit([a_run()], CALL), adapter.cancel([RunRef("fed-j1-a1")], CALL)):
        with pytest.raises(Unreachable, match=words):
            await call
    assert cluster.call("bhist", "-a").out.count("fed-j1-a1") == 0


async def test_a_submission_that_prints_nonsense_leaves_its_run_unknown(cluster, tmp_path):
    (cluster.bin / "bsub").write_text("#!/bin/sh\ncat > /dev/null\necho '<html>Job not submitted? later</html>' | tr J j\n")
    assert isinstance((await opened(cluster, tmp_path).submit([a_run()], CALL))["fed-j1-a1"], Unknown)


@pytest.fixture
def packing(tmp_path: Path) -> Iterator[LsfCluster]:
    cluster = LsfCluster(tmp_path, replace(TWO_POOLS, max_pack_jobs=100)).start()
    yield cluster
    cluster.stop()


async def test_many_runs_are_sent_in_packs_and_one_that_is_refused_keeps_none_back(packing, tmp_path):
    adapter = opened(packing, tmp_path, pack=40, pools={"gpu": {"queue": "gpuz"}})
    runs = [a_run(f"j{number}", f"echo {number}\nFED_END=it\\'s", pool="gpu" if number == 50 else "cpu") for number in range(90)]
    before = packing.calls
    told = await adapter.submit(runs, CALL)
    refused = told.pop("fed-j50-a1")
    assert isinstance(refused, Refused)
    assert "gpuz" in refused.reason
    assert {type(outcome) for outcome in told.values()} == {Accepted}
    # two listings, three packs of 40, 40 and 10, and one by one what stood behind the refused one: 50 to 79
    assert packing.calls - before == 2 + 3 + 30
    assert await adapter.submit(runs[:3], CALL) == {run.name: told[run.name] for run in runs[:3]}
    assert (await ended(adapter, runs[0])).state is SiteState.SUCCEEDED
    assert b"".join([chunk async for chunk in adapter.logs(RunRef(runs[0].name), 0, 0, False)]) == b"0\n"


async def test_where_packs_are_off_runs_are_sent_one_by_one(cluster, tmp_path):
    runs = [a_run(f"j{number}") for number in range(3)]
    told = await opened(cluster, tmp_path, pack=40).submit(runs, CALL)
    assert {type(outcome) for outcome in told.values()} == {Accepted}


async def test_hosts_that_are_closed_or_lost_leave_the_room(cluster, adapter):
    cluster.close_hosts("cpu-1")
    await room_is(adapter, 4)
    cluster.close_hosts()
    await room_is(adapter, 8)
    cluster.lose_hosts("cpu-2")
    await room_is(adapter, 4)


async def room_is(adapter, tasks):
    """Returns once a listing shows it: mbatchd hears of its hosts a moment later."""
    async with asyncio.timeout(20):
        while (await adapter.observe([], CALL)).rooms["cpu"].fit(Resources(1)) != tasks:
            pass


async def test_a_run_whose_host_was_lost_is_unknown_and_never_over_by_that(cluster, adapter):
    run = a_run(body="sleep 600", per_task=Resources(4, 1))
    await adapter.submit([run], CALL)
    seen = await until(adapter, run, SiteState.RUNNING)
    cluster.lose_hosts("cpu-1", "cpu-2")
    report = (await until(adapter, run, SiteState.UNKNOWN)).reports[run.name]
    assert (report.native_id, report.ended_at) == (seen.reports[run.name].native_id, None)


async def test_what_lsf_lists_no_more_is_known_by_its_record(tmp_path):
    cluster = LsfCluster(tmp_path, replace(TWO_POOLS, clean_period_s=1.0)).start()
    try:
        adapter, run = opened(cluster, tmp_path), a_run(body="exit 3")
        await adapter.submit([run], CALL)
        before = await ended(adapter, run)
        async with asyncio.timeout(30):
            while "fed-j1-a1" in cluster.call("bjobs", "-a", "-w").out:
                await asyncio.sleep(0.1)
        after = (await adapter.observe([RunRef(run.name)], CALL)).reports[run.name]
        assert (after.state, after.native_id, after.exit_code) == (before.state, before.native_id, 3)
        assert after.reason is EndReason.PROGRAM_FAILED
        # and it is not sent a second time
        assert (await adapter.submit([run], CALL))[run.name] == Accepted(before.native_id)
        await adapter.forget([RunRef(run.name)], CALL)
        assert (await adapter.observe([], CALL)).reports == {}
    finally:
        cluster.stop()


async def test_a_script_cannot_give_bsub_options(cluster, adapter):
    run = a_run(script="#!/bin/sh\n#BSUB -q nowhere\n#BSUB -n 64\necho it\\'s me\n", command=())
    assert isinstance((await adapter.submit([run], CALL))[run.name], Accepted)
    assert (await ended(adapter, run)).state is SiteState.SUCCEEDED
    assert b"".join([chunk async for chunk in adapter.logs(RunRef(run.name), 0, 0, True)]) == b"it's me\n"


async def test_a_gang_ends_with_the_first_task_that_fails(cluster, adapter):
    run = a_run(body='[ "$FED_TASK" != 1 ] || exit 5; sleep 600', tasks=3)
    await adapter.submit([run], CALL)
    report = await ended(adapter, run)
    assert (report.state, report.exit_code, report.reason) == (SiteState.FAILED, 5, EndReason.PROGRAM_FAILED)


async def test_a_gang_of_several_cpus_per_task_has_its_slots_together(cluster, adapter):
    run = a_run(body='echo "$FED_TASK $LSB_JOBID"', tasks=3, per_task=Resources(2, 1))
    await adapter.submit([run], CALL)
    assert (await ended(adapter, run)).state is SiteState.SUCCEEDED
    hosts = cluster.call("bjobs", "-a", "-noheader", "-o", "exec_host", (await ended(adapter, run)).native_id).out.split()
    assert sorted(hosts[0].split(":")) in (["2*cpu-1", "4*cpu-2"], ["2*cpu-2", "4*cpu-1"])


SSH = pytest.mark.skipif(bool(missing()), reason=missing())


def login_node() -> LoginNode:
    def start(folder: Path) -> LoginNode:
        node = LoginNode(folder)
        node.start()
        return node

    return running("ssh", start)


@SSH
@pytest.mark.engines
async def test_a_site_behind_a_login_node_is_driven_over_one_connection_and_a_cut_costs_nothing(cluster, tmp_path):
    node = login_node()
    transport = {
        "kind": "ssh",
        "host": node.host,
        "port": node.port,
        "user": node.user,
        "key": {"file": str(node.key)},
        "known_hosts": str(node.known_hosts),
    }
    adapter = opened(cluster, tmp_path, transport=transport)
    assert [check.is_ok for check in await adapter.probe(30)] == [True] * 4
    runs = [a_run(f"j{number}", f"echo {number}; exit {number}") for number in range(4)]
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(tried(adapter, runs))
        await asyncio.sleep(0.8)
        node.cut()
    told = sending.result()
    assert told is None or {type(outcome) for outcome in told.values()} <= {Accepted, Unknown}
    again = await tried(adapter, runs) or await adapter.submit(runs, CALL)  # a cut may show itself at the first use only
    assert {type(outcome) for outcome in again.values()} == {Accepted}
    assert [(await ended(adapter, run)).exit_code for run in runs] == [0, 1, 2, 3]
    assert b"".join([chunk async for chunk in adapter.logs(RunRef(runs[2].name), 0, 0, True)]) == b"2\n"
    await adapter.close()


async def tried(adapter: SiteAdapter, runs: list[Run]):
    """What a submit told, or nothing where all was cut."""
    try:
        return await adapter.submit(runs, CALL)
    except Unreachable:
        return None
