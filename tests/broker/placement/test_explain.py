"""Decisions in words and numbers. More of them in tests/scenarios."""

import pytest

from broker.jobs.model import Attempt, Choice, Cost, Decision
from broker.placement.assign import plan
from broker.placement.explain import of_attempt, why
from broker.placement.view import Binding, Held, TenantView
from broker.records import Health, Quota
from tests.broker.placement.worlds import NOW, a_link, a_shape, a_view, a_world, running, waiting
from topology.resources import Resources
from topology.site import Power, Price


def test_a_size_that_is_guessed_is_told():
    given = a_world(a_view("fra"), a_view("ams"), at={"corpus": "ams"}, sizes={"corpus": None}, links=[a_link("ams", "fra")])
    here, there = why(a_shape(inputs=("corpus",)), given).verdicts
    assert here.text == "ams: 1.0 h = run 1.0 h"
    assert there.text.endswith(", with 1 GiB taken for default/corpus@1, not measured yet")


def test_every_site_has_its_verdict():
    # ams holds the data: run 1 h; fra brings 3600 GiB at 1 GiB/s: 1 h + 1 h = 2 h; osl is too small
    views = a_view("ams"), a_view("fra"), a_view("osl", cpus=4)
    given = a_world(*views, at={"corpus": "ams"}, links=[a_link("ams", "fra")])
    explanation = why(a_shape(run_hours=1, cpus=8, inputs=("corpus",)), given)
    assert [verdict.text for verdict in explanation.verdicts] == [
        "ams: 1.0 h = run 1.0 h",
        "fra: 2.0 h = bring 3600 GiB from ams 1.0 h + run 1.0 h",
        "osl: no, short of 4 cpus on each node of pool cpu",
    ]
    assert explanation.site == "ams"


def test_a_full_site_says_how_long_and_what_is_short():
    # a gang of 8: 6 fit; the other 2 cpus come back in 2 h
    explanation = why(a_shape(run_hours=1, tasks=8), a_world(a_view("ams", held=(running(2, until=2),))))
    assert explanation.verdicts[0].text == "ams: 3.0 h = wait 2.0 h (6 of 8 tasks fit) + run 1.0 h"
    assert explanation.reason == "waits for ams/cpu, about 2.0 h: 6 of 8 tasks fit"
    assert explanation.help == ("2 cpus more at ams",)


def test_money_and_carbon_are_told_where_there_are_any():
    # 2 tasks of 4 cpus for 2 h = 16 cpu h: * 0.05 EUR = 0.80 EUR; * 10 W = 0.16 kWh, * 200 g = 32 g; 10 GiB * 0.02 EUR = 0.20 EUR
    site = a_view("fra", power=Power(10, 0), price=Price("EUR", 0.05), carbon_g_per_kwh=200)
    links = [a_link("ams", "fra", price=0.02)]
    given = a_world(a_view("ams", cpus=2), site, at={"corpus": "ams"}, sizes={"corpus": 10}, links=links)
    explanation = why(a_shape(run_hours=2, tasks=2, cpus=4, inputs=("corpus",)), given)
    text = "fra: 2.0 h = bring 10.0 GiB from ams 10 s + run 2.0 h, 1.00 EUR (0.20 EUR of it for transfers), 32 g CO2"
    assert explanation.verdicts[0].text == text


def test_a_placed_job_tells_what_decided():
    here, there = Cost(run_hours=1), Cost(staging_hours=1, run_hours=1, egress_money=0.5)
    decision = Decision(here, (Choice("fra", "cpu", there),), objections=2)
    assert of_attempt(Attempt(1, "ams", "cpu", 0.0, decision=decision), "EUR") == (
        "ams: 1.0 h = run 1.0 h",
        "fra: 2.0 h = staging 1.0 h + run 1.0 h, 0.50 EUR (0.50 EUR of it for transfers)",
        "2 sites could not take it",
    )


def test_the_rule_that_leaves_out_most_sites_is_named_with_what_remains_without_it():
    views = a_view("ams", region="eu"), a_view("fra", region="eu"), a_view("osl", region="no", health=Health.DOWN)
    told = why(a_shape(regions=("no",)), a_world(*views))
    assert told.binding == Binding("region", "region rules out 2 of 3 sites; without it ams, fra could take it")


@pytest.mark.parametrize(
    ("shape", "binding"),
    [
        ({"cpus": 5}, ("cpus", "ams/cpu is short of 1 cpus")),
        ({"memory_gib": 32}, ("memory", "ams/cpu is short of 8 GiB memory")),
        ({"gpus": 2}, ("gpus", "ams/cpu is short of 1 a100 GPUs")),
        ({"cpus": 8, "memory_gib": 32}, ("cpus", "ams/cpu is short of 4 cpus")),
    ],
)
def test_the_resource_that_is_short_is_named_and_of_several_that_of_which_most_is(shape, binding):
    # 4 of 8 cpus, 24 of 64 GiB and 1 of 4 GPUs are free; of 8 cpus a half lacks, of 32 GiB a quarter
    held = Held("cpu", Resources.of(4, 40, {"a100": 3}), 1, (NOW + 3600,))
    assert why(a_shape(**shape), a_world(a_view("ams", gpus={"a100": 4}, held=(held,)))).binding == Binding(*binding)


def test_nodes_that_are_too_broken_up_are_named():
    view = a_view("ams", nodes=2, held=(running(7, until=1, count=2),))
    told = why(a_shape(cpus=2), a_world(view))
    assert told.binding == Binding("nodes", "ams/cpu has 2 cpus free, yet not together on its nodes")


def test_of_what_waits_before_it_a_job_is_told_as_the_last_plan_left_it():
    # ams is full for 2 h; the 8 jobs of 2 h that wait before it then take it for 2 h: 4 h in all, a half of it for its turn
    large, late = a_shape(run_hours=2, priority=90), a_shape(run_hours=1)
    world = a_world(a_view("ams", held=(running(1, until=2, count=8),)), classes=[waiting(large, 8), waiting(late)])
    told = why(late, world, last=plan(world))
    assert told.binding == Binding("turn", "2.0 h of work for ams/cpu is before it")
    assert (told.waits_for, told.wait.hours, told.wait.behind_hours) == (("ams", "cpu"), 4.0, 2.0)
    assert why(large, world, last=plan(world)).wait.hours == 2.0


def test_a_site_that_it_prefers_binds_a_job_that_may_not_go_elsewhere_yet():
    views = a_view("ams", health=Health.DOWN), a_view("fra")
    told = why(a_shape(prefer=("ams",), spill_after_s=3600.0), a_world(*views))
    assert told.binding == Binding("preference", "waits for ams, which it prefers, 1.0 h more; then any other site")
    assert "without preferring any site: it would start now at fra" in [remedy.text for remedy in told.remedies]


def test_a_site_where_a_quota_allows_nothing_objects():
    tenant = TenantView("a", quotas=(Quota("cpus", 0.0, "ams"),))
    idle = a_world(a_view("ams"), a_view("fra"), tenants=(tenant,))
    told = why(a_shape(tenant="a"), idle)
    assert told.site == "fra"
    assert told.verdicts[-1].text == "ams: no, tenant a holds 0 of the 0 cpus at ams that it may, and a job needs 1"
    full = a_world(a_view("ams"), a_view("fra", held=(running(8, until=2),)), tenants=(tenant,))
    assert why(a_shape(tenant="a"), full).reason.startswith("waits for fra/cpu, about 2.0 h")
