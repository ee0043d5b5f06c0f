"""What a program sees of the run it is: only on engines that run programs."""

from __future__ import annotations

import asyncio

import pytest

from adapters.base import (
    EndReason,
    SiteState,
)
from tests.contract.adapter.kinds import (
    where_programs_run,
)
from tests.contract.adapters import (
    CALL,
    Does,
    a_run,
    finish,
    listed,
    over,
    ref,
    running,
    sh,
    text,
)


@where_programs_run
async def test_tasks_of_a_gang_run_at_once(kind, adapter):
    meet = f"touch {kind.hall}/$FED_TASK; while [ $(ls {kind.hall} | wc -l) -lt $FED_TASKS ]; do sleep 0.02; done"
    gang = a_run(kind, tasks=8, command=sh(meet))
    assert (await finish(kind, adapter, gang)).state is SiteState.SUCCEEDED


@where_programs_run
async def test_a_program_that_cannot_be_started_is_told_from_one_that_fails(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, command=("no-such-program-here",)))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.START_FAILED)
    assert "no-such-program-here" in report.message


@where_programs_run
async def test_a_program_that_is_deaf_to_its_cancel_ends_all_the_same(kind, adapter):
    run = a_run(kind, command=sh("trap '' TERM; echo deaf; while :; do sleep 0.1; done"))
    await adapter.submit([run], CALL)
    while await text(adapter, run) != "deaf\n":
        await kind.pause()
    await adapter.cancel([ref(run)], CALL)
    (report,) = await over(kind, adapter, run)
    assert report.state is SiteState.CANCELLED


@where_programs_run
async def test_output_is_followed_until_the_task_ends(kind, adapter):
    waits = f"echo one; while [ ! -e {kind.hall}/open ]; do sleep 0.02; done; echo two"
    run = a_run(kind, command=sh(waits), tasks=2)
    await adapter.submit([run], CALL)
    got = b""
    async for chunk in adapter.logs(ref(run), task=1, offset=0, follow=True):
        got += chunk
        if got == b"one\n":
            kind.let_go("open")
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
    kind.put("corpus/part", "one two three\n")
    count = sh("cat $FED_INPUTS/corpus/* | wc -w > $FED_OUTPUTS/words/count")
    run = a_run(kind, command=count, inputs={"corpus": "corpus"}, outputs={"words": ".fed/outputs/words"})
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert kind.content(".fed/outputs/words/count").split() == ["3"]


@where_programs_run
async def test_a_script_may_have_any_lines_and_ends_nothing_but_itself(kind, adapter):
    ends = ["FED_END", "FED_END_", "EOF", "end of the script of this run", ")", "'", '"', "$(exit 1)", "`exit 1`", "\\"]
    body = "cat <<'LAST'\n" + "\n".join(ends) + "\nLAST\n"
    run = a_run(kind, script=body)
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert await text(adapter, run) == "\n".join(ends) + "\n"


@where_programs_run
@pytest.mark.parametrize("body", ["echo $FED_JOB\n", "#!/usr/bin/env python3\nimport os\nprint(os.environ['FED_JOB'])\n"])
async def test_a_script_is_run_by_its_first_line_or_by_sh(kind, adapter, body):
    run = a_run(kind, script=body)
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert await text(adapter, run) == "j1\n"
