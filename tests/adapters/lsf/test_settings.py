from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.commands import SshTransport
from adapters.lsf.adapter import LsfAdapter, open_lsf
from adapters.lsf.settings import LsfSettings, MemoryUnit, TenantSettings
from broker.documents.reading import parse_documents
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

WORKED = Path(__file__).parents[3] / "configs" / "engines" / "lsf.yaml"


def test_the_worked_site_is_read():
    (document,) = parse_documents(WORKED.read_text())
    engine = document.body.engine
    settings = LsfSettings.model_validate({name: value for name, value in engine.items() if name != "kind"})
    assert isinstance(settings.transport, SshTransport)
    assert settings.memory_unit is MemoryUnit.MB
    assert settings.tenant("vision").queue == "vision"
    assert settings.tenant("another") == TenantSettings(project="default")
    site = Site("lsf", Engine("lsf"), (Pool("cpu", 1, Resources(1, 1)),), Storage("sftp://login.example.org/gpfs/projects/fed"))
    assert isinstance(open_lsf(site, settings, "fed"), LsfAdapter)


@pytest.mark.parametrize(
    "given",
    [
        {"transport": {"kind": "telnet"}},
        {"transport": {"kind": "ssh", "host": "a", "user": "b", "key": "-----BEGIN", "known_hosts": "/k"}},
        {"memory_unit": "blocks"},
        {"mount": "relative"},
        {"bin": "bin"},
        {"cpus": "threads"},
        {"pools": {"cpu": {"partition": "p"}}},
        {"colour": "red"},
    ],
)
def test_settings_that_cannot_work_are_refused(given):
    with pytest.raises(ValidationError):
        LsfSettings.model_validate(given)
