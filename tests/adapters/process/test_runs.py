import signal
from dataclasses import replace

import pytest

from adapters.base import EndReason, Refused, SiteState
from tests.adapters.process.engines import CALL, a_run, is_alive, ref, until


async def test_a_task_sees_its_inputs_its_outputs_and_who_it_is(engine):
    (engine.storage / "corpus").mkdir()
    (engine.storage / "corpus" / "a").write_text("one two three\n")
    words = 'cat $FED_INPUTS/corpus/* | wc -w > $FED_OUTPUTS/words/count; echo $FED_JOB $FED_ATTEMPT $FED_TASK $FED_TASKS $HI'
    run = a_run("j1", words, inputs={"corpus": "corpus"}, outputs={"words": ".fed/outputs/w"}, env={"HI": "hello"})
    report = await engine.end(run)
    assert (report.state, report.exit_code, report.signal, report.reason) == (SiteState.SUCCEEDED, 0, None, None)
    assert report.started_at <= report.ended_at
    assert (engine.storage / ".fed/outputs/w/count").read_text().split() == ["3"]
    job, attempt, *rest = (await engine.log(run)).decode().split()
    assert (job, rest) == ("j1", ["0", "1", "hello"])
    assert attempt.endswith("1")


async def test_what_a_program_puts_in_the_place_of_an_output_is_the_output(engine):
    anew = "cd / && rm -r $FED_OUTPUTS && mkdir -p $FED_OUTPUTS/words && echo 3 > $FED_OUTPUTS/words/count"
    run = a_run("j1", anew)
    run = replace(run, outputs={"words": f".fed/outputs/{run.name}/words"})
    assert (await engine.end(run)).state is SiteState.SUCCEEDED
    assert (engine.storage / run.outputs["words"] / "count").read_text() == "3\n"


async def test_a_run_whose_input_is_missing_is_not_started(engine):
    report = await engine.end(a_run("j1", f"touch {engine.storage}/started", inputs={"corpus": "corpus"}))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.NODE_LOST)
    assert "input corpus is missing" in report.message
    assert not (engine.storage / "started").exists()


async def test_a_task_sees_none_of_the_brokers_environment(engine, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_BROKER", "x")
    run = a_run("j1", "env")
    await engine.end(run)
    assert b"SECRET_OF_THE_BROKER" not in await engine.log(run)


async def test_a_run_works_in_a_directory_of_its_own(engine):
    first, second = a_run("j1", "echo kept > file; pwd"), a_run("j2", "ls; pwd")
    await engine.end(first)
    await engine.end(second)
    assert (await engine.log(first)).strip() != (await engine.log(second)).strip()
    assert len((await engine.log(second)).split()) == 1


@pytest.mark.parametrize("body", ["echo $0-less | tr a-z A-Z\n", "#!/bin/sh\necho $0-less | tr a-z A-Z\n"])
async def test_a_script_is_run_by_its_first_line_or_by_sh(engine, body):
    run = a_run("j1", script=body)
    assert (await engine.end(run)).state is SiteState.SUCCEEDED
    assert b"-LESS" in await engine.log(run)


async def test_a_failed_program_leaves_its_exit_code(engine):
    report = await engine.end(a_run("j1", "exit 7"))
    assert (report.state, report.exit_code, report.signal, report.reason) == (SiteState.FAILED, 7, None, EndReason.PROGRAM_FAILED)


async def test_a_killed_program_leaves_its_signal(engine):
    report = await engine.end(a_run("j1", "kill -SEGV $$"))
    assert (report.state, report.exit_code, report.signal) == (SiteState.FAILED, None, signal.SIGSEGV)
    assert report.reason is EndReason.PROGRAM_FAILED


@pytest.mark.parametrize("command", [("no-such-program-here", "x"), ("/etc/passwd", "x"), ("/", "x")])
async def test_a_program_that_cannot_be_started_is_told_from_one_that_fails(engine, command):
    report = await engine.end(a_run("j1", *command))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.START_FAILED)
    assert command[0] in report.message


async def test_a_script_without_its_interpreter_cannot_be_started(engine):
    report = await engine.end(a_run("j1", script="#!/no/such/interpreter\n"))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.START_FAILED)


@pytest.mark.parametrize("code", [126, 127])
async def test_a_program_may_exit_with_a_shells_codes(engine, code):
    report = await engine.end(a_run("j1", f"exit {code}"))
    assert (report.exit_code, report.reason) == (code, EndReason.PROGRAM_FAILED)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"pool": "gpu"}, "gpu"),
        ({"cpus": 5.0}, "cpus"),
        ({"tasks": 5}, "5"),
        ({"outputs": {"words": "../outside"}}, "outside"),
        ({"outputs": {"../../words": "here"}}, "words"),
        ({"claim": "/etc/claim"}, "claim"),
    ],
)
async def test_what_can_never_run_is_refused_with_a_reason(engine, change, word):
    run = a_run("j1", "true", **change)
    outcome = (await engine.submit(run))[run.name]
    assert isinstance(outcome, Refused)
    assert word in outcome.reason
    assert await engine.report(run) is None


