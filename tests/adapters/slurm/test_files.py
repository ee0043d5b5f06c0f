"""What jobs leave at a storage that is mounted here: they may have left anything."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from adapters.base import Unreachable
from adapters.commands import LocalCommands
from adapters.slurm.files import CommandFiles, LocalFiles
from adapters.threads import SiteThreads

MOUNT = PurePosixPath("/seen/by/tasks")
TIME_S = 20.0
RUN = PurePosixPath(".fed/runs/fed-j1-a1")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The storage, reached by a link of the admin's; beside it is what no job may have us touch."""
    (tmp_path / "disk" / RUN).mkdir(parents=True)
    (tmp_path / "here").symlink_to("disk")
    (tmp_path / "secret").write_text("of the broker")
    (tmp_path / "others" / "work").mkdir(parents=True)
    return tmp_path / "here"


@pytest.fixture
async def files(here):
    files = LocalFiles(MOUNT, here, SiteThreads("ams"))
    yield files
    await files.close()


async def test_what_a_run_left_is_read(here, files):
    (here / RUN / "task-0.log").write_text("0123456789")
    (here / RUN / "ended").write_text("7 0 1 2\n")
    log, end = MOUNT / RUN / "task-0.log", MOUNT / RUN / "task-0.end"
    chunk = await files.chunk(log, end, 4, TIME_S)
    assert (chunk.content, chunk.has_end) == (b"456789", False)
    (here / RUN / "task-0.end").touch()
    assert (await files.chunk(log, end, 10, TIME_S)).has_end
    assert await files.small([MOUNT / RUN / "ended", MOUNT / RUN / "other"], TIME_S) == {MOUNT / RUN / "ended": "7 0 1 2\n"}


@pytest.mark.parametrize("is_local", [True, False])
async def test_a_pipe_in_place_of_a_file_holds_nobody_up(here, files, is_local):
    os.mkfifo(here / RUN / "ended")
    if not is_local:
        files = CommandFiles(LocalCommands())
    place = (MOUNT if is_local else PurePosixPath(here)) / RUN / "ended"
    assert await files.small([place], TIME_S) == {}
    assert (await files.chunk(place, place, 0, TIME_S)).content == b""


async def test_a_link_to_a_file_elsewhere_is_not_read(here, files):
    (here / RUN / "task-0.log").symlink_to(here.parent / "secret")
    place = MOUNT / RUN / "task-0.log"
    chunk = await files.chunk(place, place, 0, TIME_S)
    assert (chunk.content, chunk.has_end) == (b"", False)
    assert await files.small([place], TIME_S) == {}


async def test_a_link_in_place_of_a_folder_is_not_followed(here, files):
    (here / RUN).rmdir()
    (here / RUN).symlink_to(here.parent)
    assert await files.small([MOUNT / RUN / "secret"], TIME_S) == {}
    (here / RUN).unlink()
    (here / RUN).symlink_to(here.parent / "others")
    await files.clean([MOUNT / RUN], TIME_S)
    assert (here.parent / "others" / "work").is_dir()


async def test_what_nobody_reads_is_removed_and_what_links_there_point_at_stays(here, files):
    (here / RUN / "work" / "deep").mkdir(parents=True)
    (here / RUN / "work" / "deep" / "out").symlink_to(here.parent / "others")
    (here / RUN / "inputs").symlink_to(here.parent / "others")
    (here / RUN / "script").write_text("true\n")
    (here / RUN / "task-0.log").write_text("kept")
    await files.clean([MOUNT / RUN, MOUNT / ".fed/runs/never-was"], TIME_S)
    assert [path.name for path in (here / RUN).iterdir()] == ["task-0.log"]
    assert (here.parent / "others" / "work").is_dir()


async def test_storage_that_is_not_mounted_is_not_taken_for_nothing_there(tmp_path):
    files = LocalFiles(MOUNT, tmp_path / "away", SiteThreads("ams"))
    with pytest.raises(Unreachable, match="No such file"):
        await files.small([MOUNT / RUN / "ended"], TIME_S)
    await files.close()
