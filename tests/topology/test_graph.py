"""Routes: the cheapest of all that there are, whatever order the federation was declared in."""

import pickle
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topology.federations import CORPUS, NAMES, a_site, links
from topology.dataset import Dataset, Replica
from topology.graph import Metric, Route, Topology
from topology.link import GIB, Link, bytes_per_second


def a_topology(links, names=NAMES, replicas=()):
    return Topology.of(map(a_site, names), links, [Dataset(CORPUS, GIB)], [Replica(CORPUS, site, "corpus") for site in replicas])


def hours_per_gib(route):
    return sum(GIB / bytes_per_second(link.bandwidth_gbps) / 3600 + link.latency_ms / 3.6e6 for link in route.links)


def all_routes(links, source, target):
    """Every way that passes no site twice."""
    by_ends = {(link.source, link.target): link for link in links}
    between = [name for name in NAMES if name not in (source, target)]
    for length in range(len(between) + 1):
        for middle in permutations(between, length):
            steps = list(pairwise((source, *middle, target)))
            if all(step in by_ends for step in steps):
                yield Route(tuple(by_ends[step] for step in steps))


def test_a_route_may_lead_over_a_third_site():
    # ams -> osl: 1 Gbps takes 8.6 s per GiB; over fra 2 * 0.86 s at 10 Gbps
    slow, first, second = Link("ams", "osl", 1.0), Link("ams", "fra", 10.0, 9, 0.02), Link("fra", "osl", 10.0, 25, 0.01)
    topology = a_topology([slow, first, second])
    assert topology.route("ams", "osl") == Route((first, second))
    assert topology.route("ams", "osl", Metric.MONEY) == Route((slow,))
    assert (topology.route("ams", "osl").latency_ms, topology.route("ams", "osl").price_per_gib) == (34, 0.03)


def test_a_link_leads_one_way():
    topology = a_topology([Link("ams", "fra", 10.0)])
    assert topology.route("ams", "fra") is not None
    assert topology.route("fra", "ams") is None
    assert topology.route("ams", "nowhere") is None
    assert topology.route("nowhere", "ams") is None


def test_of_equally_quick_routes_the_one_of_less_price_is_taken():
    def over(middle, price):
        return Link("ams", middle, 10.0, 5, price), Link(middle, "sin", 10.0, 5, price)

    topology = a_topology([*over("fra", 0.05), *over("osl", 0.01), *over("iad", 0.09)])
    assert topology.route("ams", "sin").links[0].target == "osl"


def test_what_leads_to_unknown_sites_is_left_out():
    topology = a_topology([Link("ams", "gone", 10.0), Link("gone", "fra", 10.0)], ("ams", "fra"), ("ams", "gone"))
    assert (dict(topology.links), topology.route("ams", "fra"), topology.replica_sites(CORPUS)) == ({}, None, ("ams",))


@given(links)
def test_the_cheapest_route_is_the_least_of_all_routes(links):
    topology = a_topology(links)
    for source, target in permutations(NAMES, 2):
        routes = list(all_routes(links, source, target))
        for metric, weight in ((Metric.TIME, hours_per_gib), (Metric.MONEY, lambda route: route.price_per_gib)):
            found = topology.route(source, target, metric)
            assert (found is None) == (not routes)
            if found:
                assert weight(found) == pytest.approx(min(map(weight, routes)), rel=1e-4, abs=1e-8)


@given(links)
def test_a_route_is_as_narrow_as_its_narrowest_link_and_joined_end_to_end(links):
    topology = a_topology(links)
    for source, target in permutations(NAMES, 2):
        route = topology.route(source, target)
        if route:
            assert route.bottleneck_gbps == min(link.bandwidth_gbps for link in route.links)
            assert (route.links[0].source, route.links[-1].target) == (source, target)
            assert all(near.target == far.source for near, far in pairwise(route.links))


@given(links, st.floats(1, 10))
def test_more_bandwidth_never_makes_the_best_route_worse(links, factor):
    if links:
        wider = [Link(links[0].source, links[0].target, links[0].bandwidth_gbps * factor, links[0].latency_ms), *links[1:]]
        before, after = a_topology(links), a_topology(wider)
        for source, target in permutations(NAMES, 2):
            if before.route(source, target):
                assert hours_per_gib(after.route(source, target)) <= hours_per_gib(before.route(source, target)) + 1e-8


@given(links.flatmap(lambda given: st.tuples(st.just(given), st.permutations(given))), st.permutations(NAMES))
def test_routes_do_not_depend_on_the_order_of_declaration(orders, names):
    one, other = a_topology(orders[0]), a_topology(orders[1], names)
    for metric in Metric:
        assert [one.route(*ends, metric) for ends in permutations(NAMES, 2)] == [
            other.route(*ends, metric) for ends in permutations(NAMES, 2)
        ]


def test_kept_routes_outlive_a_change_of_replicas_and_are_not_pickled():
    topology = a_topology([Link(near, far, 10.0) for near, far in permutations(NAMES, 2)], replicas=("ams",))
    bare = len(pickle.dumps(topology))
    route = topology.route("ams", "sin")
    changed = topology.with_replicas(topology.datasets.values(), [Replica(CORPUS, "osl", "corpus")])
    assert changed.route("ams", "sin") is route
    assert (topology.replica_sites(CORPUS), changed.replica_sites(CORPUS)) == (("ams",), ("osl",))
    assert len(pickle.dumps(topology)) == bare
    again = pickle.loads(pickle.dumps(topology))
    assert (again.route("ams", "sin"), again.replica(CORPUS, "ams")) == (route, topology.replica(CORPUS, "ams"))
