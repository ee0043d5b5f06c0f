"""What a resource manager lists, read: states, ends, rooms, and whose it is."""

from __future__ import annotations

import pytest

from adapters.base import EndReason, SiteState, Unreachable
from adapters.yarn.codec import NAME
from adapters.yarn.listing import apps_of, chosen, foreign, nodes_of, report_of, rooms_of
from adapters.yarn.master.task import Ending
from adapters.yarn.settings import YarnSettings
from tests.adapters.yarn.replies import SUCCEEDED, app, apps, live, node, waiting
from topology.resources import Resources
from topology.room import Room
from topology.site import Engine, Pool, Site, Storage

SITE = Site(
    "ams",
    Engine("yarn"),
    (Pool("cpu", 2, Resources(4, 4)), Pool("gpu", 1, Resources(4, 4, (("a100", 2),)))),
    Storage("file:///srv/site"),
)
SETTINGS = YarnSettings(resource_manager=("http://rm:8088",), labels={"gpu": "gpu-nodes"})
EXITED = "Application a failed 1 times due to AM Container for b exited with  exitCode: {}\nFailing this attempt."
GANG = SUCCEEDED["applicationTags"].replace("fed-tasks:1", "fed-tasks:4")


def read(fields):
    (found,) = apps_of(apps(fields))
    return report_of(found, SITE)


def test_a_run_that_succeeded():
    report = read(app())
    assert (report.name, report.native_id, report.pool) == ("fed-j1-a1", "application_1795410942091_0001", "cpu")
    assert (report.state, report.exit_code, report.signal, report.reason) == (SiteState.SUCCEEDED, 0, None, None)
    assert (report.started_at, report.ended_at) == (1795410948.909, 1795410949.94)


@pytest.mark.parametrize("state", ["NEW", "NEW_SAVING", "SUBMITTED", "ACCEPTED"])
def test_what_has_no_container_waits(state):
    report = read(waiting(state=state))
    assert (report.state, report.started_at, report.ended_at) == (SiteState.QUEUED, None, None)


def test_a_gang_waits_until_its_master_has_all_containers():
    gathering = read(live(applicationTags=GANG, progress=0.0))
    assert (gathering.state, gathering.started_at) == (SiteState.QUEUED, None)
    assert read(live(applicationTags=GANG, progress=50.0)).state is SiteState.RUNNING
    assert read(live(progress=0.0)).state is SiteState.RUNNING


def test_after_a_restart_nothing_is_known_until_the_master_is_heard_of():
    words = "Attempt recovered after RM restart"
    assert read(live(state="ACCEPTED", diagnostics=words)).state is SiteState.UNKNOWN


def test_a_run_whose_end_is_not_yet_saved_still_runs():
    assert read(live(state="RUNNING", finalStatus="SUCCEEDED", progress=100.0)).state is SiteState.RUNNING
    assert read(app(finishedTime=0)).state is SiteState.RUNNING


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (Ending(exit_code=3), EndReason.PROGRAM_FAILED),
        (Ending(signal=10), EndReason.PROGRAM_FAILED),
        (Ending(reason="walltime", message="ran for longer than 1 s"), EndReason.WALLTIME),
        (Ending(reason="claimed", has_started=False), EndReason.CLAIMED),
        (Ending(reason="out-of-memory"), EndReason.OUT_OF_MEMORY),
    ],
)
def test_what_the_application_master_said_is_how_it_ended(ending, reason):
    report = read(app(finalStatus="FAILED", diagnostics=ending.line()))
    assert (report.state, report.reason) == (SiteState.FAILED, reason)
    assert (report.exit_code, report.signal, report.message) == (ending.exit_code, ending.signal, ending.message)
    assert (report.started_at is not None) == ending.has_started


@pytest.mark.parametrize(
    ("diagnostics", "reason"),
    [
        (EXITED.format(-104), "out-of-memory"),
        (EXITED.format(-100), "node-lost"),
        (EXITED.format(-102), "preempted"),
        (EXITED.format(-1000), "start-failed"),
        (EXITED.format(127), "start-failed"),
        ("Application a failed 1 times due to ApplicationMaster for attempt b timed out. Failing the application.", "node-lost"),
        (EXITED.format(137), None),
    ],
)
def test_a_master_that_said_nothing_failed_for_what_yarn_says(diagnostics, reason):
    report = read(app(state="FAILED", finalStatus="FAILED", diagnostics=diagnostics))
    assert (report.state, report.reason, report.exit_code) == (SiteState.FAILED, reason, None)
    assert report.message == diagnostics


def test_a_killed_run_was_cancelled_but_for_its_lifetime():
    killed = read(app(state="KILLED", finalStatus="KILLED", diagnostics="Application a was killed by user broker"))
    assert (killed.state, killed.reason, killed.exit_code) == (SiteState.CANCELLED, None, None)
    words = "Application is killed by ResourceManager as it has exceeded the lifetime period."
    late = read(app(state="KILLED", finalStatus="KILLED", diagnostics=words))
    assert (late.state, late.reason) == (SiteState.FAILED, EndReason.WALLTIME)


