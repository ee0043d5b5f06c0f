from __future__ import annotations

import pytest

from tests.engines.running import end_all


def pytest_sessionfinish(session: pytest.Session) -> None:
    end_all()
