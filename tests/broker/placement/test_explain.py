"""Decisions in words and numbers. More of them in tests/scenarios."""

from broker.jobs.model import Attempt, Choice, Cost, Decision
from broker.placement.explain import of_attempt, why
from tests.broker.placement.worlds import a_link, a_shape, a_view, a_world, running
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