@pytest.mark.parametrize("fields", [{"state": "HIBERNATING"}, {"finalStatus": "ENDED"}, {"finalStatus": "UNDEFINED"}])
def test_a_state_that_is_not_known_stays_so(fields):
    report = read(app(**fields))
    assert (report.state, report.ended_at) == (SiteState.UNKNOWN, None)
    assert "state" in report.message


def test_of_two_applications_of_a_name_the_one_that_found_its_claim_is_not_the_run():
    claimed = app(id="application_1_0001", finalStatus="FAILED", diagnostics=Ending(reason="claimed").line())
    second = live(id="application_1_0002")
    third = live(id="application_1_0003")
    assert chosen(apps_of(apps(third, claimed, second)), "fed")["fed-j1-a1"].id == "application_1_0002"
    assert chosen(apps_of(apps(claimed)), "fed")["fed-j1-a1"].id == "application_1_0001"


def test_whose_an_application_is_its_tags_say():
    theirs = app(name="fed-b-j1-a1", applicationTags="fedbroker,fed-of:fed-b,fed-run:fed-b-j1-a1")
    renamed = app(name="fed-j9-a1")
    found = apps_of(apps(app(), theirs, renamed))
    assert list(chosen(found, "fed")) == ["fed-j1-a1"]
    assert list(foreign(found, "fed")) == ["fed-b-j1-a1", "fed-j9-a1"]
    assert foreign(found, "osl") == []
    assert found[0].tag(NAME) == "fed-j1-a1"


def test_room_is_what_is_free_and_what_we_hold():
    # n1: 4 vcores, 3 used: 2 by our gang's other containers, as far as can be told; n2: 2 used, 1 by our single run
    nodes = nodes_of({"nodes": {"node": [node("n1:8042", 4, 3), node("n2:8042", 4, 2), node("n3:8042", 4, 0, "gpu-nodes", 2)]}})
    single = live(amHostHttpAddress="n2:8042", allocatedMB=1024)
    gang = live(name="fed-j2-a1", amHostHttpAddress="n1:8042", allocatedMB=2048, allocatedVCores=2, runningContainers=2)
    rooms = rooms_of(nodes, apps_of(apps(single, gang)), SITE, SETTINGS)
    assert rooms["cpu"] == Room.of([(Resources(3, 3), 2)])
    assert rooms["gpu"] == Room.of([(Resources(4, 4, (("a100", 2),)), 1)])


def test_our_gpus_are_given_back_by_type():
    tags = SUCCEEDED["applicationTags"].replace("fed-pool:cpu", "fed-pool:gpu,fed-gpus:a100=1")
    nodes = nodes_of({"nodes": {"node": node("n3:8042", 4, 2, "gpu-nodes", gpus=2, used_gpus=2)}})
    ours = apps_of(apps(live(amHostHttpAddress="n3:8042", allocatedMB=1024, applicationTags=tags)))
    assert rooms_of(nodes, ours, SITE, SETTINGS)["gpu"] == Room.of([(Resources(3, 3, (("a100", 1),)), 1)])


def test_a_node_that_does_not_run_has_no_room():
    nodes = nodes_of({"nodes": {"node": [node("n1:8042", 4, 0), node("n2:8042", 4, 0, state="UNHEALTHY")]}})
    assert rooms_of(nodes, [], SITE, SETTINGS)["cpu"] == Room.of([(Resources(4, 4), 1)])


def test_a_node_that_has_just_registered_has_no_room_yet():
    # as recorded just after a restart: in the list of nodes, and not yet in the scheduler's
    early = {key: value for key, value in node("n2:8042", 0, 0).items() if not key.endswith("Resource")}
    nodes = nodes_of({"nodes": {"node": [node("n1:8042", 4, 0), early]}})
    assert rooms_of(nodes, [], SITE, SETTINGS)["cpu"].fit(Resources(1)) == 4


@pytest.mark.parametrize("listing", [{"apps": {"app": [{"id": "a"}]}}, [], "text", {"apps": {"app": app(launchTime="soon")}}])
def test_a_listing_that_makes_no_sense_is_no_listing(listing):
    with pytest.raises(Unreachable):
        apps_of(listing)


@pytest.mark.parametrize("found", [{"state": "RUNNING"}, node("a:1", 4, 0, usedMemoryMB="?")])
def test_nodes_that_make_no_sense_are_no_nodes(found):
    with pytest.raises(Unreachable):
        rooms_of(nodes_of({"nodes": {"node": [found]}}), [], SITE, SETTINGS)


def test_an_empty_listing_is_empty():
    assert apps_of({"apps": None}) == apps_of({"apps": {}}) == apps_of({}) == []
