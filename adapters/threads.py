"""Blocking work on a site's files, in threads of the site's own: storage that hangs holds up nothing else of the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from adapters.base import Unreachable

T = TypeVar("T")


class SiteThreads:
    """A few threads of one site. Work that hangs keeps its thread until it ends; what comes when all hang waits its time out."""

    def __init__(self, site: str, at_once: int = 4) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix=f"files of {site}")
        self._is_closed = False

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """What `work` gives. Raises Unreachable when it takes longer, it may then still have its effect; and for an OSError."""
        if self._is_closed:
            raise Unreachable("the adapter was closed")
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:  # TimeoutError is one: a file system may say so itself
            if limit.expired():
                raise Unreachable(f"the site's storage did not answer within {timeout_s:.3g} s") from error
            raise Unreachable(f"the site's storage cannot be read: {error}") from error

    def close(self) -> None:
        """Let the threads end. What has not begun never does."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
