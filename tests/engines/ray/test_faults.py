"""What Ray itself does to its jobs, on the real one."""

from __future__ import annotations

import pytest

from adapters.base import EndReason, Refused, SiteState
from tests.contract.adapters import CALL, LONG_S, Does, a_run, finish, over, ref, running
from tests.contract.ray_kind import RayKind
from tests.engines.ray.cluster import AFTERLIFE_S, HEAD

MISSING = RayKind.missing()
pytestmark = [pytest.mark.engines, pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.timeout(600)]


@pytest.fixture
async def kind(tmp_path):
    engine = RayKind(tmp_path)
    yield engine
    await engine.end()


async def test_somebody_elses_job_of_our_name_is_told_and_left_alone(kind, adapter):
    run = a_run(kind)
    theirs = {"entrypoint": "sleep 3600", "submission_id": run.name}
    kind.cluster.ask("/api/jobs/", "POST", theirs)
    outcome = (await adapter.submit([run], CALL))[run.name]
    assert isinstance(outcome, Refused)
    await adapter.cancel([ref(run)], CALL)
    await adapter.forget([ref(run)], CALL)
    seen = await adapter.observe([ref(run)], CALL)
    assert (seen.reports, list(seen.foreign)) == ({}, [run.name])
    status, job = kind.cluster.ask(f"/api/jobs/{run.name}")
    assert (status, job["status"] in ("PENDING", "RUNNING")) == (200, True)
    kind.cluster.ask(f"/api/jobs/{run.name}/stop", "POST")


async def test_a_node_that_is_lost_under_a_gang_ends_the_gang(kind, adapter):
    gang = a_run(kind, tasks=8, does=Does(LONG_S))  # both nodes of four cpus
    await adapter.submit([gang], CALL)
    await running(kind, adapter, gang)
    kind.cluster.kill("node1")
    try:
        (report,) = await over(kind, adapter, gang)
    finally:
        kind.cluster.start()
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.NODE_LOST)


async def test_a_head_that_forgot_is_seen_by_its_life_and_nothing_starts_twice(kind, adapter):
    run = a_run(kind, does=Does(LONG_S))
    await adapter.submit([run], CALL)
    before = await running(kind, adapter, run)
    await kind.restart()
    after = await adapter.observe([ref(run)], CALL)
    assert (after.life != before.life, after.reports) == (True, {})
    assert (await finish(kind, adapter, run)).reason is EndReason.CLAIMED


async def test_while_nodes_run_what_a_head_forgot_no_listing_is_whole(kind):
    adapter, run = kind.with_settings(afterlife_s=AFTERLIFE_S), a_run(kind, does=Does(waits=True))
    await adapter.submit([run], CALL)
    before = await running(kind, adapter, run)

    def goes_on():
        return bool(kind.cluster.pids(f"{kind.hall}/{run.name}"))

    kind.cluster.kill(HEAD)
    kind.cluster.start(HEAD)
    try:
        went_on, first = goes_on(), await adapter.observe([], CALL)
        assert (went_on, first.life != before.life, first.is_whole, first.reports) == (True, True, False, {})
        while not (seen := await adapter.observe([], CALL)).is_whole:
            await kind.pause()
        assert (goes_on(), seen.reports) == (False, {})
    finally:
        kind.cluster.start()
    await adapter.close()
