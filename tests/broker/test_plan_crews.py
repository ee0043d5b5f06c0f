"""Plans made in parts by other processes; those on Ray are in `tests/engines/ray`."""

import importlib.util
import multiprocessing
from concurrent.futures.process import BrokenProcessPool

import pytest

from broker.app import running_broker
from broker.clock import SystemClock
from broker.config import Listen, Planning, Settings, SettingsError, read_settings
from broker.metrics import Metrics
from broker.placement.assign import plan
from broker.placement.grouping import grouped
from broker.placement.isolate import REASON
from broker.placement.merging import plan_in_parts
from broker.plan_crews import DividingDesk
from broker.plan_desk import Desk, Sender
from broker.plan_process import PlanProcess
from broker.store.memory import MemoryServer, MemoryStore
from tests.broker.placement.worlds import a_link, a_shape, a_view, a_world, waiting

IN_TWO = Planning(partitions=2)
LINKS = [a_link(a, b) for a in ("ams", "fra", "osl") for b in ("ams", "fra", "osl") if a != b]


def a_queue(*shapes, at="osl"):
    sites = a_view("ams"), a_view("fra", speed=2), a_view("osl")
    return a_world(*sites, classes=[waiting(shape, 7) for shape in shapes], at={"corpus": at}, links=LINKS)


def in_two(world):
    return plan_in_parts(world, grouped(world, 2), lambda parts: [plan(part) for part in parts])


@pytest.fixture
def desk():
    opened = DividingDesk(IN_TWO)
    yield opened
    opened.close()


def test_processes_plan_what_is_planned_here_and_the_next_time_without_the_links(desk):
    sender, world = Sender(), a_queue(a_shape(), a_shape(inputs=("corpus",)))
    assert desk.plan(sender.pack(world)) == in_two(world)
    again = sender.pack(world)
    assert again.graph is None
    assert desk.plan(again) == in_two(world)


def test_a_member_that_dies_breaks_the_crew(desk):
    desk.plan(Sender().pack(a_queue(a_shape())))
    for member in multiprocessing.active_children():
        member.kill()
        member.join()
    with pytest.raises(BrokenProcessPool):
        desk.plan(Sender().pack(a_queue(a_shape())))


def test_a_class_that_cannot_be_divided_is_told_and_the_others_are_planned_whole(desk):
    broken, world = a_shape(tasks=0), a_queue(a_shape(), a_shape(tasks=0))
    made = desk.plan(Sender().pack(world))
    assert {placement.shape for placement in made.placements} == {a_shape()}
    assert made.passed[broken].reason == REASON.format(error="ValueError('a job of 0 tasks')")
    assert len(made.faults) == 2  # the division, and the class alone


async def test_a_broker_whose_settings_say_so_plans_in_parts():
    process, world = PlanProcess(Metrics(), IN_TWO), a_queue(a_shape(), a_shape(run_hours=2))
    try:
        await process.start()
        assert await process(world) == in_two(world)
    finally:
        await process.close()


def test_a_desk_is_sent_only_what_its_queue_reads():
    parcel = Sender().pack(a_queue(a_shape(inputs=("corpus",)), at="ams osl"))
    assert sorted(replica.site for replica in parcel.replicas) == ["ams", "osl"]
    assert Sender().pack(a_queue(a_shape())).replicas == []
    assert Desk().unpacked(parcel).topology.replica_sites(parcel.datasets[0].id) == ("ams", "osl")


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
async def test_plans_on_ray_without_ray_are_refused_with_the_cure():
    settings = Settings(listen=Listen(port=0), planning=Planning(partitions=2, ray="local"))
    with pytest.raises(SettingsError, match=r"planning.ray: the extra `ray` is not installed: pip install 'fedbroker\[ray\]'"):
        async with running_broker(settings, MemoryStore(MemoryServer(SystemClock()))):
            pass


def test_one_part_on_ray_is_refused():
    with pytest.raises(SettingsError, match=r"planning.*set partitions to 2 or more"):
        read_settings(None, {"planning": {"ray": "local"}})
