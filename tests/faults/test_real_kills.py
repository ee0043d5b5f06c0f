"""On real parts: whatever is killed -9, every job ends once, and somebody goes on planning."""

import pytest

from tests.engines.etcd.cluster import built_binary
from tests.faults import real_kills, takeover

pytestmark = pytest.mark.skipif(built_binary() is None, reason="an etcd that is safe to kill is not built: run `make engines`")


@pytest.mark.timeout(500)
async def test_every_job_ends_once_whatever_is_killed(tmp_path):
    plan = real_kills.Plan(jobs=300, broker_kills=20, etcd_kills=3, daemon_kills=5, seed=1)
    outcome = await real_kills.run(plan, tmp_path)
    assert outcome.faults(plan) == []
    assert outcome.kills == {"broker": 20, "etcd": 3, "daemon": 5}


@pytest.mark.timeout(200)
async def test_when_the_leader_is_killed_the_other_broker_plans(tmp_path):
    assert len(await takeover.run(2, tmp_path)) == 2
