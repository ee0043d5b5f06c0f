"""What would come of a change: by example, the arithmetic beside it."""

from dataclasses import replace

import pytest

from broker.documents.whatif import WhatIfBody
from broker.jobs.model import Weights
from broker.placement.view import TenantView
from broker.simulator.changes import changed
from broker.simulator.scenario import Underway
from broker.simulator.whatif import Moved, Use, what_if
from tests.broker.simulator.scenes import a_job, a_link, a_scenario, a_site

HOUR = 3600.0


def asked(scenario, **body):
    return what_if(scenario, changed(scenario, WhatIfBody.model_validate(body)))


def test_more_nodes_halve_the_wait():
    # 4 jobs of a whole node and an hour each: one node ends them after 1, 2, 3 and 4 h; two after 1, 1, 2 and 2 h
    scenario = a_scenario([a_site("ams")], [a_job(f"j{number}", cpus=4) for number in range(4)])
    answer = asked(scenario, nodes=[{"site": "ams", "pool": "cpu", "more": 1}])
    before, after = answer.whole.before, answer.whole.after
    assert (before.mean_end_h, before.last_end_h) == (pytest.approx(2.5, abs=0.02), pytest.approx(4, abs=0.02))
    assert (after.mean_end_h, after.last_end_h) == (pytest.approx(1.5, abs=0.02), pytest.approx(2, abs=0.02))
    (of_class,) = answer.classes
    assert (of_class.name, of_class.before.jobs) == ("default: 4 cpus, 0 GiB, 1.0 h", 4)


def test_a_lost_site_takes_what_runs_there_and_what_only_it_has():
    # one job runs at ams for another hour; one waits for data that only ams has; both could run at fra
    job, reader = a_job("runs", -HOUR, run_hours=2), a_job("reads", inputs=("corpus",))
    scenario = a_scenario([a_site("ams"), a_site("fra")], [reader], {"corpus": "ams"}, [a_link("ams", "fra")])
    scenario = replace(scenario, begun=(Underway(job, "ams", "cpu", None, HOUR),))
    answer = asked(scenario, lose_sites=["ams"])
    assert (answer.whole.before.jobs, answer.whole.before.never_end) == (2, 0)
    assert answer.whole.before.last_end_h == pytest.approx(1.0, abs=0.01)
    assert (answer.moved, answer.whole.after.never_end) == (1, 1)
    assert answer.whole.after.last_end_h == pytest.approx(2.0, abs=0.01)


def test_what_runs_already_keeps_its_room_until_it_ends():
    job = a_job("runs", cpus=4, run_hours=5)
    scenario = replace(
        a_scenario([a_site("ams")], [a_job("waits", -600.0, cpus=4)]),
        begun=(Underway(job, "ams", "cpu", None, 2 * HOUR),),
    )
    answer = what_if(scenario, scenario)
    assert answer.whole.before.last_end_h == pytest.approx(3.0, abs=0.02)
    assert answer.classes == ()


def test_a_price_moves_jobs_and_money():
    # an hour at ams costs 1, at fra 2; then 3 at ams
    job = a_job("one", objective=replace(a_job("x").shape.objective, hours=0.001, money=1.0))
    scenario = a_scenario([a_site("ams", price=1.0), a_site("fra", price=2.0)], [job])
    answer = asked(scenario, prices=[{"site": "ams", "cpu_hour": 3.0}])
    assert (answer.whole.before.money, answer.whole.after.money) == (pytest.approx(1.0), pytest.approx(2.0))


def test_a_new_link_brings_data():
    scenario = a_scenario([a_site("ams"), a_site("fra")], [a_job("one", inputs=("corpus",), names=("fra",))], {"corpus": "ams"})
    answer = asked(scenario, links=[{"from": "ams", "to": "fra", "bandwidth_gbps": 10.0}])
    assert (answer.whole.before.never_end, answer.whole.after.never_end) == (1, 0)
    assert answer.whole.after.wan_gib == pytest.approx(3600)


def test_a_weight_changes_whose_turn_it_is():
    jobs = [a_job(f"{name}{number}", tenant=name, cpus=4) for number in range(3) for name in "ab"]
    scenario = replace(a_scenario([a_site("ams")], jobs), tenants=(TenantView("a"), TenantView("b")))
    answer = asked(scenario, weights={"a": 1000.0})
    by_name = {each.name: each for each in answer.tenants}
    assert by_name["a"].after.mean_end_h < by_name["a"].before.mean_end_h
    assert by_name["b"].after.mean_end_h > by_name["b"].before.mean_end_h


