"""What tenants hold and held in a simulation, by example."""

from dataclasses import replace

import pytest

from broker.placement.view import TenantView
from broker.simulator.tenants import Tenants
from tests.broker.simulator.scenes import a_job, a_scenario, a_site
from topology.resources import Resources

HOUR = 3600.0


def views(tenants, now):
    return {view.name: view for view in tenants.views(now)}


def some(jobs, *declared):
    return Tenants(replace(a_scenario([a_site("ams"), a_site("fra")], jobs), tenants=declared, half_life_s=HOUR))


def test_a_tenant_known_by_its_jobs_alone_weighs_one():
    found = views(some([a_job("one", tenant="red")], TenantView("blue", parent="lab", weight=3.0)), 0.0)
    assert (found["red"].weight, found["red"].parent) == (1.0, "")
    assert (found["blue"].weight, found["blue"].parent) == (3.0, "lab")


def test_what_is_held_is_told_in_all_and_by_site():
    tenants = some([a_job("one", tenant="red")])
    tenants.hold("red", "ams", Resources(4))
    tenants.hold("red", "fra", Resources(2))
    tenants.let_go("red", "ams", Resources(1))
    red = views(tenants, 0.0)["red"]
    assert (red.holds, red.holds_at) == (Resources(5), {"ams": Resources(3), "fra": Resources(2)})


def test_what_was_held_fades_by_half_in_a_half_life():
    # 8 cpus for an hour: a half of them counts; then nothing for an hour: a quarter
    tenants = some([a_job("one", tenant="red")])
    tenants.hold("red", "ams", Resources(8))
    tenants.views(0.0)
    assert views(tenants, HOUR)["red"].past[0] == pytest.approx(4)
    tenants.let_go("red", "ams", Resources(8))
    tenants.views(HOUR)
    assert views(tenants, 2 * HOUR)["red"].past[0] == pytest.approx(2)


def test_what_was_held_before_the_start_fades_on():
    found = views(some([], TenantView("red", past=(8.0, 0.0, 0.0))), 2 * HOUR)
    assert found["red"].past == pytest.approx((2.0, 0.0, 0.0))
