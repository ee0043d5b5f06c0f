"""Runs whose site's storage is in HDFS and mounted nowhere: claims, inputs and outputs, on the real ones."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.base import EndReason, SiteAdapter, SiteState
from adapters.yarn.master.hdfs import Hdfs
from broker.storage import Folder
from tests.contract.adapters import CALL, Does, a_run, finish, over, running, sh
from tests.contract.yarn_kind import YarnHdfsKind

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(YarnHdfsKind.missing()), reason=YarnHdfsKind.missing()),
    pytest.mark.timeout(240),
]
WORDS = ".fed/outputs/words"


@pytest.fixture
async def kind(tmp_path: Path) -> AsyncIterator[YarnHdfsKind]:
    kind = YarnHdfsKind(tmp_path)
    yield kind
    await kind.end()


@pytest.fixture
async def adapter(kind: YarnHdfsKind) -> AsyncIterator[SiteAdapter]:
    adapter = kind.adapter()
    yield adapter
    await adapter.close()


@pytest.fixture
def folder(kind: YarnHdfsKind) -> Folder:
    """The site's storage as the broker sees it."""
    return Folder(kind.site_storage)


async def test_of_starts_that_take_a_claim_at_once_one_has_it(kind):
    def take(number: int) -> bool:
        return Hdfs([f"{kind.hdfs.host}:{kind.hdfs.port}"], "fed").take(f"{kind.root}/claims/a", f"start {number}\n")

    for _ in range(2):  # and whoever has it, has it when it asks again
        taken = await asyncio.gather(*(asyncio.to_thread(take, number) for number in range(16)))
        assert sum(taken) == 1
        assert kind.content("claims/a") == f"start {taken.index(True)}\n"
    assert [entry["name"] for entry in kind.files.entries(f"{kind.root}/claims")] == [f"{kind.root}/claims/a"]


async def test_a_claim_that_a_run_made_is_not_the_brokers(kind, adapter, folder):
    run = a_run(kind)
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert not folder.create_claim(run.claim)


async def test_inputs_and_outputs_are_whole_folders(kind, adapter, folder):
    chance = random.Random(4)
    for name in ("a", "deep/er/b c", "deep/ü%20+&?#='", "empty"):
        kind.put(f"corpus/{name}", "" if name == "empty" else chance.randbytes(3_000_000).hex())
    kind.put("one", "a file by itself")
    copy = sh("cp -r $FED_INPUTS/corpus/. $FED_OUTPUTS/words && cmp $FED_INPUTS/one $FED_INPUTS/same")
    run = a_run(kind, command=copy, inputs={"corpus": "corpus/", "one": "one", "same": "one"}, outputs={"words": WORDS})
    report = await finish(kind, adapter, run)
    assert (report.state, report.message) == (SiteState.SUCCEEDED, "")
    assert folder.measure("corpus") == folder.measure(WORDS)


async def test_every_task_of_a_gang_stores_its_outputs(kind, adapter, folder):
    run = a_run(kind, command=sh("echo $FED_TASK > $FED_OUTPUTS/words/$FED_TASK"), tasks=8, outputs={"words": WORDS})
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert [kind.content(f"{WORDS}/{task}") for task in range(8)] == [f"{task}\n" for task in range(8)]
    assert set(folder.files(WORDS) or {}) == {str(task) for task in range(8)}


async def test_an_output_that_two_tasks_write_is_one_of_theirs(kind, adapter):
    run = a_run(kind, command=sh("echo $FED_TASK > $FED_OUTPUTS/words/same"), tasks=4, outputs={"words": WORDS})
    assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    assert kind.content(f"{WORDS}/same") in {f"{task}\n" for task in range(4)}


async def test_an_input_that_is_not_there_is_told(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, does=Does(output="started."), inputs={"corpus": "corpus"}))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.NODE_LOST)
    assert report.message == "input corpus is missing: nothing is at corpus of the site's storage"


async def test_an_output_that_is_no_file_is_told(kind, adapter):
    report = await finish(kind, adapter, a_run(kind, command=sh("mkfifo $FED_OUTPUTS/words/pipe"), outputs={"words": WORDS}))
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.PROGRAM_FAILED)
    assert report.message == "output words: pipe is no plain file"


async def test_outputs_are_stored_though_the_name_node_is_killed(kind, adapter):
    wait = f"while [ ! -e {kind.hall}/j1 ]; do sleep 0.05; done; echo kept > $FED_OUTPUTS/words/a"
    run = a_run(kind, command=sh(wait), outputs={"words": WORDS})
    await adapter.submit([run], CALL)
    await running(kind, adapter, run)
    while not kind.has_claim(run.claim):
        await kind.pause()
    kind.hdfs.name_node.end()
    kind.let_go("j1")
    for _ in range(20):
        await kind.pause()
    assert set((await adapter.observe([], CALL)).reports) == {run.name}
    kind.hdfs.name_node.start()
    (report,) = await over(kind, adapter, run)
    assert (report.state, report.message) == (SiteState.SUCCEEDED, "")
    assert kind.content(f"{WORDS}/a") == "kept\n"
