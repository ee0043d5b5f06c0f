"""A scenario under a policy: by example, and what must hold for any."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.jobs.model import Spread
from broker.placement.view import Plan
from broker.simulator.engine import simulate
from broker.simulator.policies import KINDS, Ours, named
from broker.simulator.scenario import Bandwidth, Carbon, Maintenance, NodesLost, SiteLost
from tests.broker.simulator.scenes import a_job, a_link, a_scenario, a_site, scenarios

HOUR = 3600.0
POLICIES = ("ours", *KINDS)


def ran(scenario, policy=None):
    """Jobs by name."""
    return {job.name: job for job in simulate(scenario, policy or Ours()).jobs}


def test_a_job_runs_by_the_pools_speed_and_is_billed():
    # 2 h on a pool of speed 2: 1 h of 2 cpus at 0.5; 2 * 100 W * 1 h = 0.2 kWh at 500 g
    site = a_site("ams", speed=2.0, price=0.5, carbon_g_per_kwh=500.0)
    job = ran(a_scenario([site], [a_job("one", 5.0, run_hours=2, cpus=2)]))["one"]
    assert (job.site, job.pool, job.started_at, job.ended_at, job.attempts) == ("ams", "cpu", 5.0, 5.0 + HOUR, 1)
    assert (job.compute_money, job.carbon_kg) == (pytest.approx(1.0), pytest.approx(0.1))


def test_what_finds_no_room_waits_until_a_job_ends():
    found = ran(a_scenario([a_site("ams")], [a_job("one", cpus=4), a_job("two", 1.0, cpus=4)]))
    assert found["two"].started_at == pytest.approx(found["one"].ended_at, abs=10.0)


def test_jobs_of_one_word_follow_those_that_run_and_are_free_once_they_are_over():
    # two waits for ams, where one runs, though fra is free; three comes when no other runs and ams is taken, and goes to fra
    there = {"cpus": 4, "names": ("ams",)}
    jobs = [a_job("one", affinity="w", **there), a_job("two", 60.0, cpus=4, affinity="w")]
    jobs += [a_job("alone", 2.5 * HOUR, run_hours=9, **there), a_job("three", 3 * HOUR, cpus=4, affinity="w")]
    found = ran(a_scenario([a_site("ams"), a_site("fra")], jobs))
    assert (found["two"].site, found["two"].started_at) == ("ams", pytest.approx(found["one"].ended_at, abs=10.0))
    assert (found["three"].site, found["three"].started_at) == ("fra", pytest.approx(3 * HOUR, abs=10.0))


def test_a_job_starts_when_its_data_has_come_and_the_first_pays():
    # 3600 GiB at 1 GiB/s: an hour, at 0.01 each
    jobs = [a_job(name, inputs=("corpus",), names=("fra",)) for name in ("one", "two")]
    found = ran(a_scenario([a_site("ams"), a_site("fra")], jobs, {"corpus": "ams"}, [a_link("ams", "fra", price=0.01)]))
    assert [found[name].started_at for name in ("one", "two")] == [pytest.approx(HOUR)] * 2
    assert [found[name].egress_money for name in ("one", "two")] == [pytest.approx(36.0), 0.0]
    assert sum(job.wan_gib for job in found.values()) == pytest.approx(3600)


def test_what_comes_once_stays():
    jobs = [a_job("one", inputs=("corpus",), names=("fra",)), a_job("two", 3 * HOUR, inputs=("corpus",), names=("fra",))]
    found = ran(a_scenario([a_site("ams"), a_site("fra")], jobs, {"corpus": "ams"}, [a_link("ams", "fra")]))
    assert found["two"].started_at == pytest.approx(3 * HOUR, abs=10)


def test_a_link_that_becomes_narrow_takes_longer():
    # half of it at 1 GiB/s, the other at a tenth of that: 0.5 h + 5 h
    narrow = Bandwidth(HOUR / 2, "ams:fra", a_link("ams", "fra", 0.1).bandwidth_gbps)
    jobs = [a_job("one", inputs=("corpus",), names=("fra",))]
    scenario = a_scenario([a_site("ams"), a_site("fra")], jobs, {"corpus": "ams"}, [a_link("ams", "fra")], [narrow])
    assert ran(scenario)["one"].started_at == pytest.approx(5.5 * HOUR)


def test_what_a_lost_site_ran_runs_elsewhere():
    lost = SiteLost(HOUR / 2, "ams", 9 * HOUR)
    scenario = a_scenario([a_site("ams", speed=1.5), a_site("fra")], [a_job("one", run_hours=3)], changes=[lost])
    job = ran(scenario)["one"]
    assert (job.site, job.attempts, job.started_at) == ("fra", 2, pytest.approx(HOUR / 2, abs=10))
    assert job.ended_at == pytest.approx(3.5 * HOUR, abs=10)


def test_what_goes_to_a_lost_site_is_placed_anew():
    lost = SiteLost(HOUR / 2, "fra", 2 * HOUR)
    jobs = [a_job("one", inputs=("corpus",), names=("fra",))]
    scenario = a_scenario([a_site("ams"), a_site("fra")], jobs, {"corpus": "ams"}, [a_link("ams", "fra")], [lost])
    job = ran(scenario)["one"]
    assert (job.attempts, job.started_at) == (2, pytest.approx(3 * HOUR, abs=10))


def test_lost_nodes_are_missed_until_they_are_back():
    lost = NodesLost(60.0, "ams", "cpu", 1, 5 * HOUR)
    jobs = [a_job("one", cpus=4, run_hours=2), a_job("two", cpus=4, run_hours=2)]
    found = ran(a_scenario([a_site("ams", nodes=2)], jobs, changes=[lost]))
    assert sorted(job.attempts for job in found.values()) == [1, 2]
    assert sorted(round(job.ended_at / HOUR) for job in found.values()) == [2, 4]


def test_a_site_in_maintenance_takes_nothing_new_and_goes_on():
    closed = Maintenance(60.0, "ams", 5 * HOUR)
    found = ran(a_scenario([a_site("ams")], [a_job("one", run_hours=2), a_job("two", 120.0)], changes=[closed]))
    assert found["one"].ended_at == 2 * HOUR
    assert found["two"].started_at == pytest.approx(5 * HOUR, abs=10)


def test_electricity_may_get_dirtier():
    dirtier = Carbon(60.0, "ams", 1000.0)
    (job,) = ran(a_scenario([a_site("ams", carbon_g_per_kwh=1.0)], [a_job("one")], changes=[dirtier])).values()
    assert job.carbon_kg == pytest.approx(0.1)


def test_a_site_runs_its_own_queue_with_backfill():
    # with everything sent to the site at once: the gang waits for all of it, and the short job goes before it, the long one not
    jobs = [a_job("first", cpus=2, run_hours=1), a_job("gang", 1.0, cpus=4), a_job("long", 2.0, cpus=2, run_hours=9)]
    scenario = a_scenario([a_site("ams")], [*jobs, a_job("short", 3.0, cpus=2, run_hours=0.5)])
    found = ran(scenario, named("least-loaded", queue_ahead=9.0))
    assert found["short"].started_at < found["gang"].started_at == pytest.approx(HOUR, abs=20)
    assert found["long"].started_at >= found["gang"].ended_at


class Wrong:
    name = "wrong"

    def __init__(self, change):
        self._change, self._ours = change, Ours()

    def plan(self, given):
        made = self._ours.plan(given)
        return replace(made, placements=tuple(self._change(each) for each in made.placements))


@pytest.mark.parametrize("change", [lambda each: replace(each, count=2), lambda each: replace(each, pool="none")])
def test_a_policy_that_places_what_is_not_there_is_told(change):
    with pytest.raises(ValueError, match="wrong places"):
        simulate(a_scenario([a_site("ams")], [a_job("one")]), Wrong(change))


def test_a_policy_that_places_nothing_ends_the_simulation():
    class Idle:
        name = "idle"

        def plan(self, given):
            return Plan()

    (job,) = simulate(a_scenario([a_site("ams")], [a_job("one")]), Idle()).jobs
    assert (job.ended_at, job.site) == (None, None)


@given(scenarios(), st.sampled_from(POLICIES), st.sampled_from([0.0, 1.0]))
@settings(max_examples=120, deadline=None)
def test_every_job_ends_once_and_no_pool_is_ever_overfull(scenario, policy, queue_ahead):
    made = simulate(scenario, named(policy, **({} if policy == "ours" else {"queue_ahead": queue_ahead})))
    of = {arrival.name: arrival for arrival in scenario.arrivals}
    assert [job.name for job in made.jobs] == list(of)
    for job in made.jobs:
        pool = scenario.topology.sites[job.site].pool("cpu")
        assert job.started_at >= job.arrived_at
        assert job.ended_at - job.started_at == pytest.approx(of[job.name].run_time_s / pool.speed)
        running = [other for other in made.jobs if other.site == job.site and other.started_at <= job.started_at < other.ended_at]
        cpus = sum(of[other.name].shape.resources.cpus * of[other.name].shape.tasks for other in running)
        assert cpus <= pool.nodes * pool.per_node.cpus + 1e-9


@given(scenarios(), st.sampled_from(POLICIES))
@settings(max_examples=30, deadline=None)
def test_the_same_scenario_ends_the_same(scenario, policy):
    assert simulate(scenario, named(policy)).jobs == simulate(scenario, named(policy)).jobs


@given(scenarios(), st.sampled_from(["ams", "fra", "osl"]), st.sampled_from([100.0, 3000.0]))
@settings(max_examples=60, deadline=None)
def test_whatever_is_lost_comes_to_its_end(scenario, site, at):
    lost = replace(scenario, changes=(SiteLost(at, site, at + 5000.0), NodesLost(at + 6000.0, site, "cpu", 1, at + 9000.0)))
    assert all(job.ended_at is not None for job in simulate(lost, Ours()).jobs)




def test_what_waits_for_one_link_is_not_held_up_by_what_waits_for_another():
    # both wait for hub:osl, taken for an hour; then the first waits for ams:hub, which is taken still, and the second goes
    data = {"taken": "bru", "first": "ams", "second": "fra", "long": "ams"}
    links = [a_link("ams", "hub"), a_link("bru", "hub"), a_link("fra", "hub"), a_link("hub", "osl")]
    arrivals = [("taken", 0.0, "osl"), ("first", 20.0, "osl"), ("second", 40.0, "osl"), ("long", HOUR / 2, "hub")]
    jobs = [a_job(name, at, inputs=(name,), names=(target,)) for name, at, target in arrivals]
    sites = [a_site(name) for name in ("ams", "bru", "fra", "hub", "osl")]
    found = ran(a_scenario(sites, jobs, data, links), named("least-loaded"))
    assert found["second"].started_at == pytest.approx(2 * HOUR, abs=30)
    assert found["first"].started_at == pytest.approx(3 * HOUR, abs=60)


def test_data_that_only_a_lost_site_has_comes_once_it_is_back():
    lost = SiteLost(60.0, "ams", 2 * HOUR)
    jobs = [a_job("one", 120.0, inputs=("corpus",), names=("fra",))]
    scenario = a_scenario([a_site("ams"), a_site("fra")], jobs, {"corpus": "ams"}, [a_link("ams", "fra")], [lost])
    for policy in ("least-loaded", "ours"):
        assert ran(scenario, named(policy))["one"].started_at == pytest.approx(3 * HOUR, abs=20)


def test_samples_are_even_while_jobs_come_and_rarer_while_the_last_run_on():
    # one a minute for 24000 s; the last job then runs for 1000 h, which would be 60000 more
    jobs = [a_job("first", run_hours=1), a_job("last", at=24_000.0, run_hours=1000)]
    samples = simulate(a_scenario([a_site("ams")], jobs), Ours()).samples
    times = [sample.at for sample in samples]
    assert times[:401] == [60.0 * number for number in range(401)]
    assert times[-1] > 3_600_000
    assert len(samples) < 600


def test_what_tenants_hold_counts_in_turns():
    # a holds 3 cpus for an hour and b 1; then b is next, though a's job is older
    first = [a_job(f"{name}{number}", 0.0, tenant=name) for number, name in enumerate("aaab")]
    later = [a_job("a9", 60.0, tenant="a", cpus=3), a_job("b9", 120.0, tenant="b", cpus=3)]
    found = ran(a_scenario([a_site("ams")], first + later))
    assert found["b9"].started_at < found["a9"].started_at


def test_best_effort_gives_way_and_begins_again():
    best_effort = a_job("idle", 0.0, run_hours=2, cpus=4, preemptible=True)
    found = ran(a_scenario([a_site("ams", price=1.0)], [best_effort, a_job("firm", HOUR, cpus=4)]))
    assert found["firm"].started_at == pytest.approx(HOUR, abs=60)
    assert (found["idle"].attempts, found["idle"].ended_at) == (2, pytest.approx(4 * HOUR, abs=120))
    assert found["idle"].compute_money == pytest.approx(12.0, abs=0.2)  # 1 h that was lost, and 2 h, of 4 cpus


def test_jobs_of_one_word_run_at_one_site_whenever_they_come():
    # fra is faster, but full for the first 20 h: the first of the word goes to ams, and is there until after 30 h
    sites = [a_site("ams"), a_site("fra", nodes=2, speed=1.2)]
    full = a_job("full", cpus=4, run_hours=24, names=("fra",), tasks=2)
    pair = [a_job("one", 60.0, affinity="w", run_hours=30), a_job("two", 22 * HOUR, affinity="w")]
    found = ran(a_scenario(sites, [full, *pair]))
    assert (found["one"].site, found["two"].site) == ("ams", "ams")
    assert ran(a_scenario(sites, [full, pair[0], a_job("two", 22 * HOUR)]))["two"].site == "fra"


def test_no_more_of_a_spread_are_at_a_site_than_may_be():
    # four of one word, two at each site at most, one cpu each: they come a minute apart and an hour is not over by then
    jobs = [a_job(f"j{number}", 60.0 * number, spread=Spread("replicas", 2)) for number in range(4)]
    found = ran(a_scenario([a_site("ams"), a_site("fra")], jobs))
    assert sorted(job.site for job in found.values()) == ["ams", "ams", "fra", "fra"]


def test_a_job_whose_preferred_site_never_comes_back_goes_to_the_next_in_time():
    # ams is closed for good, and nothing else happens: fra is looked at after two hours
    job = a_job("one", prefer=("ams",), spill_after_s=2 * HOUR)
    found = ran(a_scenario([a_site("ams"), a_site("fra")], [job], changes=[Maintenance(0.0, "ams", math.inf)]))
    assert (found["one"].site, found["one"].started_at) == ("fra", pytest.approx(2 * HOUR, abs=60))


def test_what_prefers_sites_and_can_never_run_is_not_planned_for_each_job():
    # 2000 that came two seconds apart may go beyond ams two hours later: in 4000 s, of which each 300 s have one plan
    jobs = [a_job(f"j{number}", -2.0 * number, cpus=40, prefer=("ams",), spill_after_s=2 * HOUR) for number in range(2000, 0, -1)]
    made = simulate(a_scenario([a_site("ams"), a_site("fra")], jobs), Ours())
    assert all(job.ended_at is None for job in made.jobs)
    assert made.plans < 20


def test_why_jobs_never_run_is_told_by_class():
    jobs = [a_job("fits"), a_job("large", cpus=40), a_job("bound", names=("osl",))]
    made = simulate(a_scenario([a_site("ams")], jobs), Ours())
    assert {job.name for job in made.jobs if job.ended_at is None} == {"large", "bound"}
    assert list(made.passed) == [job.shape for job in jobs[1:]]
    assert "short of" in made.passed[jobs[1].shape]
    assert "ams" in made.passed[jobs[2].shape]
