"""What baselines choose: by example."""

import pytest

from broker.simulator.policies import KINDS, grid_of, named
from tests.broker.placement.worlds import a_link, a_shape, a_view, a_world, running, waiting
from topology.site import Price


def where(policy, world, **parameters):
    return [(placement.site, placement.count) for placement in named(policy, **parameters).plan(world).placements]


def test_the_least_loaded_takes_the_site_with_the_most_headroom():
    views = (a_view("ams", cpus=8, held=(running(4, until=9),)), a_view("fra", cpus=8, held=(running(2, until=9),)))
    assert where("least-loaded", a_world(*views, classes=[waiting(a_shape())])) == [("fra", 1)]


def data_world(ams_is_full):
    held = (running(8, until=9),) if ams_is_full else ()
    job = waiting(a_shape(inputs=("corpus",)), age=100)
    views = (a_view("ams", held=held), a_view("fra", speed=4))
    return a_world(*views, classes=[job], at={"corpus": "ams"}, links=[a_link("ams", "fra", price=1.0)])


def test_locality_goes_to_the_data_and_after_its_delay_elsewhere():
    assert where("locality", data_world(ams_is_full=False)) == [("ams", 1)]
    assert where("locality", data_world(ams_is_full=True), delay_s=600.0) == []
    assert where("locality", data_world(ams_is_full=True), delay_s=60.0) == [("fra", 1)]


def test_the_race_is_won_where_it_starts_first():
    assert where("race", data_world(ams_is_full=False)) == [("ams", 1)]
    assert where("race", data_world(ams_is_full=True)) == [("fra", 1)]


def test_price_and_egress_count_and_hours_only_as_told():
    # an hour costs 1 at ams and 3 at fra, and bringing 3600 GiB there 36 more
    views = (a_view("ams", price=Price(cpu_hour=1.0)), a_view("fra", price=Price(cpu_hour=3.0), speed=9))
    world = a_world(*views, classes=[waiting(a_shape())])
    assert where("price-egress", world) == [("ams", 1)]
    cheap = (a_view("ams", price=Price(cpu_hour=3.0)), a_view("fra", price=Price(cpu_hour=1.0)))
    job = waiting(a_shape(inputs=("corpus",)))
    far = a_world(*cheap, classes=[job], at={"corpus": "ams"}, links=[a_link("ams", "fra", price=0.01)])
    assert where("price-egress", far) == [("ams", 1)]


@pytest.mark.parametrize("policy", ["panda", "iridium"])
def test_data_draws_these_too(policy):
    assert where(policy, data_world(ams_is_full=False)) == [("ams", 1)]


def test_the_random_one_uses_every_site():
    world = a_world(*(a_view(name) for name in ("ams", "fra", "osl")), classes=[waiting(a_shape())])
    policy = named("random")
    assert {policy.plan(world).placements[0].site for _ in range(50)} == {"ams", "fra", "osl"}


@pytest.mark.parametrize("policy", KINDS)
def test_rules_are_kept_and_only_so_much_waits_at_a_site(policy):
    views = (a_view("ams", cpus=4, held=(running(1, until=1, count=4),)), a_view("fra"))
    world = a_world(*views, classes=[waiting(a_shape(names=("ams",)), 20)])
    assert where(policy, world) == []
    assert where(policy, world, queue_ahead=0.5) == [("ams", 2)]


@pytest.mark.parametrize("policy", [*KINDS, "ours"])
def test_no_more_is_placed_than_there_is(policy):
    made = where(policy, a_world(a_view("ams", cpus=4), a_view("fra", cpus=4), classes=[waiting(a_shape(), 5)]))
    assert sum(count for _, count in made) == 5


def test_grids_can_be_named_and_others_not():
    assert all(named(name, **parameters) for name in KINDS for parameters in grid_of(name))
    assert grid_of("ours") == [{}]
    with pytest.raises(KeyError):
        named("nobody")
    with pytest.raises(TypeError):
        named("race", delay_s=1.0)
