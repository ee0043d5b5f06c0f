from pathlib import Path, PurePosixPath

from adapters.base import Run
from adapters.kinds import KINDS
from adapters.yarn.adapter import YarnAdapter, open_yarn
from adapters.yarn.master.staging import Place
from adapters.yarn.settings import storage_of
from adapters.yarn.spark import spark_objection
from broker.documents.reading import parse_documents
from broker.documents.values import job_of
from topology.dataset import DatasetId
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

CONFIGS = Path(__file__).parents[3] / "configs" / "engines"


def worked(name):
    """The body of a worked site, and its engine's settings."""
    (document,) = parse_documents((CONFIGS / name).read_text())
    engine = document.body.engine
    settings = {name: value for name, value in engine.items() if name != "kind"}
    return document.body, KINDS[engine["kind"]].settings.model_validate(settings)


def test_the_worked_site_is_read():
    _, settings = worked("yarn.yaml")
    assert (settings.label("gpu"), settings.label("cpu")) == ("a100-nodes", "")
    assert settings.queues["physics"] == "root.science.physics"
    site = Site("par", Engine("yarn"), (Pool("cpu", 1, Resources(1, 1)),), Storage("webhdfs://nn.par.example:9870/fed"))
    assert storage_of(site, settings) == PurePosixPath("/mnt/fed")
    assert isinstance(open_yarn(site, settings, "fed"), YarnAdapter)


def test_the_worked_spark_applications_are_read_and_run_at_the_worked_site():
    _, settings = worked("yarn.yaml")
    documents = parse_documents((CONFIGS / "spark.yaml").read_text(), default_kind="Job")
    for document in documents:
        _, spec = job_of(document.body, lambda tenant, name, version: DatasetId(tenant, name, version or "1"))
        run = Run("fed-j1-a1", "fed", "j1", spec.tenant, 1, spec.resources.on(None), "cpu", (), spark=spec.spark)
        assert run.spark
        assert spark_objection(run, run.spark, PurePosixPath("/mnt/fed"), settings) is None
    assert len(documents) == 2


def test_the_worked_site_in_hdfs_is_read():
    body, settings = worked("yarn-hdfs.yaml")
    storage = Storage(body.storage.url, options=body.storage.options)
    site = Site("waw", Engine("yarn"), (Pool("cpu", 1, Resources(1, 1)),), storage)
    assert storage_of(site, settings) == Place(("nn1.waw.example:9870", "nn2.waw.example:9870"), "fedbroker", "/fed")
