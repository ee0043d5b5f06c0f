from __future__ import annotations

from typing import Any

import pytest

from tests.engines.running import end_all


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where workers share the tests, all that work on one engine go to one of them: each worker starts engines of its own.
    `--dist loadgroup` would do, but that its groups are lost on the way with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByEngine(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return engine_of(nodeid)

    return ByEngine(config, log)


def engine_of(nodeid: str) -> str:
    """The engine that a test works on, or its file; the test itself where all have small servers of their own."""
    path, _, name = nodeid.partition("::")
    folders = path.split("/")[1:-1]
    if "hostile" in folders:
        return nodeid
    if "engines" in folders:
        return folders[-1]
    if "contract" in folders and "[" in name:
        return name.partition("[")[2].rstrip("]").partition("-")[0]
    return path


def pytest_sessionfinish(session: pytest.Session) -> None:
    end_all()
