from __future__ import annotations

import pytest

from tests.engines.running import end_all


@pytest.hookimpl(tryfirst=True)  # workers write the groups into the tests' ids in a hook of their own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where workers share the tests, all that work on one engine go to one of them: each worker starts engines of its own."""
    for item in items:
        if item.get_closest_marker("engines") and (group := _group(item)):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str:
    """The engine, or the file; nothing for tests of many small servers that share nothing."""
    parts = item.path.parts
    if "hostile" in parts:
        return ""
    if "engines" in parts:
        return item.path.parent.name
    if "contract" in parts and isinstance(item, pytest.Function):
        return str(item.callspec.params["kind"]).partition("-")[0]
    return item.path.stem


def pytest_sessionfinish(session: pytest.Session) -> None:
    end_all()
