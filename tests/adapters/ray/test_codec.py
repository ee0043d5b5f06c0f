import json
import random
from dataclasses import replace

import pytest

from adapters.base import EndReason, Run, SiteState, Unreachable
from adapters.ray.codec import (
    groups_of,
    head_age_s,
    jobs_of,
    names_like_ours,
    needs_of,
    nodes_of,
    refusal,
    request_of,
    spec_hash,
    usage_of,
    version_of,
)
from adapters.ray.reports import Told, is_worth_reading, report_of, told_in
from adapters.ray.rooms import Use, lacking, rooms_of
from adapters.ray.settings import RaySettings
from tests.adapters.ray.replies import (
    GPU,
    GPU_NODE,
    HEAD_NODE,
    KILLED_MESSAGE,
    METADATA,
    ONE,
    TWO,
    VERSION,
    failed,
    group,
    job,
    live,
    node,
    pending,
    state_api,
    status,
)
from topology.resources import Resources
from topology.room import Room
from topology.site import Engine, Pool, Site, Storage

SETTINGS = RaySettings.model_validate(
    {
        "url": "http://head:8265",
        "pools": {"cpu": {"labels": {"pool": "cpu"}}, "gpu": {"resource": "gpu-pool"}},
        "gpus": {"a100": {"counted": "a_100"}, "h100": {"counted": "h_100"}},
    }
)
POOLS = (Pool("cpu", 2, Resources(4, 8)), Pool("gpu", 1, Resources(4, 8, (("a100", 2), ("h100", 1)))))
SITE = Site("osl", Engine("ray"), POOLS, Storage("file:///data"))
NODES = nodes_of(state_api(HEAD_NODE, node(ONE), node(TWO), GPU_NODE))
NOW = 1795411700.0


def a_run(**rest):
    defaults = {"tasks": 1, "per_task": Resources(1, 0.5), "pool": "cpu", "command": ("true",)}
    return Run("fed-j1-a1", "fed", "j1", "default", **{**defaults, **rest})


def one(answer):
    return jobs_of([answer])[0]


def report(answer, told=None):
    return report_of(one(answer), told or Told())


def body(**rest):
    return request_of(a_run(**rest), SITE, SETTINGS, "/data", "pass")


def test_a_task_asks_for_its_cpus_memory_and_a_node_of_its_pool():
    assert {key: value for key, value in body().items() if key.startswith("entrypoint_")} == {
        "entrypoint_num_cpus": 1,
        "entrypoint_num_gpus": 0,
        "entrypoint_memory": 2**29,
        "entrypoint_label_selector": {"pool": "cpu"},
    }


def test_a_gpu_is_asked_for_by_number_and_by_type():
    asked = body(pool="gpu", per_task=Resources(1, 1, (("a100", 2),)))
    assert asked["entrypoint_num_gpus"] == 2
    assert asked["entrypoint_resources"] == {"a_100": 2, "gpu-pool": 0.0001}
    plain = RaySettings(url="http://head:8265")
    asked = request_of(a_run(pool="gpu", per_task=Resources(1, 1, (("a100", 2),))), SITE, plain, "/data", "pass")
    assert asked["entrypoint_resources"] == {"accelerator_type:A100": 0.0001}


def test_what_leads_a_gang_asks_for_nothing_but_its_pool():
    asked = body(tasks=3)
    assert (asked["entrypoint_num_cpus"], asked["entrypoint_memory"]) == (0, 0)
    assert asked["entrypoint_label_selector"] == {"pool": "cpu"}


def test_what_a_job_asked_for_is_read_from_its_metadata():
    assert needs_of(one(job(metadata=body()["metadata"]))) == Resources(1, 0.5)
    assert needs_of(one(job(metadata={"fed_needs": "[]"}))) == Resources()
    assert needs_of(one(job(metadata=None))) == Resources()


def test_a_script_that_is_too_long_is_no_request():
    noise = random.Random(0).randbytes(100_000).hex()
    assert "too long" in body(script=noise)


def test_equal_runs_have_equal_hashes_and_others_do_not():
    run = a_run(env={"a": "1"}, inputs={"x": "y"})
    assert spec_hash(run) == spec_hash(replace(run, native_id="77"))
    assert len({spec_hash(each) for each in (run, replace(run, tasks=2), replace(run, env={"a": "2"}))}) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pool": "nowhere"}, "no pool nowhere"),
        ({"tasks": 9}, "9 x 1 cpus"),
        ({"per_task": Resources(5, 1)}, "do not fit"),
        ({"image": "debian"}, "no image"),
    ],
)
def test_what_never_fits_is_refused_with_the_reason(change, words):
    assert words in refusal(a_run(**change), SITE)


