"""What LSF and the jobs themselves tell, as reports. Replies are shaped as IBM's documentation and public projects show them."""

import json
from datetime import UTC, datetime

import pytest

from adapters.base import EndReason, SiteState, Unreachable
from adapters.lsf.codec import JOB_FIELDS, job_of, records_of, slots_by_host
from adapters.lsf.reports import Told, by_name, epoch, report_of, report_of_record, seen_of
from adapters.lsf.rooms import Host, Queue, busy_gpus, hosts_of, queues_of, room_of
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
DESCRIPTION = "fedbroker fed cpu cpus=1 gib=0.5 slots=1 gpus="


def a_record(**fields):
    given = {name.upper(): "" for name in JOB_FIELDS}
    given |= {"JOBID": "101", "JOBINDEX": "0", "STAT": "RUN", "JOB_NAME": "fed-j1-a1", "JOB_DESCRIPTION": DESCRIPTION}
    return given | fields


def reply(*records):
    return json.dumps({"COMMAND": "bjobs", "JOBS": len(records), "RECORDS": list(records)}, indent=2)


def a_job(**fields):
    (record,) = records_of("bjobs", 0, reply(a_record(**fields)), "")
    return job_of(record)


def report(told=None, now=NOW, **fields):
    return report_of(a_job(**fields), told, now)


def at(*parts):
    return datetime(*parts, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Jan  2 03:01", at(2026, 1, 2, 3, 1)),
        ("Dec 28 19:56 L", at(2025, 12, 28, 19, 56)),  # no year: the nearest one
        ("Jan 20 00:00 E", at(2026, 1, 20)),
        ("Oct 28 12:45:12 2026", at(2026, 10, 28, 12, 45, 12)),
        ("Oct 28 12:45:12 2026 X", at(2026, 10, 28, 12, 45, 12)),
        ("Wed Oct 28 12:45:12 2026", at(2026, 10, 28, 12, 45, 12)),
        ("Feb 29 12:00", None),  # of no year near now
        ("-", None),
        ("", None),
        ("soon", None),
    ],
)
def test_times_without_a_year_are_near_now(text, told):
    assert epoch(text, NOW) == told


def test_a_listing_is_found_among_what_sites_print_around_it():
    noise = "Cannot connect to LSF. Please wait ...\nWelcome to <cluster>\n"
    (record,) = records_of("bjobs", 0, noise + reply(a_record()) + "\nbye\n", "")
    assert record["JOBID"] == "101"


def test_a_record_of_an_id_that_is_gone_is_left_out():
    gone = {"JOBID": "99", "ERROR": "Job <99> is not found"}
    assert [record["JOBID"] for record in records_of("bjobs", 255, reply(gone, a_record()), "")] == ["101"]


@pytest.mark.parametrize("text", ["No job found\n", "No unfinished job found\n", "No matching job found", reply()])
def test_no_jobs_are_an_answer(text):
    assert records_of("bjobs", 255, text, "") == records_of("bjobs", 255, text if "{" in text else "", text) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>gateway</html>",
        "batch daemon not responding ... still trying",
        "LSF is down. Please wait ...",
        reply(a_record())[:-30],
        '{"COMMAND":"bjobs"}',
        '{"RECORDS": "none"}',
    ],
)
def test_what_is_no_listing_is_no_answer(text):
    with pytest.raises(Unreachable, match="bjobs"):
        records_of("bjobs", 255, text, "")


def test_a_record_that_lacks_a_field_is_no_answer():
    with pytest.raises(Unreachable, match="STAT"):
        job_of({name: text for name, text in a_record().items() if name != "STAT"})


def test_an_element_of_an_array_is_named_with_its_index():
    assert a_job(JOBINDEX="3").id == "101[3]"


@pytest.mark.parametrize(
    ("text", "slots"),
    [("", {}), ("-", {}), ("a", {"a": 1}), ("16*hostA:8*hostB", {"hostA": 16, "hostB": 8}), ("a:a", {"a": 2})],
)
def test_slots_are_counted_by_host(text, slots):
    assert slots_by_host(text) == slots


@pytest.mark.parametrize("stat", ["PEND", "PROV", "PSUSP", "WAIT"])
def test_what_waits_is_queued_and_says_why(stat):
    told = report(STAT=stat, PEND_REASON="New job is waiting for scheduling;")
    assert (told.state, told.started_at, told.message) == (SiteState.QUEUED, None, "New job is waiting for scheduling;")


@pytest.mark.parametrize("stat", ["UNKWN", "ZOMBI", "HELD"])
def test_what_lsf_lost_sight_of_or_we_cannot_read_is_unknown(stat):
    told = report(STAT=stat, START_TIME="Jan  2 03:00")
    assert (told.state, told.ended_at) == (SiteState.UNKNOWN, None)
    assert stat in told.message


