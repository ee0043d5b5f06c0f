"""Blocking work on a site's files."""

from __future__ import annotations

import threading

import pytest

from adapters.base import Unreachable
from adapters.threads import SiteThreads


async def test_work_is_done_in_threads_of_the_site():
    threads = SiteThreads("ams")
    assert (await threads.run(lambda: threading.current_thread().name, 10)).startswith("files of ams")
    threads.close()


async def test_storage_that_hangs_is_not_reached_and_holds_up_no_other_site():
    hanging, well = SiteThreads("hanging", at_once=1), SiteThreads("well", at_once=1)
    is_over = threading.Event()
    try:
        for _ in range(3):  # the later ones never begin
            with pytest.raises(Unreachable, match=r"did not answer within 0\.05 s"):
                await hanging.run(is_over.wait, 0.05)
        assert await well.run(lambda: "read", 10) == "read"
    finally:
        is_over.set()
    assert await hanging.run(lambda: "read", 10) == "read"
    hanging.close()
    well.close()


async def test_what_the_operating_system_says_is_told(tmp_path):
    threads = SiteThreads("ams")
    with pytest.raises(Unreachable, match=r"cannot be read: .*No such file"):
        await threads.run((tmp_path / "absent").read_bytes, 10)
    threads.close()


async def test_nothing_begins_after_the_end():
    threads = SiteThreads("ams")
    threads.close()
    with pytest.raises(Unreachable, match="closed"):
        await threads.run(lambda: None, 10)