def test_a_job_that_waits_is_queued_though_it_has_a_time():
    assert report(pending()).state is SiteState.QUEUED
    assert report(pending(), Told(began=5.0)).started_at is None


def test_it_runs_when_its_program_began():
    assert report(live()).state is SiteState.QUEUED
    seen = report(live(), Told(began=1795411673.5))
    assert (seen.state, seen.started_at) == (SiteState.RUNNING, 1795411673.5)


def test_a_failure_is_read_from_the_listing_alone():
    seen = report(failed())
    assert (seen.state, seen.exit_code, seen.signal, seen.reason) == (SiteState.FAILED, 3, None, EndReason.PROGRAM_FAILED)
    assert (seen.started_at, seen.ended_at) == (1795410366.5, 1795410367.0)
    assert not is_worth_reading(one(failed()), None, waiting=False)


@pytest.mark.parametrize(
    ("error", "message", "reason", "words"),
    [
        ("JOB_SUPERVISOR_ACTOR_START_TIMEOUT", "", EndReason.PREEMPTED, "RAY_JOB_START_TIMEOUT_SECONDS"),
        ("RUNTIME_ENV_SETUP_FAILURE", "no such package", EndReason.START_FAILED, "no such package"),
        ("JOB_SUPERVISOR_ACTOR_DIED", "its node died", EndReason.NODE_LOST, "its node died"),
        ("JOB_SUPERVISOR_ACTOR_DIED", "node running low on memory", EndReason.OUT_OF_MEMORY, "low on memory"),
        ("OF_NEXT_YEAR", "new words", EndReason.NODE_LOST, "new words"),
    ],
)
def test_ends_that_no_runner_tells_of_have_their_own_reason(error, message, reason, words):
    seen = report(failed(error_type=error, message=message, driver_exit_code=None))
    assert (seen.state, seen.reason) == (SiteState.FAILED, reason)
    assert words in seen.message


@pytest.mark.parametrize("told", [Told(), Told(1.0, (), {})])
def test_a_runner_that_was_killed_is_a_lost_node_and_no_failed_program(told):
    assert report(failed(message="killed", driver_exit_code=-9), told).reason is EndReason.NODE_LOST


def test_what_ray_writes_once_more_of_a_deleted_job_is_nobodys():
    echo = one(job(metadata=None, entrypoint="Entrypoint not found."))
    assert echo.is_echo
    assert names_like_ours("fed", [echo]) == ()
    assert names_like_ours("fed", [one(job(metadata=None, entrypoint="sleep 1"))]) == (echo.name,)


@pytest.mark.parametrize("told", [Told(), Told(1.0, (), {})])
def test_a_runner_that_cannot_be_started_names_the_setting(told):
    seen = report(failed(message="python3: not found", driver_exit_code=127), told)
    assert seen.reason is EndReason.START_FAILED
    assert "`python`" in seen.message


def test_a_job_that_was_killed_while_it_waited_is_cancelled():
    seen = report(pending(status="FAILED", error_type="JOB_SUPERVISOR_ACTOR_DIED", message=KILLED_MESSAGE))
    assert (seen.state, seen.started_at, seen.reason) == (SiteState.CANCELLED, None, None)


def test_a_name_that_was_taken_again_too_soon_is_a_second_start():
    message = "Job supervisor actor died: ... Worker exit type: INTENDED_USER_EXIT Worker exit detail: exit_actor() is called."
    seen = report(pending(status="FAILED", error_type="JOB_SUPERVISOR_ACTOR_DIED", message=message))
    assert (seen.state, seen.reason, seen.started_at) == (SiteState.FAILED, EndReason.CLAIMED, None)


def test_a_state_that_we_do_not_know_is_no_end():
    seen = report(job(status="HIBERNATING"))
    assert (seen.state, seen.message) == (SiteState.UNKNOWN, "Ray says HIBERNATING")


def test_of_two_starts_in_a_log_the_last_is_told():
    first = '@fed {"began": 1.0}\n@fed {"ended": 2.0, "code": 0}\n'
    assert told_in(first + "Running entrypoint\n") == Told(1.0, (), {"ended": 2.0, "code": 0})
    assert told_in(first + '@fed {"at": ["a", "b"]}\n@fed {"began": 7.0}\n') == Told(7.0, ("a", "b"), None)


def test_lines_that_were_cut_or_are_not_ours_say_nothing():
    assert told_in('@fed {"beg\n@fed 7\n@fed {"began": "noon"}\n@fed\nhello') == Told()


def test_a_log_is_read_while_it_may_bring_news():
    assert is_worth_reading(one(live()), None, waiting=False)
    assert not is_worth_reading(one(live()), None, waiting=True)
    assert not is_worth_reading(one(live()), Told(began=1.0), waiting=False)
    assert is_worth_reading(one(job()), Told(began=1.0), waiting=False)
    assert not is_worth_reading(one(job()), Told(1.0, (), {}), waiting=False)
    assert not is_worth_reading(one(pending()), None, waiting=False)