def test_what_runs_started_when_its_script_says_so():
    assert report(STAT="RUN", START_TIME="Jan  2 03:04").state is SiteState.QUEUED
    told = report(Told(started_at=NOW - 2.5), STAT="SSUSP", START_TIME="Jan  2 03:04")
    assert (told.state, told.started_at, told.message) == (SiteState.RUNNING, NOW - 2.5, "suspended (SSUSP)")
    # a script that says nothing for long runs all the same: 03:00 is 245 s before 03:04:05
    assert report(STAT="RUN", START_TIME="Jan  2 03:00").started_at == NOW - 245


def test_times_that_a_job_told_are_exact_and_lsfs_are_whole_minutes():
    done = {"STAT": "DONE", "START_TIME": "Jan  2 03:03", "FINISH_TIME": "Jan  2 03:03 L"}
    told = report(Told(NOW - 9, NOW - 1.5, 0), **done)
    assert (told.state, told.started_at, told.ended_at, told.exit_code) == (SiteState.SUCCEEDED, NOW - 9, NOW - 1.5, 0)
    # 03:03 is before it started at 03:03:56: never an end before a start
    killed = report(Told(NOW - 9), **{**done, "STAT": "EXIT"}, EXIT_REASON="TERM_OWNER: job killed by owner")
    assert (killed.started_at, killed.ended_at) == (NOW - 9, NOW - 9)


@pytest.mark.parametrize(
    ("told", "code", "exit_reason", "state", "reason"),
    [
        (Told(1, 2, 3), "3", "", SiteState.FAILED, EndReason.PROGRAM_FAILED),
        (Told(1), "", "TERM_OWNER: job killed by owner", SiteState.CANCELLED, None),
        (Told(1, 2, 143), "143", "TERM_ADMIN: job killed by root or LSF administrator", SiteState.CANCELLED, None),
        (Told(1), "140", "TERM_RUNLIMIT: job killed after reaching LSF run time limit", SiteState.FAILED, EndReason.WALLTIME),
        (Told(1, has_run_out=True), "143", "TERM_OWNER: job killed by owner", SiteState.FAILED, EndReason.WALLTIME),
        (Told(1, 2, 5, is_failed=True), "", "TERM_OWNER: job killed by owner", SiteState.FAILED, EndReason.PROGRAM_FAILED),
        (Told(1), "137", "TERM_MEMLIMIT: ...", SiteState.FAILED, EndReason.OUT_OF_MEMORY),
        (Told(1), "", "TERM_PREEMPT: job killed after preemption", SiteState.FAILED, EndReason.PREEMPTED),
        (Told(1), "", "TERM_ZOMBIE: job exited while LSF is not available", SiteState.FAILED, EndReason.NODE_LOST),
        (Told(1), "", "TERM_REMOVE_HUNG_JOB: job removed from LSF", SiteState.FAILED, EndReason.NODE_LOST),
        (Told(1), "11", "TERM_UNKNOWN: unknown reason", SiteState.FAILED, EndReason.PROGRAM_FAILED),
        (Told(None, 2, None, EndReason.CLAIMED, "its claim exists already"), "125", "", SiteState.FAILED, EndReason.CLAIMED),
        (Told(1, 2, 125, EndReason.START_FAILED, "no program"), "125", "", SiteState.FAILED, EndReason.START_FAILED),
    ],
)
def test_why_a_job_ended_is_told_apart(told, code, exit_reason, state, reason):
    fields = {"STAT": "EXIT", "START_TIME": "Jan  2 03:00", "FINISH_TIME": "Jan  2 03:01 L"}
    seen = report(told, **fields, EXIT_CODE=code, EXIT_REASON=exit_reason)
    assert (seen.state, seen.reason) == (state, reason)


@pytest.mark.parametrize(("code", "told"), [("138", (None, 10)), ("3", (3, None)), ("200", (200, None)), ("", (None, None))])
def test_a_signal_is_told_as_lsf_tells_it(code, told):
    seen = report(Told(1), STAT="EXIT", START_TIME="Jan  2 03:00", FINISH_TIME="Jan  2 03:01 L", EXIT_CODE=code)
    assert (seen.exit_code, seen.signal) == told


def test_cancelled_while_it_waited_it_never_started():
    seen = report(STAT="EXIT", FINISH_TIME="Jan  2 03:04 L", EXIT_REASON="TERM_OWNER: job killed by owner")
    assert (seen.state, seen.started_at) == (SiteState.CANCELLED, None)


def test_an_end_without_a_record_waits_for_it_and_then_is_a_lost_node():
    fields = {"STAT": "EXIT", "START_TIME": "Jan  2 03:03", "FINISH_TIME": "Jan  2 03:03 L", "EXIT_CODE": "1"}
    assert report(**fields).state is SiteState.UNKNOWN
    later = report(now=NOW + 120, **fields)
    assert (later.state, later.started_at, later.reason) == (SiteState.FAILED, None, EndReason.NODE_LOST)
    done = report(now=NOW + 120, **{**fields, "STAT": "DONE"})
    assert (done.state, done.exit_code) == (SiteState.SUCCEEDED, 0)


def test_records_are_read_and_lines_cut_short_left_out():
    text = (
        "1767323045\nfed-j0-a1@90\n--\n"
        "./fed-j1-a1@101:1767323000.25 started\n./fed-j1-a1@101:1767323010.5 ended 3\n"
        "./fed-j2-a1@102:1767323001.0 left claimed its claim exists already\n"
        "./fed-j3-a1@103:1767323001.0 started\n./fed-j3-a1@103:1767323009.0 left claimed its claim exists already\n"
        "./fed-j4-a1@104:17673\n./fed-j4-a1@104:1767323009.0 ended\n"
    )
    seen = seen_of(text)
    assert (seen.now, seen.forgotten) == (1767323045.0, {"fed-j0-a1@90"})
    assert seen.told["fed-j1-a1@101"] == Told(1767323000.25, 1767323010.5, 3)
    assert seen.told["fed-j2-a1@102"].left is EndReason.CLAIMED
    # started, and started again by LSF: its own claim stops it, and its first start is lost
    assert seen.told["fed-j3-a1@103"].left is EndReason.NODE_LOST
    assert seen.told["fed-j4-a1@104"] == Told()


@pytest.mark.parametrize("text", ["", "date: not found\n--\n", "<html>"])
def test_records_that_cannot_be_read_are_no_answer(text):
    with pytest.raises(Unreachable):
        seen_of(text)


def test_of_jobs_of_one_name_the_one_that_started_is_the_run():
    claimed = report(Told(None, 2, None, EndReason.CLAIMED), STAT="EXIT", JOBID="100")
    waiting, running = report(STAT="PEND", JOBID="99"), report(Told(started_at=1), STAT="RUN", JOBID="101")
    assert by_name([claimed, waiting, running]) == {"fed-j1-a1": running}
    assert by_name([claimed, waiting]) == {"fed-j1-a1": waiting}
    assert by_name([claimed]) == {"fed-j1-a1": claimed}


def test_what_lsf_forgot_is_known_by_its_record():
    assert report_of_record("a", "7", Told(1, 2, 0)).state is SiteState.SUCCEEDED
    assert report_of_record("a", "7", Told(1, 2, 137)).signal == 9
    assert report_of_record("a", "7", Told(1)) is None


def test_queues_and_hosts_are_read():
    queues = queues_of(
        [
            {"QUEUE_NAME": "normal", "STATUS": "Open:Active", "HOSTS": "all "},
            {"QUEUE_NAME": "gpu", "STATUS": "Open:Inact", "HOSTS": "hg1/ hostA+2"},
        ]
    )
    assert queues == {"normal": Queue("normal", True, ()), "gpu": Queue("gpu", False, ("hg1", "hostA"))}
    hosts = hosts_of(
        [
            {"HOST_NAME": "a", "STATUS": "ok", "MAX": "8", "NJOBS": "3"},
            {"HOST_NAME": "b", "STATUS": "unavail", "MAX": "-", "NJOBS": "0"},
        ]
    )
    assert hosts == [Host("a", True, 8, 3), Host("b", False, None, 0)]
    with pytest.raises(Unreachable, match="bhosts"):
        hosts_of([{"HOST_NAME": "a"}])


def test_room_is_what_is_free_and_what_our_own_jobs_hold():
    pool, queue = Pool("cpu", 3, Resources(4, 8)), Queue("cpu", True, ())
    hosts = [Host("a", True, 4, 3), Host("b", True, 4, 1), Host("c", False, 4, 0)]
    ours = [a_job(STAT="RUN", EXEC_HOST="2*a:b"), a_job(STAT="DONE", EXEC_HOST="4*b")]
    # a: 3 used, 2 of them ours: one is others'; b: all used is ours; c takes none
    assert room_of(pool, queue, hosts, {}, ours, {}) == Room.of([(Resources(3, 8), 1), (Resources(4, 8), 1)])
    assert room_of(pool, Queue("cpu", False, ()), hosts, {}, ours, {}) == Room()
    assert room_of(pool, None, hosts, {}, ours, {}) == Room()


GPUS = """HOST_NAME              ID           MODEL     MUSED      MRSV  NJOBS    RUN   SUSP    RSV
hostA                   0   TeslaA100_40GB        0M        0M      1      1      0      0
                        1   TeslaA100_40GB        0M        0M      0      0      0      0
                        2        TeslaH100        0M        0M      1      1      0      0
hostB                   0   TeslaA100_40GB        0M        0M      0      0      0      0
"""


def test_gpus_that_others_use_are_not_room():
    busy = busy_gpus(GPUS)
    assert busy == {"hostA": {"TeslaA100_40GB": 1, "TeslaH100": 1}}
    pool = Pool("gpu", 1, Resources(8, 16, (("a100", 2), ("h100", 1))))
    ours = a_job(EXEC_HOST="hostA", JOB_DESCRIPTION="fedbroker fed gpu cpus=1 gib=1 slots=1 gpus=h100:1")
    models = {"a100": "TeslaA100_40GB", "h100": "TeslaH100"}
    room = room_of(pool, Queue("gpu", True, ()), [Host("hostA", True, 8, 1)], busy, [ours], models)
    assert room == Room.of([(Resources(8, 16, (("a100", 1), ("h100", 1))), 1)])
    assert busy_gpus("No GPU found\n") == {}
