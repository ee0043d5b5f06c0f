from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from adapters.base import SiteAdapter
from tests.contract.adapters import Kind


@pytest.fixture
async def adapter(kind: Kind) -> AsyncIterator[SiteAdapter]:
    """An adapter to the engine of the test's module."""
    adapter = kind.adapter()
    yield adapter
    await adapter.close()
