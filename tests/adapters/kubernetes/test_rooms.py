"""What is left of each pool, with its arithmetic."""

import pytest

from adapters.kubernetes.rooms import amount, asked_by, rooms_of
from adapters.kubernetes.settings import KubernetesSettings
from tests.adapters.kubernetes.examples import a_node, taking
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

POOLS = (Pool("cpu", 2, Resources(4, 8)), Pool("gpu", 1, Resources(4, 8, (("a100", 2),))))
LABELS = {"pools": {"cpu": {"labels": {"pool": "cpu"}}, "gpu": {"labels": {"pool": "gpu"}}}}


def settings(**given):
    return KubernetesSettings.model_validate({"kubeconfig": "/k", **LABELS, **given})


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2), ("100m", 0.1), ("1.5", 1.5), ("8Gi", 2**33), ("24682828Ki", 24682828 * 1024), ("1E3", 1000), ("2G", 2e9), (3, 3)],
)
def test_quantities_are_read(text, number):
    assert float(amount(text)) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "8Zi", "many", "Gi"])
def test_what_is_no_quantity_is_not_guessed_at(text):
    with pytest.raises(ValueError):
        amount(text)


def test_a_pod_takes_its_containers_together_or_its_greediest_start_container():
    # 100m + 200m < 1, memory 1Gi > nothing
    pod = taking(
        "n1", {"cpu": "100m"}, {"cpu": "200m", "memory": "1Gi"}, initContainers=[{"resources": {"requests": {"cpu": "1"}}}],
        overhead={"cpu": "50m"},
    )  # fmt: skip
    assert asked_by(pod.spec) == {"cpu": amount("1050m"), "memory": amount("1Gi")}
    # a sidecar stays: 1 + 0.5
    sidecar = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
    assert asked_by(taking("n1", {"cpu": "500m"}, initContainers=[sidecar]).spec) == {"cpu": amount("1.5")}


def test_room_is_what_nodes_can_give_less_what_others_take():
    nodes = [a_node("n1", "4", labels={"pool": "cpu"}), a_node("n2", "4", labels={"pool": "cpu"})]
    rooms = rooms_of(POOLS, settings(), nodes, [taking("n1", {"cpu": "1500m", "memory": "2Gi"}), taking("", {"cpu": "4"})])
    assert rooms["cpu"] == Room.of([(Resources(2.5, 6), 1), (Resources(4, 8), 1)])
    assert rooms["gpu"] == Room()


def test_cpus_are_those_of_jobs():
    # half a cpu is asked for each: 2 cpus are 4, and a pod that takes one takes two of them
    rooms = rooms_of(POOLS, settings(cpu_request=0.5), [a_node("n1", "2", labels={"pool": "cpu"})], [taking("n1", {"cpu": "1"})])
    assert rooms["cpu"] == Room.of([(Resources(2, 8), 1)])


def test_gpus_are_counted_by_resource_and_label():
    given = settings(gpus={"a100": {"resource": "nvidia.com/gpu", "labels": {"model": "a100"}}})
    has, other = {"pool": "gpu", "model": "a100"}, {"pool": "gpu", "model": "h100"}
    nodes = [a_node("n1", "4", labels=has, **{"nvidia.com/gpu": "2"}), a_node("n2", "4", labels=other, **{"nvidia.com/gpu": "8"})]
    rooms = rooms_of(POOLS, given, nodes, [taking("n1", {"nvidia.com/gpu": "1"})])
    assert rooms["gpu"] == Room.of([(Resources(4, 8, (("a100", 1),)), 1), (Resources(4, 8), 1)])


@pytest.mark.parametrize(
    ("node", "tolerations", "fits"),
    [
        (a_node(ready="Unknown"), [], 0),
        (a_node(spec={"unschedulable": True}), [], 0),
        (a_node(spec={"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}), [], 0),
        (a_node(spec={"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}), [{"key": "gpu", "value": "yes"}], 2),
        (a_node(spec={"taints": [{"key": "gpu", "value": "no", "effect": "NoSchedule"}]}), [{"key": "gpu", "value": "yes"}], 0),
        (a_node(spec={"taints": [{"key": "gpu", "effect": "NoExecute"}]}), [{"operator": "Exists"}], 2),
        (a_node(spec={"taints": [{"key": "slow", "effect": "PreferNoSchedule"}]}), [], 2),
    ],
)
def test_nodes_that_take_no_work_have_no_room(node, tolerations, fits):
    given = KubernetesSettings.model_validate({"kubeconfig": "/k", "pools": {"cpu": {"tolerations": tolerations}}})
    assert rooms_of(POOLS[:1], given, [node], [])["cpu"].fit(Resources(1)) == fits