def rooms(jobs=(), groups=(), use=None, at=None, federation="fed"):
    seen = Use(jobs_of(list(jobs)), groups_of(state_api(*groups)), at or {}, usage_of(status(**(use or {}))))
    return rooms_of(SITE, SETTINGS, federation, NODES, seen, NOW)


def test_the_room_is_that_of_the_declared_pools_when_nothing_runs():
    assert rooms() == {pool.name: pool.empty for pool in POOLS}


def test_our_own_runs_take_no_room_whether_the_delayed_report_has_them_or_not():
    own = [live(), live(submission_id="fed-g-a1", metadata={**METADATA, "fed_tasks": "2"})]
    gang = group("fed-g-a1", ONE, TWO)
    whole = {pool.name: pool.empty for pool in POOLS}
    assert rooms(own, [gang]) == whole
    # 1 cpu and 0.5 GiB of the run, and as much of the gang's task
    assert rooms(own, [gang], {ONE: {"CPU": [2.0, 4.0], "memory": [2.0**30, 2.0**33]}, TWO: {"CPU": [1.0, 4.0]}}) == whole


def test_others_take_room_at_once_and_what_no_job_has_when_it_is_reported():
    assert rooms([live()], federation="other")["cpu"] == Room.of([(Resources(3, 7.5), 1), (Resources(4, 8), 1)])
    assert rooms((), [group("somebody's", ONE, ONE)])["cpu"] == Room.of([(Resources(2, 7), 1), (Resources(4, 8), 1)])
    assert rooms((), (), {TWO: {"CPU": [3.0, 4.0]}})["cpu"] == Room.of([(Resources(1, 8), 1), (Resources(4, 8), 1)])


def test_what_ended_a_moment_ago_is_not_taken_for_others_use():
    ended = job(end_time=1000 * (NOW - 3))
    used = {ONE: {"CPU": [1.0, 4.0], "memory": [2.0**29, 2.0**33]}}
    assert rooms([ended], (), used)["cpu"] == POOLS[0].empty
    assert rooms([job(end_time=1000 * (NOW - 60))], (), used)["cpu"] != POOLS[0].empty
    gang = job(end_time=1000 * (NOW - 3), metadata={**METADATA, "fed_tasks": "2"})
    assert rooms([gang], (), used, {"fed-j1-a1": (ONE,)})["cpu"] == POOLS[0].empty


def test_gpus_are_counted_by_type_though_the_report_writes_names_in_its_own_way():
    left = rooms((), (), {GPU: {"a100": [1.0, 2.0], "GPU": [1.0, 3.0], "CPU": [1.0, 4.0]}})["gpu"]
    assert left == Room.of([(Resources(3, 8, (("a100", 1), ("h100", 1))), 1)])


def test_a_pool_of_which_there_is_no_node_is_found():
    assert lacking(SITE, SETTINGS, NODES) is None
    assert lacking(SITE, SETTINGS, NODES[:3]) == POOLS[1]


def test_a_node_that_is_dead_is_no_node():
    assert nodes_of(state_api(node(ONE, state="DEAD"))) == []


def test_the_age_of_a_head_is_told_by_its_own_clock():
    # it looked at 1795410384.5, and started at 1795410324.501
    assert head_age_s(NODES, status()) == pytest.approx(59.999)
    assert head_age_s(NODES[1:], status()) == 0
    assert head_age_s(NODES, {"data": {"clusterStatus": None}}) == 0


def test_names_that_look_like_ours_are_told():
    jobs = jobs_of([job(), job(submission_id="fed-x-a1", metadata={"fed_federation": "fed-x"}), job(submission_id="theirs")])
    assert names_like_ours("fed", jobs) == ("fed-x-a1",)


def test_drivers_that_nobody_submitted_are_no_jobs():
    assert jobs_of([{"type": "DRIVER", "job_id": "01000000", "submission_id": None, "status": "RUNNING"}]) == []


@pytest.mark.parametrize("read", [jobs_of, nodes_of, groups_of, usage_of, version_of])
@pytest.mark.parametrize("answer", [None, 7, "text", [7], {}, {"data": None}, {"data": {"result": {"result": [{"state": 7}]}}}])
def test_an_answer_that_cannot_be_read_is_unreachable(read, answer):
    with pytest.raises(Unreachable):
        read(answer)


def test_the_answers_that_were_recorded_can_be_read():
    assert version_of(VERSION).session_name == "session_2026-11-23_05-04-52_421434_10411"
    assert json.loads(json.dumps(usage_of(status(abc={"CPU": [1.5, 4.0]})))) == {"abc": {"cpu": 1.5}}
