"""Figures, and how they are shown."""

import pytest

from broker.simulator.compositions import compose
from broker.simulator.engine import simulate
from broker.simulator.figures import figures_of, jain, mean_of, percentile, plain, spread_of
from broker.simulator.outcome import Outcome, Ran, Sample
from broker.simulator.page import as_html
from broker.simulator.policies import Ours
from broker.simulator.report import HEADS, as_json, rows
from broker.simulator.sweep import Run, Setting, bounded, sweep

HOUR = 3600.0


def a_ran(name, arrived, started, ended, tenant="red", deadline=None, **more):
    given = {"compute_money": 1.0, "egress_money": 0.5, "carbon_kg": 0.1, "wan_gib": 2.0, "attempts": 1, **more}
    site, pool = ("ams", "cpu") if ended else (None, None)
    return Ran(name, tenant, arrived, site, pool, started, ended, deadline_at=deadline, **given)


def test_figures_by_hand():
    jobs = (
        a_ran("one", 0.0, 0.0, HOUR, deadline=HOUR),
        a_ran("two", 0.0, HOUR, 2 * HOUR, tenant="blue", deadline=HOUR),
        a_ran("three", 0.0, None, None),
    )
    made = figures_of(Outcome("s", "p", jobs, (Sample(0.0, 3, {"ams": 0.5, "fra": 0.1}, {}),), 1, 1.0, 2.0))
    assert (made.jobs, made.unfinished, made.mean_wait_h, made.mean_completion_h) == (3, 1, 0.5, 1.5)
    assert (made.money, made.wan_gib, made.carbon_kg) == (pytest.approx(4.5), 6.0, pytest.approx(0.3))
    # slowdowns of 1 and 2: (1 + 2)^2 / (2 * (1 + 4))
    assert made.fairness == pytest.approx(0.9)
    assert (made.deadlines_met, made.cpus_busy, made.planning, made.jobs_per_minute) == (0.5, pytest.approx(0.3), 0.5, 60.0)


def test_nothing_has_figures_too():
    assert figures_of(Outcome("s", "p", (), (), 0, 0.0, 0.0)).mean_completion_h == 0


def test_indices_and_ranks():
    assert jain([1, 1, 1]) == pytest.approx(1)
    assert jain([1, 0, 0]) == pytest.approx(1 / 3)
    assert [percentile([1, 2, 3, 4], part) for part in (0.0, 0.5, 0.95)] == [1, 3, 4]


def test_several_seeds_have_a_mean_and_a_spread():
    outcomes = [figures_of(simulate(compose("generated", seed=seed, jobs=50), Ours())) for seed in (1, 2)]
    mean, spread = mean_of(outcomes), spread_of(outcomes)
    assert mean.mean_completion_h == pytest.approx(sum(each.mean_completion_h for each in outcomes) / 2)
    assert spread["wan_gib"] == (min(each.wan_gib for each in outcomes), max(each.wan_gib for each in outcomes))


@pytest.fixture(scope="module")
def results():
    setting = Setting("generated", jobs=60)
    return list(sweep([Run(setting, seed, policy) for seed in (1, 2) for policy in ("ours", "race")]))


@pytest.fixture(scope="module")
def bounds():
    return {seed: bounded((Setting("generated", jobs=60), seed)) for seed in (1, 2)}


def test_rows_and_json_tell_each_policy_and_the_bound(results, bounds):
    table = [dict(zip(HEADS, row, strict=True)) for row in rows(results, bounds)]
    assert [row["policy"] for row in table] == ["ours", "race", "lower bound"]
    assert table[0]["above bound"] == f"{table[0]['weighed'] / table[2]['weighed'] - 1:.1%}"
    told = as_json(results, bounds)
    assert told["bounds"] == {str(seed): bounds[seed].mean_weighed for seed in (1, 2)}
    assert set(told["policies"]["ours"]["seeds"]) == {"1", "2"}
    assert told["policies"]["ours"]["mean"].keys() == plain(figures_of(results[0].outcome)).keys()
    assert len(told["notes"]) == 2


def test_the_page_has_a_table_and_plots(results, bounds):
    page = as_html(results, bounds)
    assert page.count("<svg") == 12
    for words in ("Simulation", ">ours<", ">lower bound<", "Completion ", "generated: 300 kinds", "mean of 2 seeds"):
        assert words in page
    assert page == as_html(results, bounds)


def test_processes_come_to_the_same(results):
    setting = Setting("generated", jobs=60)
    runs = [Run(setting, seed, policy) for seed in (1, 2) for policy in ("ours", "race")]
    assert [each.outcome.jobs for each in sweep(runs, processes=2)] == [each.outcome.jobs for each in results]


@pytest.mark.parametrize(
    "changed",
    [
        {"estimates_off": 3.0},
        {"links_at": 0.1},
        {"loses_site": True},
        {"spot_losses_per_day": 100.0},
        {"has_maintenance": True},
        {"has_varying_links": True},
    ],
)
def test_a_setting_says_what_goes_otherwise(changed):
    assert Setting("generated", jobs=60, **changed).scenario(1).notes != Setting("generated", jobs=60).scenario(1).notes
