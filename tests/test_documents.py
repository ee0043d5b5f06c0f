"""What we tell people is so: settings, metrics and the state diagram are described, and as they are."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from broker.config import Settings
from broker.jobs.lifecycle import NEXT
from broker.metrics import Metrics

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_broker_yaml_says_every_setting_with_its_default_and_a_comment():
    path = ROOT / "configs" / "broker.yaml"
    stated = YAML(typ="safe", pure=True).load(path.read_text())
    assert Settings.model_validate(stated) == Settings()
    assert set(stated) == set(Settings.model_fields)
    for name in Settings.model_fields:
        line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
        assert "#" in line, f"{name} has no comment"


def test_the_diagram_of_a_jobs_life_is_made_from_the_table():
    moves = {(str(phase), str(after), event.__name__) for phase, table in NEXT.items() for event, after in table.items()}
    drawn = set(re.findall(r"^    (\w+) --> (\w+): (\w+)$", README, re.MULTILINE))
    assert drawn == moves


def test_every_metric_is_described():
    metrics = {family.name for family in Metrics().registry.collect()}
    described = set(re.findall(r"`(fed_\w+)`", README + (ROOT / "broker" / "README.md").read_text()))
    assert metrics == described


def test_the_readme_maps_every_folder_of_code():
    packages = [package for top in ("topology", "adapters", "broker") for package in (ROOT / top).rglob("__init__.py")]
    folders = {package.parent.relative_to(ROOT) for package in packages}
    assert [str(folder) for folder in sorted(folders) if f"`{folder}/" not in README] == []


def test_the_brokers_readme_says_where_each_module_is():
    readme = (ROOT / "broker" / "README.md").read_text()
    modules = [path for folder in ("", "placement", "sites", "store") for path in (ROOT / "broker" / folder).glob("[a-z]*.py")]
    assert modules
    assert [str(path) for path in modules if f"`{path.name}`" not in readme] == []


def test_the_simulators_readme_says_where_each_module_is():
    readme = (ROOT / "broker/simulator/README.md").read_text()
    modules = list((ROOT / "broker/simulator").glob("[a-z]*.py"))
    assert modules
    assert [path.name for path in modules if f"`{path.name}`" not in readme] == []


@pytest.mark.parametrize("path", [path for path in ROOT.rglob("*.md") if ".venv" not in path.parts], ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []
