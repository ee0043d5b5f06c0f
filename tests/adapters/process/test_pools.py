"""A site's declaration changes while its engine runs."""

from dataclasses import replace

from adapters.base import Accepted, EndReason, Layer, Refused, SiteState
from tests.adapters.process.engines import CALL, a_pool, a_run, until


async def test_an_engine_takes_up_changed_pools_and_its_runs_go_on(engine):
    gate = engine.storage / "gate"
    run = a_run("j1", f"while [ ! -e {gate} ]; do sleep 0.02; done")
    await engine.accept(run)
    wide = a_run("wide", "true", cpus=6.0)
    assert isinstance((await engine.submit(wide))[wide.name], Refused)
    engine.site = replace(engine.site, pools=(a_pool(cpus=8.0),))
    changed = engine.open()
    before = engine.pid
    checks = await changed.probe(10.0)
    assert [(check.layer, check.is_ok) for check in checks] == [(layer, True) for layer in Layer]
    assert engine.pid != before
    # 8 cpus, one of which the run still holds
    assert isinstance((await changed.submit([wide], CALL))[wide.name], Accepted)
    assert (await changed.observe((), CALL)).rooms["cpu"].total.cpus == 8
    gate.touch()
    assert [report.state for report in await engine.ended(run, wide)] == [SiteState.SUCCEEDED] * 2
    await changed.close()


async def test_what_waits_for_a_pool_that_is_gone_ends_with_the_reason(wide):
    filling = a_run("filling", "sleep 100", tasks=2, cpus=4.0, pool="gpu")
    waiting = a_run("waiting", "true", pool="gpu")
    await wide.accept(filling, waiting)
    wide.site = replace(wide.site, pools=(a_pool("cpu", 4, 2.0),))
    changed = wide.open()
    await changed.probe(10.0)
    (report,) = await wide.ended(waiting)
    assert (report.state, report.reason) == (SiteState.FAILED, EndReason.START_FAILED)
    assert "no pool gpu" in report.message

    async def is_running():
        return (await wide.report(filling)).state is SiteState.RUNNING

    await until(is_running)
    await changed.close()
