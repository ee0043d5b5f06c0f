"""What bringing a dataset takes, and from where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topology.federations import CORPUS, NAMES, a_site, links
from topology.dataset import Dataset, Replica
from topology.graph import Route, Topology
from topology.link import GIB, Link
from topology.transfer import cheapest_transfer

GIB_PER_SECOND = 8 * GIB / 1e9
"""Gbps that move one GiB in a second."""


def a_world(links, at, gib=3600.0):
    size = None if gib is None else int(gib * GIB)
    return Topology.of(map(a_site, NAMES), links, [Dataset(CORPUS, size)], [Replica(CORPUS, site, "corpus") for site in at])


def test_time_and_money_of_a_transfer():
    # 3600 GiB at 1 GiB/s: 1 h, and 36 ms of latency: 1e-5 h; 3600 GiB * (0.01 + 0.02) = 108
    topology = a_world([Link("ams", "fra", GIB_PER_SECOND, 26, 0.01), Link("fra", "osl", 2 * GIB_PER_SECOND, 10, 0.02)], ["ams"])
    transfer = cheapest_transfer(topology, CORPUS, "osl")
    assert (transfer.source, transfer.target, transfer.gib, transfer.carbon_kg) == ("ams", "osl", 3600, 0)
    assert transfer.hours == pytest.approx(1.00001)
    assert transfer.money == pytest.approx(108)
    assert transfer.share_gbps == GIB_PER_SECOND


def test_what_others_have_booked_is_not_free():
    # half of the first link is taken: 3600 GiB at 0.5 GiB/s are 2 h
    topology = a_world([Link("ams", "fra", GIB_PER_SECOND)], ["ams"])
    assert cheapest_transfer(topology, CORPUS, "fra", {"ams:fra": GIB_PER_SECOND / 2}).hours == pytest.approx(2)
    assert cheapest_transfer(topology, CORPUS, "fra", {"ams:fra": 0.0}) is None


def test_the_weights_choose_the_replica():
    # from ams 1 h for 72, from osl 2 h for nothing
    near, far = Link("ams", "fra", GIB_PER_SECOND, 0, 0.02), Link("osl", "fra", GIB_PER_SECOND / 2)
    topology = a_world([near, far], ["ams", "osl"])
    assert cheapest_transfer(topology, CORPUS, "fra", None, 1.0, 0.0).source == "ams"
    assert cheapest_transfer(topology, CORPUS, "fra", None, 0.001, 1.0).source == "osl"


def test_the_weights_choose_the_route():
    quick = Link("ams", "fra", GIB_PER_SECOND, 0, 0.02)
    free = (Link("ams", "osl", GIB_PER_SECOND), Link("osl", "fra", GIB_PER_SECOND))
    topology = a_world([quick, *free], ["ams"])
    assert cheapest_transfer(topology, CORPUS, "fra", None, 1.0, 0.0).route == Route((quick,))
    assert cheapest_transfer(topology, CORPUS, "fra", None, 0.001, 1.0).route == Route(free)


def test_of_equal_replicas_the_first_by_name_is_taken():
    topology = a_world([Link("osl", "fra", 1.0), Link("ams", "fra", 1.0)], ["osl", "ams"])
    assert cheapest_transfer(topology, CORPUS, "fra").source == "ams"


def test_what_is_nowhere_or_out_of_reach_cannot_be_brought():
    assert cheapest_transfer(a_world([Link("ams", "fra", 1.0)], []), CORPUS, "fra") is None
    assert cheapest_transfer(a_world([Link("ams", "fra", 1.0)], ["fra"]), CORPUS, "ams") is None


def test_a_dataset_that_is_not_measured_yet_counts_as_one_gib():
    topology = a_world([Link("ams", "fra", GIB_PER_SECOND)], ["ams"], gib=None)
    assert cheapest_transfer(topology, CORPUS, "fra").hours == pytest.approx(1 / 3600)


@given(links, st.sets(st.sampled_from(NAMES), min_size=1), st.sampled_from(NAMES))
def test_a_replica_at_hand_costs_nothing(links, at, target):
    transfer = cheapest_transfer(a_world(links, {*at, target}), CORPUS, target)
    assert (transfer.source, transfer.route, transfer.gib, transfer.hours, transfer.money) == (target, Route(), 0, 0, 0)


@given(links, st.sets(st.sampled_from(NAMES)), st.sampled_from(NAMES), st.floats(0, 1), st.floats(0, 1))
def test_more_free_bandwidth_never_costs_more_time(links, at, target, share, more):
    topology = a_world(links, at)
    less, greater = ({link.name: link.bandwidth_gbps * part for link in links} for part in sorted((share, more)))
    before, after = (cheapest_transfer(topology, CORPUS, target, free) for free in (less, greater))
    if before:
        assert after.hours <= before.hours


@given(links, st.sets(st.sampled_from(NAMES)), st.sampled_from(NAMES), st.floats(0.001, 100), st.floats(0.001, 100))
def test_more_bytes_never_cost_less(links, at, target, gib, more):
    small, large = sorted((gib, more))
    before, after = (cheapest_transfer(a_world(links, at, size), CORPUS, target) for size in (small, large))
    assert (before is None) == (after is None)
    if before:
        assert before.hours <= after.hours


@given(
    links.flatmap(lambda given: st.tuples(st.just(given), st.permutations(given))),
    st.permutations(NAMES[:3]),
    st.floats(0.001, 1),
    st.floats(0, 1),
)
def test_a_transfer_does_not_depend_on_the_order_of_declaration(orders, at, hours_weight, money_weight):
    one, other = (
        cheapest_transfer(a_world(order, sites), CORPUS, "sin", None, hours_weight, money_weight)
        for order, sites in zip(orders, (NAMES[:3], at), strict=True)
    )
    assert one == other
