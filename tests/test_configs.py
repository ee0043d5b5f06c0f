"""Files for operators are as the program is."""

import configparser
import json
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from broker.metrics import Metrics
from tests.engines.etcd.cluster import built_binary
from tests.running import FED

CONFIGS = Path(__file__).parent.parent / "configs"


def test_the_dashboard_asks_for_metrics_and_labels_that_are_there():
    known = {}
    for family in Metrics().registry.collect():
        known[family.name] = family
    panels = json.loads((CONFIGS / "grafana.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    used = {re.sub(r"_(total|bucket|count|sum)$", "", name) for expr in asked for name in re.findall(r"fed_\w+", expr)}
    assert used <= known.keys()
    assert known.keys() - used == set()


def test_panels_of_the_dashboard_do_not_lie_upon_each_other():
    places = set()
    for panel in json.loads((CONFIGS / "grafana.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not places & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells


def test_the_units_command_takes_its_options():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(CONFIGS / "fedbroker.service")
    _, verb, *options = unit["Service"]["ExecStart"].split()
    help_ = subprocess.run([*FED, verb, "--help"], capture_output=True, text=True, check=True, env={"COLUMNS": "200"}).stdout
    assert [option for option in options if option.startswith("--") and option not in help_] == []


@pytest.mark.skipif(built_binary() is None, reason="no etcd is built: run `make engines`")
def test_etcd_takes_the_members_file(tmp_path):
    member = YAML(typ="safe", pure=True).load((CONFIGS / "etcd-member.yaml").read_text())
    member |= {"data-dir": str(tmp_path / "data"), "unknown-to-etcd": True}
    path = tmp_path / "member.yaml"
    path.write_text(json.dumps(member))
    said = subprocess.run([str(built_binary()), "--config-file", str(path)], capture_output=True, text=True, timeout=60)
    assert said.returncode != 0
    assert re.search(r"ca\.pem|etcd1\.(pem|key)", said.stderr + said.stdout)  # all is read, but there is no certificate