def test_a_job_that_waits_at_a_lost_site_goes_elsewhere_and_counts_as_one_that_waited():
    # ams runs one job for another hour, the other waits behind it: an hour each
    jobs = [a_job(name, -HOUR, cpus=4) for name in ("runs", "waits")]
    begun = (Underway(jobs[0], "ams", "cpu", None, HOUR), Underway(jobs[1], "ams", "cpu", None, None))
    answer = asked(replace(a_scenario([a_site("ams"), a_site("fra", nodes=2)], []), begun=begun), lose_sites=["ams"])
    assert (answer.whole.before.last_start_h, answer.whole.before.last_end_h) == (pytest.approx(1), pytest.approx(2))
    assert (answer.whole.after.last_start_h, answer.whole.after.last_end_h) == (pytest.approx(0), pytest.approx(1))
    assert answer.moved == 1


def test_the_classes_of_which_most_changes_come_first():
    # a second node ends the four jobs of an hour 4 h sooner in all, and the two of 0.1 h by less; what stays is left out
    long = [a_job(f"l{number}", cpus=4, names=("ams",)) for number in range(4)]
    short = [a_job(f"s{number}", cpus=4, run_hours=0.1, names=("osl",)) for number in range(2)]
    other = [a_job("other", cpus=1, names=("fra",))]
    scenario = a_scenario([a_site(name) for name in ("ams", "osl", "fra")], [*long, *short, *other])
    answer = asked(scenario, nodes=[{"site": site, "pool": "cpu", "more": 1} for site in ("ams", "osl")])
    assert [each.name for each in answer.classes] == ["default: 4 cpus, 0 GiB, 1.0 h", "default: 4 cpus, 0 GiB, 6 min"]


def test_what_would_begin_again_is_named_and_where_it_would_end():
    # both run at ams for another hour; only the small one fits elsewhere
    jobs = {"small": a_job("small", -HOUR, run_hours=2), "large": a_job("large", -HOUR, run_hours=2, cpus=3, tenant="red")}
    begun = tuple(Underway(job, "ams", "cpu", None, HOUR) for job in jobs.values())
    scenario = replace(a_scenario([a_site("ams"), a_site("fra", cpus=2)], []), begun=begun)
    answer = asked(scenario, lose_sites=["ams"])
    assert answer.moved == 2
    assert answer.moved_jobs == (Moved("small", "default", "ams", "fra"), Moved("large", "red", "ams", None))


def test_why_jobs_never_run_is_told_with_how_many():
    # two need data that only ams has, one is too large for any site
    jobs = [*(a_job(f"r{number}", inputs=("corpus",)) for number in range(2)), a_job("large", cpus=9)]
    scenario = a_scenario([a_site("ams"), a_site("fra")], jobs, {"corpus": "ams"}, [a_link("ams", "fra")])
    readers, large = asked(scenario, lose_sites=["ams"]).stuck
    assert (readers.before, readers.after, large.before, large.after) == (0, 2, 1, 1)
    assert "ams: is lost" in readers.reason
    assert "short of 5 cpus" in large.reason


def test_each_site_is_told_what_it_is_used_and_what_that_costs():
    # 2 cpus for 1 h at ams, or for half an hour at fra; ams may be closed to it. 2 * 100 W are 0.2 kWh an hour
    sites = [a_site("ams", price=1.0, carbon_g_per_kwh=500.0), a_site("fra", speed=2.0, price=4.0, carbon_g_per_kwh=100.0)]
    scenario = a_scenario(sites, [a_job("one", cpus=2, objective=Weights(0.001, 1.0, 0.0))])
    answer = asked(scenario, lose_sites=["ams"])
    ams, fra = answer.sites
    # ams: 2 cpu hours at 1; fra: 1 cpu hour at 4
    assert (ams.before, ams.after) == (Use(1, pytest.approx(2.0), 0.0, pytest.approx(2.0)), Use(0, 0.0, 0.0, 0.0))
    assert (fra.before, fra.after) == (Use(0, 0.0, 0.0, 0.0), Use(1, pytest.approx(1.0), 0.0, pytest.approx(4.0)))
    # 0.2 kWh at 500 g; 0.1 kWh at 100 g
    assert (answer.whole.before.carbon_kg, answer.whole.after.carbon_kg) == (pytest.approx(0.1), pytest.approx(0.01))


def test_a_job_that_minds_carbon_follows_cleaner_electricity():
    # an hour of one cpu is 0.1 kWh: 0.05 kg at 500 g, 0.02 at 200, and then 0.001 at 10
    sites = [a_site("ams", carbon_g_per_kwh=500.0), a_site("fra", carbon_g_per_kwh=200.0)]
    answer = asked(a_scenario(sites, [a_job("one", objective=Weights(0.001, 0.0, 1.0))]), carbon={"ams": 10.0})
    assert (answer.whole.before.carbon_kg, answer.whole.after.carbon_kg) == (pytest.approx(0.02), pytest.approx(0.001))
    assert [(each.before.jobs, each.after.jobs) for each in answer.sites] == [(0, 1), (1, 0)]