async def test_the_walltime_ends_a_run_with_its_children(engine):
    run = a_run("j1", "sleep 100 & echo $!; sleep 100", walltime_s=0.5)
    report = await engine.end(run)
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.WALLTIME)
    assert report.ended_at - report.started_at >= 0.45
    child = int(await engine.log(run))
    await until(lambda: not is_alive(child))


async def test_cancel_asks_first(engine):
    run = a_run("j1", "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    await engine.accept(run)
    await until(lambda: engine.log(run, follow=False))
    await engine.adapter.cancel([ref(run)], CALL)
    report = (await engine.ended(run))[0]
    assert report.state is SiteState.CANCELLED
    assert b"asked" in await engine.log(run)


STUBBORN = """trap '' TERM HUP INT
(while :; do sleep 0.1; done) & echo $!
setsid sh -c 'echo $$; while :; do sleep 0.1; done' &
wait
"""


async def test_cancel_ends_a_tree_that_ignores_it_and_one_that_left_the_group(engine):
    run = a_run("j1", STUBBORN)
    await engine.accept(run)

    async def two_children():
        return len((await engine.log(run, follow=False)).split()) == 2

    await until(two_children)
    await engine.adapter.cancel([ref(run)], CALL)
    report = (await engine.ended(run))[0]
    assert report.state is SiteState.CANCELLED
    children = [int(pid) for pid in (await engine.log(run)).split()]
    await until(lambda: not any(map(is_alive, children)))


async def test_what_is_cancelled_in_the_queue_never_starts(engine):
    first, second = a_run("j1", "sleep 100", cpus=4.0), a_run("j2", "echo started")
    await engine.accept(first, second)
    await engine.adapter.cancel([ref(second)], CALL)
    report = (await engine.ended(second))[0]
    assert (report.state, report.started_at) == (SiteState.CANCELLED, None)
    await engine.adapter.cancel([ref(first)], CALL)
    await engine.ended(first)
    assert not (engine.storage / second.claim).exists()


async def test_cancel_of_what_is_over_or_unknown_changes_nothing(engine):
    run = a_run("j1", "true")
    await engine.end(run)
    await engine.adapter.cancel([ref(run), ref(a_run("unknown", "true"))], CALL)
    assert await engine.state(run) is SiteState.SUCCEEDED


async def test_what_a_task_leaves_behind_ends_with_it(engine):
    run = a_run("j1", "sleep 100 & echo $!")
    await engine.end(run)
    child = int(await engine.log(run))
    await until(lambda: not is_alive(child))


async def test_a_task_may_signal_its_whole_group_and_still_be_told(engine):
    report = await engine.end(a_run("j1", "trap '' TERM; kill -TERM 0; exit 5"))
    assert (report.exit_code, report.reason) == (5, EndReason.PROGRAM_FAILED)


async def test_output_is_one_file_read_from_any_byte(engine):
    run = a_run("j1", "echo out; echo err >&2")
    await engine.end(run)
    assert await engine.log(run) == b"out\nerr\n"
    assert await engine.log(run, offset=4) == b"err\n"
    assert await engine.log(run, offset=100) == b""


async def test_output_is_followed_until_the_task_ends(engine):
    gate = engine.storage / "gate"
    run = a_run("j1", f"echo one; while [ ! -e {gate} ]; do sleep 0.02; done; echo two")
    await engine.accept(run)
    seen = []
    async for chunk in engine.adapter.logs(ref(run), 0, 0, True):
        seen.append(chunk)
        gate.touch()
    assert b"".join(seen) == b"one\ntwo\n"


async def test_output_outlives_the_run(engine):
    run = a_run("j1", "echo kept")
    await engine.end(run)
    await engine.adapter.forget([ref(run)], CALL)
    assert await engine.report(run) is None
    await until(lambda: not (engine.state_dir / "runs" / run.name).exists())
    assert await engine.log(run) == b"kept\n"


async def test_large_output_comes_whole(engine):
    run = a_run("j1", "head -c 5000000 /dev/zero")
    await engine.end(run)
    assert len(await engine.log(run)) == 5_000_000


async def test_gpus_are_handed_out_by_number(wide):
    # two a100 on each of two nodes: four tasks of one each, told apart on their node; a run without any sees none
    runs = [a_run(f"g{n}", "echo $CUDA_VISIBLE_DEVICES; sleep 100", pool="gpu", gpus={"a100": 1}) for n in range(4)]
    plain = a_run("plain", "echo ${CUDA_VISIBLE_DEVICES-unset}; sleep 100", pool="gpu")
    await wide.accept(*runs, plain)

    async def all_said():
        return all([await wide.log(run, follow=False) for run in (*runs, plain)])

    await until(all_said)
    said = sorted([(await wide.log(run, follow=False)).strip() for run in runs])
    assert said == [b"0", b"0", b"1", b"1"]
    assert (await wide.log(plain, follow=False)).strip() == b""
