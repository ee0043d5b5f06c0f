"""The worked site means what it says."""

from pathlib import Path

from adapters.kubernetes.settings import KubernetesSettings, check, storage_mount
from broker.documents import parse_documents, site_of

EXAMPLE = Path(__file__).parents[3] / "configs" / "engines" / "kubernetes.yaml"


def test_the_worked_site_is_one():
    (document,) = parse_documents(EXAMPLE.read_text())
    site = site_of(document.body)
    settings = KubernetesSettings.model_validate(site.engine.settings)
    check(site, settings)
    assert str(storage_mount(site, settings)) == "/data"
    assert settings.all_namespaces == ("fed", "vision-jobs")
    assert settings.pool("gpu").tolerations[0].key == "nvidia.com/gpu"
