from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.kinds import KINDS
from adapters.slurm.adapter import SlurmAdapter, open_slurm
from adapters.slurm.settings import Place, SlurmSettings
from broker.documents.reading import parse_documents
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

WORKED = Path(__file__).parents[3] / "configs" / "engines" / "slurm.yaml"
REST = {"url": "http://h:6820", "user": "u", "token": {"file": "/t"}}


def site(url="file:///srv/x"):
    return Site("ams", Engine("slurm"), (Pool("cpu", 1, Resources(1, 1)),), Storage(url))


def test_the_worked_site_is_read():
    (document,) = parse_documents(WORKED.read_text())
    engine = document.body.engine
    settings = SlurmSettings.model_validate({name: value for name, value in engine.items() if name != "kind"})
    assert settings.place("gpu", "vision") == Place(partition="accelerated", constraint="nvlink", account="p1234", qos="high")
    assert isinstance(open_slurm(site(), settings, "fed"), SlurmAdapter)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"rest": {**REST, "token": "written-out"}},
        {"rest": {**REST, "version": "v0.0.99"}},
        {"command": {"kind": "telnet"}},
        {"command": {"kind": "local"}, "mount": "relative"},
        {"command": {"kind": "local"}, "colour": "red"},
    ],
)
def test_settings_that_cannot_work_are_refused(given):
    with pytest.raises(ValidationError):
        KINDS["slurm"].settings.model_validate(given)


def test_the_tenants_words_come_before_the_pools_and_the_pools_name_is_its_partition():
    given = {"pools": {"gpu": {"partition": "a", "qos": "low"}}, "tenants": {"vision": {"qos": "high"}}}
    settings = SlurmSettings.model_validate({"rest": REST, **given})
    assert settings.place("gpu", "vision") == Place(partition="a", qos="high")
    assert settings.place("cpu", "other") == Place(partition="cpu")


def test_storage_that_is_elsewhere_needs_commands_to_read_it_by():
    settings = SlurmSettings.model_validate({"rest": REST})
    assert open_slurm(site(), settings, "fed")
    with pytest.raises(ValueError, match="command"):
        open_slurm(site("sftp://login/srv/x"), settings, "fed")
    with pytest.raises(ValueError, match="mount"):
        open_slurm(site("s3://"), SlurmSettings.model_validate({"command": {"kind": "local"}}), "fed")
