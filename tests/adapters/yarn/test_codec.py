"""Runs to applications: tags, sizes, orders and objections."""

from __future__ import annotations

import random
import shlex
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from pydantic import ValidationError

from adapters.base import Run, Spark
from adapters.yarn.carried import master_zip
from adapters.yarn.codec import MOST_ORDER, PIECE, encoded, objection, order_of, size_of, spec_of, submission, tags_of, too_long
from adapters.yarn.master.application import ORDER, Order
from adapters.yarn.master.scheduler import Size
from adapters.yarn.master.staging import Place, Stage
from adapters.yarn.settings import YarnSettings, storage_of
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

SETTINGS = YarnSettings(
    resource_manager=("http://rm:8088",), queues={"physics": "physics"}, labels={"gpu": "gpu-nodes"}, priority=3
)
STORAGE = PurePosixPath("/srv/site")
SITE = Site(
    "ams",
    Engine("yarn"),
    (Pool("cpu", 2, Resources(4, 8)), Pool("gpu", 1, Resources(4, 8, (("a100", 2),)))),
    Storage("file:///srv/site"),
)
RUN = Run("fed-j1-a1", "fed", "j1", "physics", 1, Resources(1, 0.5), "cpu", ("true",), native_id="application_1_0001")


def a_run(**fields):
    return replace(RUN, **fields)


def test_a_submission_says_who_it_is_for_and_how_large_it_is():
    body = submission(RUN, order_of(RUN, STORAGE, SETTINGS), SETTINGS, "the master")
    assert (body["application-id"], body["application-name"]) == ("application_1_0001", "fed-j1-a1")
    assert (body["queue"], body["priority"], body["max-app-attempts"]) == ("physics", 3, 1)
    assert body["resource"] == {"memory": 512, "vCores": 1}
    assert "app-node-label-expression" not in body
    tags = ["fedbroker", "fed-of:fed", "fed-run:fed-j1-a1", f"fed-spec:{spec_of(RUN)}", "fed-tasks:1", "fed-pool:cpu"]
    assert body["application-tags"] == {"tag": tags}


def test_a_gpu_is_a_resource_of_a_labelled_node():
    run = a_run(pool="gpu", per_task=Resources(1.5, 1, (("a100", 2),)), tenant="arts")
    body = submission(run, order_of(run, STORAGE, SETTINGS), SETTINGS, "")
    (gpu,) = body["resource"]["resourceInformations"]["resourceInformation"]
    assert (gpu["name"], gpu["value"], body["resource"]["vCores"]) == ("yarn.io/gpu", 2, 2)
    assert body["app-node-label-expression"] == body["am-container-node-label-expression"] == "gpu-nodes"
    assert body["queue"] == "default"
    assert "fed-gpus:a100=2" in tags_of(run)


def test_a_container_is_whole_mebibytes_and_vcores():
    assert size_of(Resources(0.25, 0.0001), SETTINGS) == Size(1, 1, {})
    assert size_of(Resources(2.1, 1.0001), SETTINGS) == Size(1025, 3, {})


def test_a_name_too_long_for_a_tag_is_a_digest_there():
    long = a_run(name=f"fed-{'x' * 200}-a1")
    assert max(map(len, tags_of(long))) <= 100
    assert tags_of(long) != tags_of(a_run(name=f"fed-{'x' * 201}-a1"))


def test_runs_of_one_name_are_told_apart_by_all_but_their_id():
    assert spec_of(RUN) == spec_of(a_run(native_id=None))
    assert spec_of(RUN) != spec_of(a_run(tasks=2))


def test_an_order_in_pieces_is_read_as_it_was():
    order = order_of(a_run(script="".join(chr(33 + number * 7919 % 90) for number in range(300_000))), STORAGE, SETTINGS)
    body = submission(RUN, order, SETTINGS, "code")
    environment = {entry["key"]: entry["value"] for entry in body["am-container-spec"]["environment"]["entry"]}
    assert max(map(len, environment.values())) <= PIECE
    assert Order.read(environment) == order


