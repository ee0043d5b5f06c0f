from pathlib import Path, PurePosixPath

from adapters.kinds import KINDS
from adapters.yarn.adapter import YarnAdapter, open_yarn
from adapters.yarn.settings import storage_of
from broker.documents.reading import parse_documents
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

WORKED = Path(__file__).parents[3] / "configs" / "engines" / "yarn.yaml"


def test_the_worked_site_is_read():
    (document,) = parse_documents(WORKED.read_text())
    engine = document.body.engine
    settings = KINDS[engine["kind"]].settings.model_validate({name: value for name, value in engine.items() if name != "kind"})
    assert (settings.label("gpu"), settings.label("cpu")) == ("a100-nodes", "")
    assert settings.queues["physics"] == "root.science.physics"
    site = Site("par", Engine("yarn"), (Pool("cpu", 1, Resources(1, 1)),), Storage("webhdfs://nn.par.example:9870/fed"))
    assert storage_of(site, settings) == PurePosixPath("/mnt/fed")
    assert isinstance(open_yarn(site, settings, "fed"), YarnAdapter)
