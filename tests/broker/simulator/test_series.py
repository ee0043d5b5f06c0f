"""Spot machines and electricity as recorded, and what becomes of scenarios by them."""

import gzip
import json

import pytest

from broker.simulator.compositions import compose
from broker.simulator.engine import simulate
from broker.simulator.modifiers import with_carbon_traces, with_spot_traces
from broker.simulator.policies import Ours
from broker.simulator.readers import BadTrace
from broker.simulator.scenario import Carbon, NodesLost
from broker.simulator.series import Series, files_of, read_carbon, read_spot
from tests.broker.simulator.scenes import a_job, a_scenario, a_site

HOUR = 3600.0


def test_changes_are_told_from_any_moment_on_and_go_round():
    # 5 5 7 | 5 5 7 ...: from second 15, in the middle of the second 5, on
    series = Series("s", 10.0, (5.0, 5.0, 7.0))
    assert series.changes(15.0, 40.0) == [(0.0, 5.0), (5.0, 7.0), (15.0, 5.0), (35.0, 7.0)]


def test_spot_traces_and_carbon_tables_are_read(tmp_path):
    with gzip.open(tmp_path / "zone_a.json.gz", "wt") as zipped:
        json.dump({"metadata": {"gap_seconds": 195}, "data": [0, 1]}, zipped)
    assert read_spot(tmp_path / "zone_a.json.gz") == Series("zone_a", 195.0, (0.0, 1.0))
    (tmp_path / "ES.csv").write_text("timestamp,carbon_intensity\n2022-01-01 00:00:00.000,100.5\n2022-01-01 00:15:00.000,90\n")
    assert read_carbon(tmp_path / "ES.csv") == Series("ES", 900.0, (100.5, 90.0))
    assert files_of(tmp_path, "*.json*") == [tmp_path / "zone_a.json.gz"]


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (read_spot, "{", "t.csv: no JSON"),
        (read_spot, "[]", "t.csv: metadata.gap_seconds None: seconds, at least 1"),
        (read_spot, '{"metadata": {"gap_seconds": NaN}, "data": [1]}', "t.csv: metadata.gap_seconds nan: seconds, at least 1"),
        (read_spot, '{"metadata": {"gap_seconds": 5}, "data": [2]}', "t.csv: data: a list of 0"),
        (read_carbon, "a,b\n", "t.csv: it should have a column Datetime"),
        (read_carbon, "timestamp,carbon_intensity\nnow,1\n", "t.csv:2: timestamp 'now': like"),
        (read_carbon, "timestamp,carbon_intensity\n2022-01-01 00:00:00,much\n", "t.csv:2: carbon_intensity 'much': a number"),
        (read_carbon, "timestamp,carbon_intensity\n2022-01-01 00:00:00,-5\n", "t.csv:2: carbon_intensity '-5': g per kWh"),
        (read_carbon, "timestamp,carbon_intensity\n2022-01-01 00:00:00,1\n", "t.csv: at least two rows"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, read, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadTrace, match="^" + told):
        read(tmp_path / "t.csv")


def test_a_folder_without_any_is_told(tmp_path):
    with pytest.raises(BadTrace, match="there is no"):
        files_of(tmp_path, "*.json*")


def test_half_of_each_pool_goes_while_no_spot_machine_was_to_be_had():
    made = a_scenario([a_site("ams", nodes=3), a_site("fra", nodes=1)], [a_job("one", run_hours=1)])
    spot = [Series("a", HOUR, (0.0, 1.0)), Series("b", HOUR, (1.0, 1.0, 0.0, 0.0))]
    changed = with_spot_traces(made, spot, seed=1)
    lost = [change for change in changed.changes if isinstance(change, NodesLost)]
    assert {(change.site, change.nodes, change.until - change.at) for change in lost if change.at > 0} >= {("ams", 1, HOUR)}
    assert {change.until - change.at for change in lost if change.site == "fra" and change.at > 0} == {2 * HOUR}
    assert "a to ams, b to fra" in changed.notes
    assert changed == with_spot_traces(made, spot, seed=1)


def test_electricity_is_as_recorded():
    # 1 h of one cpu of 100 W: 0.1 kWh at 300 g
    made = a_scenario([a_site("ams", carbon_g_per_kwh=500.0)], [a_job("one", run_hours=1)])
    changed = with_carbon_traces(made, [Series("a", HOUR, (300.0, 300.0))], seed=1)
    assert changed.changes == (Carbon(0.0, "ams", 300.0),)
    assert simulate(changed, Ours()).jobs[0].carbon_kg == pytest.approx(0.03)


def test_recorded_losses_are_survived():
    made = with_spot_traces(compose("generated", seed=1, jobs=200), [Series("a", 600.0, (0.0, 1.0))], seed=1)
    assert all(job.ended_at is not None for job in simulate(made, Ours()).jobs)
