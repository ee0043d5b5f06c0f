from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.kinds import KINDS, open_adapter
from adapters.ray.settings import GpuSettings, RaySettings, check
from broker.documents.reading import parse_documents
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

WORKED = Path(__file__).parents[3] / "configs" / "engines" / "ray.yaml"
URL = "http://head:8265"


def a_site(url="file:///srv/x", **settings):
    return Site("osl", Engine("ray", {"url": URL, **settings}), (Pool("cpu", 1, Resources(1, 1)),), Storage(url))


def test_the_worked_site_is_read():
    (document,) = parse_documents(WORKED.read_text())
    engine = document.body.engine
    settings = KINDS[engine["kind"]].settings.model_validate({name: value for name, value in engine.items() if name != "kind"})
    assert settings.gpu("a100") == GpuSettings(marker="accelerator_type:A100")
    assert settings.pool("gpu").resource == "gpu-pool"


def test_a_type_that_is_not_told_of_is_marked_as_ray_does():
    assert RaySettings(url=URL).gpu("h100") == GpuSettings(marker="accelerator_type:H100")


@pytest.mark.parametrize("given", [{"url": "head:8265"}, {"token": "abc"}, {"tokens": {"env": "X"}}, {"mount": "data"}])
def test_settings_that_make_no_sense_are_refused(given):
    with pytest.raises(ValidationError):
        RaySettings.model_validate({"url": URL, **given})


@pytest.mark.parametrize(
    ("site", "words"),
    [(a_site(pools={"gpu": {}}), "no such pool"), (a_site("s3://bucket"), "mount: say where")],
)
def test_what_does_not_fit_the_site_is_refused_with_the_cure(site, words):
    with pytest.raises(ValueError, match=words):
        open_adapter(site, "fed")


def test_storage_elsewhere_needs_a_mount_alone():
    check(a_site("s3://bucket"), RaySettings(url=URL, mount="/data"))
