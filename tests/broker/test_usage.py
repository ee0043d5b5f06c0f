"""What tenants hold and held: from records, and followed."""

from types import SimpleNamespace

import pytest

from broker.jobs.lifecycle import Placed, Requeued, Staged, fold
from broker.jobs.model import End, Ending, GpuRequest, JobSpec, JobState, TaskResources, Wish
from broker.records import Tenant
from broker.usage import Usage
from broker.world import Job
from topology.resources import Resources

HOUR = 3600.0
SPEC = JobSpec("red", tasks=2, resources=TaskResources(4.0, 8.0, GpuRequest(1, ("a100",))))


def a_world(*jobs, tenants=()):
    return SimpleNamespace(jobs=dict(enumerate(jobs)), tenants={tenant.name: tenant for tenant in tenants})


def an_attempt(began, ended=None):
    state = fold(JobState("j1"), [Placed(began, "ams", "gpu", "a100"), Staged(began)])
    if ended is not None:
        state = fold(state, [Requeued("lost", End(ended, Ending.SITE_LOST))])
    return Job(Wish("j1", "words", "red", 0.0, "ada", SPEC), SPEC, state, 1, 2)


def test_an_hour_counts_half_as_much_after_a_half_life():
    # held from 2 h to 1 h ago with a half-life of 1 h: 2**-1 - 2**-2 = a quarter of 8 cpus, 16 GiB and 2 GPUs
    (red,) = Usage(a_world(an_attempt(0.0, HOUR)), 1.0).tenants(2 * HOUR, {})
    assert red.past == pytest.approx((2.0, 4.0, 0.5))
    assert red.holds == Resources()


def test_who_follows_comes_to_what_the_records_say():
    held = Resources.of(8.0, 16.0, {"a100": 2})
    follower = Usage(a_world(), 1.0)
    for minutes in range(0, 60, 5):
        follower.tenants(minutes * 60.0, {"red": {"ams": held}})
    follower.tenants(HOUR, {})
    (followed,) = follower.tenants(3 * HOUR, {})
    (recorded,) = Usage(a_world(an_attempt(0.0, HOUR)), 1.0).tenants(3 * HOUR, {})
    assert followed.past == pytest.approx(recorded.past)


def test_what_still_runs_counts_until_now():
    (red,) = Usage(a_world(an_attempt(0.0)), 1.0).tenants(HOUR, {"red": {"ams": Resources(8.0)}})
    assert red.past == pytest.approx((4.0, 8.0, 1.0))
    assert red.holds == Resources(8.0)


def test_what_was_long_ago_is_forgotten():
    usage = Usage(a_world(), 1.0)
    usage.tenants(0.0, {"red": {"ams": Resources(8.0)}})
    assert [tenant.name for tenant in usage.tenants(HOUR, {})] == ["red"]
    assert usage.tenants(100 * HOUR, {}) == ()


def test_tenants_come_as_they_are_declared():
    tenants = (Tenant("research", weight=2.0), Tenant("red", parent="research"))
    made = Usage(a_world(tenants=tenants), 1.0).tenants(0.0, {})
    assert [(tenant.name, tenant.parent, tenant.weight) for tenant in made] == [("red", "research", 1.0), ("research", "", 2.0)]
