"""Two real clusters at once, as two sites of one federation: what is so at one is not so at the other."""

from __future__ import annotations

import pytest

from adapters.base import SiteState, Unreachable
from tests.contract.adapters import CALL, Call, Does, a_run, finish, over, ref, running, text
from tests.contract.kubernetes_kind import KubernetesKind, SmallKubernetesKind
from topology.resources import Resources

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(KubernetesKind.missing()), reason=KubernetesKind.missing()),
]


@pytest.fixture
async def kinds(tmp_path):
    both = KubernetesKind(tmp_path / "large"), SmallKubernetesKind(tmp_path / "small")
    both[1].federation = both[0].federation
    yield both
    for kind in both:
        await kind.end()


async def test_a_name_is_of_one_cluster_and_each_has_its_own_life_and_room(kinds):
    large, small = adapters = [kind.adapter() for kind in kinds]
    runs = [a_run(kind, does=Does(output=f"{kind.name}.")) for kind in kinds]
    assert runs[0].name == runs[1].name
    for kind, adapter, run in zip(kinds, adapters, runs, strict=True):
        assert (await finish(kind, adapter, run)).state is SiteState.SUCCEEDED
    seen = [await adapter.observe([], CALL) for adapter in adapters]
    assert seen[0].life != seen[1].life
    assert seen[0].reports[runs[0].name].native_id != seen[1].reports[runs[1].name].native_id
    assert [await text(adapter, run) for adapter, run in zip(adapters, runs, strict=True)] == ["kubernetes.", "kubernetes-small."]
    # two nodes of four cpus at one, one at the other
    assert [each.rooms["cpu"].fit(Resources(1)) for each in seen] == [8, 4]
    await large.forget([ref(runs[0])], CALL)
    assert [len((await adapter.observe([], CALL)).reports) for adapter in adapters] == [0, 1]
    await large.close()
    await small.close()


async def test_a_cluster_that_is_silent_holds_up_no_other(kinds):
    large, small = (kind.adapter() for kind in kinds)
    kind, other = kinds
    run, theirs = a_run(kind, does=Does(waits=True)), a_run(other)
    await large.submit([run], CALL)
    await running(kind, large, run)
    async with kind.silent():
        with pytest.raises(Unreachable):
            await large.observe([ref(run)], Call(5, 1.0))
        assert (await finish(other, small, theirs)).state is SiteState.SUCCEEDED
    kind.let_go(run.name)
    (report,) = await over(kind, large, run)
    assert report.state is SiteState.SUCCEEDED
    await large.close()
    await small.close()
