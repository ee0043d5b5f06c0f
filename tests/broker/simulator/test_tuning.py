"""How baselines are tuned, and what is said of a policy beside others."""

from dataclasses import replace

from broker.simulator.figures import figures_of
from broker.simulator.outcome import Outcome
from broker.simulator.policies import grid_of
from broker.simulator.sweep import Run, Setting
from broker.simulator.tuning import SEED, WINDOW, best, trials
from broker.simulator.verdict import verdict

NOTHING = figures_of(Outcome("s", "p", (), (), 0, 0.0, 0.0))


def some(hours, money, weighed=0.0, unfinished=0):
    return replace(NOTHING, mean_completion_h=hours, compute_money=money, mean_weighed=weighed, unfinished=unfinished)


def test_each_baseline_is_tried_with_its_whole_grid_on_a_short_window_of_another_seed():
    tried = trials(Setting("generated", jobs=20_000, links_at=0.5), ["ours", "locality"])
    assert [run.parameters for run in tried] == grid_of("locality")
    assert {(run.seed, run.setting) for run in tried} == {(SEED, Setting("generated", jobs=WINDOW, links_at=0.5))}


def test_the_least_weighed_of_those_that_finish_the_most_is_chosen():
    runs = [Run(Setting("generated"), SEED, "locality", {"delay_s": delay}) for delay in (0.0, 1.0, 2.0)]
    figures = [some(1, 1, weighed=3.0), some(1, 1, weighed=2.0), some(1, 1, weighed=1.0, unfinished=1)]
    assert best(list(zip(runs, figures, strict=True))) == {"locality": {"delay_s": 1.0}}


def test_a_verdict_tells_both_dimensions():
    said = verdict(some(1.0, 50.0, 2.0), {"soon": some(0.8, 100.0, 4.0), "cheap": some(2.0, 40.0, 3.0), "lost": some(0, 0, 0, 1)})
    assert said == [
        "completion 25.0% above soon, the best of the others, at money 50.0% below its",
        "money 25.0% above cheap, the best of the others, at completion 50.0% below its",
        "weighed cost 33.3% below cheap, which weighs least of the others",
        "at equal or less money completion 50.0% below cheap, the best of the others",
        "at equal or less completion money 50.0% below soon, the best of the others",
    ]


def test_a_verdict_says_where_no_other_comes_near():
    assert verdict(some(1.0, 50.0), {"slow": some(2.0, 60.0)})[-2:] == ["no other costs as little", "no other completes as soon"]
    assert verdict(some(1.0, 50.0), {"lost": some(0, 0, 0, 1)}) == ["no other policy finished as many jobs"]
