from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.base import SiteAdapter
from tests.contract.adapter.kinds import KINDS, parameters
from tests.contract.adapters import Kind


@pytest.fixture(params=parameters())
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
