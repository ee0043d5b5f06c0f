"""The bound on whole simulations: by hand where it is exact, and under no policy ever passed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.jobs.model import Weights
from broker.simulator.bound import bound_of
from broker.simulator.engine import simulate
from broker.simulator.figures import figures_of
from broker.simulator.modifiers import with_site_lost, with_spot_losses, with_spot_traces, with_varying_links
from broker.simulator.policies import KINDS, Ours, named
from broker.simulator.scenario import Carbon, NodesLost, SiteLost
from broker.simulator.series import Series
from tests.broker.simulator.scenes import a_job, a_link, a_scenario, a_site, scenarios

CHANGES = {
    "nothing": lambda made: made,
    "links": lambda made: with_varying_links(made, 1, 0.1),
    "a site": lambda made: with_site_lost(made, 0.2),
    "nodes": lambda made: with_spot_losses(made, 100.0, 1),
    "many nodes": lambda made: with_spot_traces(made, [Series("s", 600.0, (0.0, 1.0))], 1),
}
MONEY = Weights(1.0, 0.5, 0.0)


def test_one_job_weighs_its_run_at_the_best_pool():
    # ams: 2 h + 0.5 * 2 h * 1 cpu * 1 = 3; fra, twice as fast: 1 h + 0.5 * 1 h * 1 cpu * 6 = 4
    made = a_scenario([a_site("ams", price=1.0), a_site("fra", speed=2, price=6.0)], [a_job("one", run_hours=2, objective=MONEY)])
    bound = bound_of(made)
    assert (bound.mean_weighed, bound.jobs) == (pytest.approx(3.0), 1)


def test_jobs_that_fill_a_pool_wait_for_each_other():
    # eight jobs of an hour, one at a time: 1 + 2 + ... + 8 = 36 h; without room they would weigh 8 h
    jobs = [a_job(f"j{number}", run_hours=1, cpus=4) for number in range(8)]
    bound = bound_of(a_scenario([a_site("ams")], jobs))
    assert 0.9 * 36 / 8 < bound.mean_weighed <= 36 / 8


def test_what_spills_over_pays_the_dearer_site():
    # ams has room for half of the jobs, and they do not wait half a day for it: each second one weighs 1 h + 0.5 * 4 * 1 = 3
    jobs = [a_job(f"j{number}", at=number * 1800.0, run_hours=1, cpus=4, objective=MONEY) for number in range(48)]
    bound = bound_of(a_scenario([a_site("ams"), a_site("fra", nodes=2, price=1.0)], jobs))
    assert 1.7 < bound.mean_weighed <= 2.0


def test_data_comes_no_sooner_than_its_link_carries_it_and_is_paid_once():
    # 3600 GiB at 1 GiB/s: 1 h, 36 of money once, a half of it for each of two jobs: 1 h + 1 h + 0.5 * 18 = 11
    jobs = [a_job(f"j{number}", run_hours=1, inputs=("corpus",), objective=MONEY) for number in range(2)]
    sites = [a_site("ams", cpus=0.5), a_site("fra")]
    bound = bound_of(a_scenario(sites, jobs, {"corpus": "ams"}, [a_link("ams", "fra", price=0.01)]))
    assert bound.mean_weighed == pytest.approx(11.0)


def test_carbon_counts_as_it_is_at_its_lowest():
    # 1 h of one cpu of 100 W at 500, later at 200 g/kWh: 0.02 kg, ten times its weight beside the hour
    job = a_job("one", run_hours=1, objective=Weights(1.0, 0.0, 10.0))
    made = a_scenario([a_site("ams", carbon_g_per_kwh=500.0)], [job], changes=[Carbon(60.0, "ams", 200.0)])
    assert bound_of(made).mean_weighed == pytest.approx(1.2)


def test_what_is_lost_has_no_room():
    # two jobs of an hour, one at a time on the one node of two that is left: (1 + 2) / 2; where the site is dark for two hours
    # both begin after these: (3 + 3) / 2
    jobs = [a_job(f"j{number}", run_hours=1, cpus=4) for number in range(2)]
    half = [NodesLost(0.0, "ams", "cpu", 1, 1e6)]
    dark = [SiteLost(0.0, "ams", 7200.0)]
    assert 1.0 < bound_of(a_scenario([a_site("ams", nodes=2)], jobs, changes=half)).mean_weighed <= 1.5
    assert 2.0 < bound_of(a_scenario([a_site("ams", nodes=2)], jobs, changes=dark)).mean_weighed <= 3.0


def test_where_nothing_can_run_there_is_no_bound():
    with pytest.raises(ValueError, match="no job can run anywhere"):
        bound_of(a_scenario([a_site("ams", cpus=1)], [a_job("one", cpus=2)]))


@given(made=scenarios(), policy=st.sampled_from([Ours.name, *KINDS]), change=st.sampled_from([*CHANGES]))
@settings(max_examples=120, deadline=None)
def test_no_policy_is_ever_below_the_bound(made, policy, change):
    made = CHANGES[change](made)
    figures = figures_of(simulate(made, named(policy)))
    if not figures.unfinished:
        assert figures.mean_weighed >= bound_of(made).mean_weighed * (1 - 1e-9)