def test_an_order_longer_than_yarn_keeps_is_not_sent():
    order = order_of(RUN, STORAGE, SETTINGS)
    assert too_long(order) is None
    noise = random.Random(4).randbytes(MOST_ORDER).hex()
    long = order_of(a_run(script=noise), STORAGE, SETTINGS)
    assert len(encoded(long)) > MOST_ORDER
    assert "too long" in (too_long(long) or "")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pool": "nowhere"}, "no pool nowhere"),
        ({"tasks": 9}, "never has 9 times"),
        ({"per_task": Resources(1, 1, (("a100", 1),))}, "1 a100 GPUs"),
        ({"per_task": Resources(0.5, 0.1), "tasks": 9}, "never has 9 times"),
        ({"image": "python:3"}, "images"),
        ({"spark": Spark("job.py")}, "Spark"),
    ],
)
def test_what_a_site_can_never_run_is_said(fields, words):
    assert words in (objection(a_run(**fields), SITE, STORAGE, SETTINGS) or "")


def test_what_fits_is_taken():
    assert objection(a_run(tasks=8), SITE, STORAGE, SETTINGS) is None


def test_storage_is_seen_where_its_url_or_the_settings_say():
    assert storage_of(SITE, SETTINGS) == STORAGE
    far = replace(SITE, storage=Storage("sftp://login/fed"))
    with pytest.raises(ValueError, match="mount"):
        storage_of(far, SETTINGS)
    assert storage_of(far, SETTINGS.model_copy(update={"mount": "/mnt/fed"})) == PurePosixPath("/mnt/fed")


def test_storage_in_hdfs_is_not_mounted_unless_settings_say_so():
    def at(**options):
        return replace(SITE, storage=Storage("webhdfs://nn/fed%20b", options=options))

    assert storage_of(at(), SETTINGS) == Place(("nn:9870",), "fedbroker", "/fed b")
    near = SETTINGS.model_copy(update={"name_nodes": ("nn1:50070", "nn2:50070")})
    assert storage_of(at(user="fed"), near) == Place(("nn1:50070", "nn2:50070"), "fed", "/fed b")
    for asked in ({"token": {"env": "T"}}, {"user": "u", "password": {"env": "P"}}, {"https": True}):
        with pytest.raises(ValueError, match="mount"):
            storage_of(at(**asked), SETTINGS)
        assert storage_of(at(**asked), SETTINGS.model_copy(update={"mount": "/mnt"})) == PurePosixPath("/mnt")


def test_what_goes_to_hdfs_is_read_as_it_was_written():
    stage = Stage(Place(["nn:9870"], "fed", "/fed/"), {"a 'b'": "in/a"}, {"w": "out/w"})
    assert Stage.read(stage.text()) == stage
    assert stage.path("in/a") == "/fed/in/a"
    script = order_of(a_run(inputs=stage.inputs), Place(("nn:9870",), "fed", "/"), SETTINGS).task
    first = next(line for line in script.splitlines() if " keep " in line)
    words = shlex.split(first)
    assert Stage.read(words[words.index("keep") + 1]).inputs == stage.inputs


def test_settings_take_one_login_and_no_words_of_secrets():
    secret = {"env": "WORD"}
    YarnSettings.model_validate({"resource_manager": ["https://gate/gateway/yarn"], "token": secret})
    for wrong in ({"token": secret, "password": secret}, {"password": "words"}, {"resource_manager": []}, {"colour": "blue"}):
        with pytest.raises(ValidationError):
            YarnSettings.model_validate({"resource_manager": ["http://rm:8088"], **wrong})


def test_what_every_application_carries_is_small_and_always_the_same():
    first = master_zip()
    master_zip.cache_clear()
    assert master_zip() == first
    assert len(first) < 32_000
    assert ORDER not in first
