"""What any site adapter must do: on twins, and on real engines. A claim that only some can keep says which."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.base import (
    Accepted,
    EndReason,
    Layer,
    Outcome,
    Refused,
    Run,
    RunRef,
    SiteAdapter,
    SiteState,
    StaleEpoch,
    Unknown,
    Unreachable,
)
from tests.contract.adapters import (
    CALL,
    IMPATIENT,
    LONG_S,
    POOLS,
    Does,
    Kind,
    a_run,
    finish,
    listed,
    over,
    ref,
    running,
    sh,
    text,
    until,
    with_epoch,
)
from tests.contract.process_kind import ProcessKind
from tests.contract.twin_kind import TwinKind, WeakTwinKind
from topology.resources import Resources
from topology.room import Room

KINDS: Mapping[str, type[Kind]] = {kind.name: kind for kind in (TwinKind, WeakTwinKind, ProcessKind)}


def only(holds: Callable[[type[Kind]], bool]) -> pytest.MarkDecorator:
    """Run a claim on those kinds alone of which it holds."""
    return pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if holds(kind)], indirect=True)


where_names_are_unique = only(lambda kind: kind.capabilities.unique_names)
where_names_are_not_unique = only(lambda kind: not kind.capabilities.unique_names)
where_owners_are_known = only(lambda kind: kind.capabilities.refuses_stale_epochs)
where_listings_are_prompt = only(lambda kind: kind.capabilities.settling_s == 0)
where_programs_run = only(lambda kind: kind.runs_programs)


@pytest.fixture(params=KINDS)
async def kind(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kind]:
    """One after the other, each kind of engine."""
    engine = KINDS[request.param](tmp_path)
    yield engine
    await engine.end()


@pytest.fixture
async def adapter(kind: Kind) -> AsyncIterator[SiteAdapter]:
    adapter = kind.adapter()
    yield adapter
    await adapter.close()


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


@where_programs_run
async def test_tasks_of_a_gang_run_at_once(kind, adapter):
    meet = "touch $FED_OUTPUTS/hall/$FED_TASK; while [ $(ls $FED_OUTPUTS/hall | wc -l) -lt $FED_TASKS ]; do sleep 0.02; done"
    gang = a_run(kind, tasks=8, command=sh(meet), outputs={"hall": ".fed/outputs/hall"})
    assert (await finish(kind, adapter, gang)).state is SiteState.SUCCEEDED


async def test_the_exit_code_of_the_program_is_told(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, does=Does(exit_code=3)))
    assert (report.state, report.exit_code, report.signal) == (SiteState.FAILED, 3, None)
    assert report.reason is EndReason.PROGRAM_FAILED


async def test_the_signal_that_ended_the_program_is_told(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, does=Does(signal=signal.SIGUSR1)))
    assert (report.state, report.exit_code, report.signal) == (SiteState.FAILED, None, signal.SIGUSR1)
    assert report.reason is EndReason.PROGRAM_FAILED


@where_programs_run
async def test_a_program_that_cannot_be_started_is_told_from_one_that_fails(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, command=("no-such-program-here",)))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.START_FAILED)
    assert "no-such-program-here" in report.message


async def test_a_run_ends_with_its_walltime(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, does=Does(LONG_S), walltime_s=0.3))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.WALLTIME)
    assert 0.29 <= report.ended_at - report.started_at < 10


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


@where_programs_run
async def test_a_program_that_is_deaf_to_its_cancel_ends_all_the_same(kind, adapter):
    run = a_run(kind, command=sh("trap '' TERM; echo deaf; while :; do sleep 0.1; done"))
    await adapter.submit([run], CALL)
    while await text(adapter, run) != "deaf\n":
        await kind.pause()
    await adapter.cancel([ref(run)], CALL)
    (report,) = await over(kind, adapter, run)
    assert report.state is SiteState.CANCELLED


async def test_output_is_read_from_any_byte_while_it_runs_and_after(kind, adapter):
    run = a_run(kind, does=Does(LONG_S, output="0123456789"))
    await adapter.submit([run], CALL)
    await running(kind, adapter, run)
    while len(await text(adapter, run)) < 10:
        await kind.pause()
    assert await text(adapter, run, offset=4) == "456789"
    await adapter.cancel([ref(run)], CALL)
    await over(kind, adapter, run)
    assert await text(adapter, run, offset=8) == "89"
    assert await text(adapter, run, offset=8, follow=True) == "89"
    assert await text(adapter, run, offset=10) == ""


@where_programs_run
async def test_output_is_followed_until_the_task_ends(kind, adapter):
    gate = kind.storage / "gate"
    gate.mkdir()
    waits = "echo one; while [ ! -e $FED_INPUTS/gate/open ]; do sleep 0.02; done; echo two"
    run = a_run(kind, command=sh(waits), tasks=2, inputs={"gate": "gate"})
    await adapter.submit([run], CALL)
    got = b""
    async for chunk in adapter.logs(ref(run), task=1, offset=0, follow=True):
        got += chunk
        if got == b"one\n":
            (gate / "open").touch()
    assert got == b"one\ntwo\n"


@where_programs_run
async def test_output_of_what_still_waits_is_followed_from_its_start(kind, adapter):
    full, run = a_run(kind, "full", Does(waits=True), tasks=8), a_run(kind, does=Does(output="at last"))
    await adapter.submit([full, run], CALL)
    await running(kind, adapter, full)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(text(adapter, run, follow=True))
        await listed(kind, adapter, run)
        kind.let_go(full.name)
    assert following.result() == "at last"


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
    for_one = await requests_of_listing(full)
    outcomes = await adapter.submit(waiting, CALL)
    assert {type(outcome) for outcome in outcomes.values()} == {Accepted}
    assert await requests_of_listing(full, *waiting) == for_one
    await adapter.close()


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


async def test_what_waits_starts_once_though_the_engine_is_killed(kind, adapter):
    full, run = a_run(kind, "full", Does(waits=True), tasks=8), a_run(kind, does=Does(output="started."))
    await adapter.submit([full, run], CALL)
    await running(kind, adapter, full)
    await kind.restart()
    kind.let_go(full.name)
    assert {report.state for report in await over(kind, adapter, full, run)} == {SiteState.SUCCEEDED}
    assert await text(adapter, run) == "started."


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
    checks = await adapter.probe(10)
    assert [check.layer for check in checks] == list(Layer)
    assert all(check.is_ok and check.latency_ms >= 0 for check in checks)


@pytest.mark.parametrize("layer", Layer)
async def test_a_probe_tells_which_layer_fails(kind, layer):
    async with kind.broken(layer) as broken:
        checks = await broken.probe(10)
        await broken.close()
    *passed, failed = checks
    assert [check.layer for check in passed] == list(Layer)[: len(passed)]
    assert all(check.is_ok for check in passed)
    assert (failed.layer, failed.is_ok) == (layer, False)
    assert failed.message


@where_programs_run
async def test_each_task_is_told_who_it_is(kind, adapter):
    run = a_run(kind, command=sh("echo $FED_JOB $FED_ATTEMPT $FED_TASK $FED_TASKS"), tasks=3)
    await finish(kind, adapter, run)
    assert [await text(adapter, run, task) for task in range(3)] == ["j1 1 0 3\n", "j1 1 1 3\n", "j1 1 2 3\n"]


@where_programs_run
async def test_arguments_and_environment_reach_the_program_as_they_are(kind, adapter):
    odd = ("a b", "'", '"', "$HOME", "*", "\\n", "", " ", "ü", "two\nlines")
    said = a_run(kind, "said", command=("printf", "%s|", *odd))
    known = a_run(kind, "known", command=("printenv", "WORD"), env={"WORD": "|".join(odd)})
    await finish(kind, adapter, said)
    await finish(kind, adapter, known)
    assert await text(adapter, said) == "".join(f"{word}|" for word in odd)
    assert await text(adapter, known) == "|".join(odd) + "\n"


@where_programs_run
async def test_a_task_sees_nothing_of_the_brokers_environment(kind, adapter, monkeypatch):
    monkeypatch.setenv("A_SECRET_OF_THE_BROKER", "x")
    run = a_run(kind, command=("env",))
    await finish(kind, adapter, run)
    assert "FED_JOB=j1\n" in await text(adapter, run)
    assert "A_SECRET_OF_THE_BROKER" not in await text(adapter, run)


@where_programs_run
async def test_inputs_are_there_to_read_and_outputs_to_write(kind, adapter):
    (kind.storage / "corpus").mkdir()
    (kind.storage / "corpus" / "part").write_text("one two three\n")
    count = sh("cat $FED_INPUTS/corpus/* | wc -w > $FED_OUTPUTS/words/count")
    run = a_run(kind, command=count, inputs={"corpus": "corpus"}, outputs={"words": ".fed/outputs/words"})
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert (kind.storage / ".fed/outputs/words/count").read_text().split() == ["3"]


@where_programs_run
@pytest.mark.parametrize("body", ["echo $FED_JOB\n", "#!/usr/bin/env python3\nimport os\nprint(os.environ['FED_JOB'])\n"])
async def test_a_script_is_run_by_its_first_line_or_by_sh(kind, adapter, body):
    run = a_run(kind, script=body)
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert await text(adapter, run) == "j1\n"
