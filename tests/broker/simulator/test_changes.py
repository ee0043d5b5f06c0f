"""The federation as it might be: by example, and what is told of a change that cannot be."""

from dataclasses import replace

import pytest

from broker.documents.whatif import WhatIfBody
from broker.errors import Invalid
from broker.placement.view import TenantView
from broker.simulator.changes import changed
from tests.broker.simulator.scenes import a_job, a_link, a_scenario, a_site
from topology.resources import Resources
from topology.room import Room


def might_be(scenario, **body):
    return changed(scenario, WhatIfBody.model_validate(body))


def test_new_nodes_are_empty_beside_those_that_others_use():
    # one node of 4 cpus, of which others leave 1; two more, told one by one
    seen = replace(a_scenario([a_site("ams")], []), rooms={("ams", "cpu"): Room.of([(Resources(1, 64), 1)])})
    found = might_be(seen, nodes=[{"site": "ams", "pool": "cpu", "more": 1}] * 2)
    assert found.topology.sites["ams"].pool("cpu").nodes == 3
    assert found.rooms["ams", "cpu"] == Room.of([(Resources(1, 64), 1), (Resources(4, 64), 2)])


def test_a_new_link_may_have_its_price_before_its_bandwidth():
    scenario = a_scenario([a_site("ams"), a_site("fra")], [])
    way = {"from": "ams", "to": "fra"}
    link = might_be(scenario, links=[way | {"price_per_gib": 0.5}, way | {"bandwidth_gbps": 40.0}]).topology.links["ams:fra"]
    assert (link.bandwidth_gbps, link.price_per_gib) == (40.0, 0.5)


def test_a_sites_electricity_may_be_another():
    scenario = a_scenario([a_site("ams", carbon_g_per_kwh=500.0), a_site("fra", carbon_g_per_kwh=200.0)], [])
    sites = might_be(scenario, carbon={"ams": 10.0}).topology.sites
    assert (sites["ams"].carbon_g_per_kwh, sites["fra"].carbon_g_per_kwh) == (10.0, 200.0)


def test_what_is_not_named_stays():
    scenario = a_scenario([a_site("ams", price=2.0), a_site("fra")], [a_job("one")], links=[a_link("ams", "fra", 1.0, 0.1)])
    found = might_be(scenario, links=[{"from": "ams", "to": "fra", "price_per_gib": 0.5}])
    assert found.topology.links["ams:fra"].bandwidth_gbps == scenario.topology.links["ams:fra"].bandwidth_gbps
    assert found.topology.sites == scenario.topology.sites
    assert (found.arrivals, found.changes, found.tenants) == (scenario.arrivals, (), ())


def test_a_tenant_known_by_its_jobs_alone_may_weigh_more():
    scenario = replace(a_scenario([a_site("ams")], [a_job("one", tenant="red")]), tenants=(TenantView("blue", weight=2.0),))
    assert might_be(scenario, weights={"red": 3.0}).tenants == (TenantView("blue", weight=2.0), TenantView("red", weight=3.0))


@pytest.mark.parametrize(
    ("body", "field", "cure"),
    [
        ({"lose_sites": ["amss"]}, "lose_sites.0", "did you mean ams?"),
        ({"nodes": [{"site": "ams", "pool": "gpu", "more": 1}]}, "nodes.0.pool", "no pool of ams is named gpu"),
        ({"nodes": [{"site": "ams", "pool": "cpu", "more": -2}]}, "nodes.0.more", "cpu has 1 nodes, and 2 are to go"),
        ({"nodes": [{"site": "fra", "pool": "cpu", "more": -3}]}, "nodes.0.more", "cpu has 1 nodes, and 3 are to go"),
        ({"prices": [{"site": "osl", "cpu_hour": 1.0}]}, "prices.0.site", "no site is named osl"),
        ({"prices": [{"site": "ams", "gpu_hour": {"a1": 1.0}}]}, "prices.0.gpu_hour.a1", "no GPU of ams is named a1"),
        ({"links": [{"from": "ams", "to": "osl", "bandwidth_gbps": 1.0}]}, "links.0.to", "no site is named osl"),
        ({"links": [{"from": "ams", "to": "fra", "price_per_gib": 1.0}]}, "links.0.bandwidth_gbps", "give the new one some"),
        ({"links": [{"from": "ams", "to": "ams", "bandwidth_gbps": 1.0}]}, "links.0.to", "leads to another site"),
        ({"carbon": {"frra": 2.0}}, "carbon.frra", "did you mean fra?"),
        ({"weights": {"red": 2.0}}, "weights.red", "no tenant is named red"),
    ],
)
def test_a_change_of_what_is_not_there_is_told(body, field, cure):
    with pytest.raises(Invalid) as error:
        might_be(a_scenario([a_site("ams"), a_site("fra")], [a_job("one")]), **body)
    assert [(fault.field, cure in fault.message) for fault in error.value.faults] == [(field, True)]
