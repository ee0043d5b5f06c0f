import pytest

from tests.adapters.process.engines import RealEngine, a_pool


@pytest.fixture
async def engine(tmp_path):
    """One pool `cpu` of one node with 4 cpus."""
    engine = RealEngine(tmp_path / "site")
    yield engine
    await engine.close()


@pytest.fixture
async def wide(tmp_path):
    """One pool `cpu` of 4 nodes with 2 cpus, and one pool `gpu` of 2 nodes with 2 a100."""
    engine = RealEngine(tmp_path / "site", a_pool("cpu", 4, 2.0), a_pool("gpu", 2, 4.0, a100=2))
    yield engine
    await engine.close()
