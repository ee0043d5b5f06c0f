"""Hard rules: each says no in words, and what would help."""

from dataclasses import replace

import pytest

from broker.placement.explain import can_ever_fit, why
from broker.records import Health
from tests.broker.placement.worlds import a_shape, a_view, a_world
from topology.site import Admission, Fabric

CASES = [
    (a_shape(names=("fra",)), a_view("ams"), "is not fra, as the job requires", ""),
    (a_shape(exclude=("ams",)), a_view("ams"), "is excluded by the job", ""),
    (a_shape(regions=("us", "asia")), a_view("ams", region="eu"), "region is eu, not us or asia", ""),
    (a_shape(refused_by=("ams",)), a_view("ams"), "refused an earlier attempt", ""),
    (a_shape(fabric="rdma"), a_view("ams", fabric=Fabric.ETHERNET), "fabric is ethernet, not rdma", ""),
    (a_shape(fabric="infiniband"), a_view("ams", fabric=Fabric.ROCE), "fabric is roce, not infiniband", ""),
    (a_shape(file_system="lustre"), a_view("ams"), "file system is not declared, not lustre", ""),
    (a_shape(needs=("images",)), a_view("ams"), "its engine, process, takes no container images", ""),
    (a_shape(cpus=12), a_view("ams", cpus=8), "short of 4 cpus on each node of pool cpu", "nodes with 4 cpus more at ams"),
    (a_shape(tasks=9), a_view("ams", cpus=8), "pool cpu holds 8 of 9 tasks when empty", "nodes for 1 more tasks at ams"),
    (a_shape(gpus=1, gpu_types=("h100",)), a_view("ams", gpus={"a100": 8}), "no h100 GPUs in pool cpu", "h100 GPUs at ams"),
    (a_shape(), a_view("ams", admission=Admission.CORDONED), "is cordoned", "uncordon ams"),
    (a_shape(), a_view("ams", admission=Admission.DRAINING), "is draining", "uncordon ams"),
    (a_shape(), a_view("ams", health=Health.DOWN, reason="no route to host"), "health is down: no route to host", "ams to be up"),
    (a_shape(inputs=("corpus",)), a_view("ams"), "default/corpus@1 is at no site", "a replica of default/corpus@1"),
]


@pytest.mark.parametrize(("shape", "view", "text", "cure"), CASES, ids=[case[2] for case in CASES])
def test_each_rule_says_no_in_words(shape, view, text, cure):
    explanation = why(shape, a_world(view))
    (verdict,) = explanation.verdicts
    assert verdict.text == f"ams: no, {text}"
    assert explanation.help == ((cure,) if cure else ())
    assert explanation.site is None


def test_an_image_goes_where_images_are_taken():
    takes_images = replace(a_view("fra"), takes=frozenset({"images"}))
    assert why(a_shape(needs=("images",)), a_world(a_view("ams"), takes_images)).site == "fra"


def test_rdma_is_any_fabric_that_has_it():
    for fabric in (Fabric.ROCE, Fabric.INFINIBAND):
        assert why(a_shape(fabric="rdma"), a_world(a_view("ams", fabric=fabric))).site == "ams"


def test_tasks_use_gpus_of_one_type_that_the_job_takes():
    # 2 GPUs of each type: a gang of 2 tasks with one GPU each fits either, with two each neither
    view = a_view("ams", gpus={"a100": 2, "h100": 2})
    assert why(a_shape(tasks=2, gpus=1, gpu_types=("h100",)), a_world(view)).verdicts[0].gpu_type == "h100"
    assert why(a_shape(tasks=2, gpus=1), a_world(view)).verdicts[0].gpu_type == "a100"
    assert why(a_shape(gpus=3), a_world(view)).site is None


def test_a_job_that_fits_nowhere_is_told_so_at_submit():
    sites = [a_view("ams", cpus=8), a_view("fra", cpus=16, region="us")]
    assert can_ever_fit(a_shape(cpus=16), sites) == ()
    assert can_ever_fit(a_shape(cpus=12, regions=("eu",)), sites) == (
        "ams: region is not declared, not eu, short of 4 cpus on each node of pool cpu",
        "fra: region is us, not eu",
    )


def test_a_cordoned_site_could_still_fit_one_day():
    assert can_ever_fit(a_shape(), [a_view("ams", admission=Admission.CORDONED)]) == ()
