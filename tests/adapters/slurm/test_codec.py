"""What recorded replies of real Slurms mean."""

import json
from pathlib import Path

import pytest

from adapters.base import Accepted, EndReason, Run, SiteState, Unknown, Unreachable
from adapters.slurm import codec, commandline_codec, rest_codec
from adapters.slurm.batch import Submission
from adapters.slurm.codec import Job, Listing, Node
from adapters.slurm.settings import Place, SlurmSettings
from topology.resources import Resources
from topology.room import Room
from topology.site import Pool

RECORDED = Path(__file__).parent / "recorded"
LOCAL = SlurmSettings.model_validate({"command": {"kind": "local"}})
POOLS = (Pool("cpu", 2, Resources(4, 8)), Pool("gpu", 1, Resources(4, 8, (("a100", 2), ("h100", 1)))))


def recorded(name):
    return json.loads((RECORDED / name).read_text())


def squeue():
    return commandline_codec.listing_from_text((RECORDED / "squeue-22.05.txt").read_text())


def rest():
    return rest_codec.listing_from_json(
        recorded("nodes-v0.0.38.json"), recorded("jobs-v0.0.38.json"), recorded("diag-v0.0.38.json")
    )


def sacct():
    return commandline_codec.history_from_text((RECORDED / "sacct-22.05.txt").read_text())


@pytest.mark.parametrize("listing", [squeue, rest])
def test_what_squeue_and_rest_say_is_the_same(listing):
    reports = codec.reports_of(listing().jobs, "fed")
    said = {name: (report.state, report.exit_code, report.signal, report.reason) for name, report in reports.items()}
    assert {name.split("-")[1]: words for name, words in said.items()} == {
        "ok": (SiteState.SUCCEEDED, 0, None, None),
        "bad": (SiteState.FAILED, 3, None, EndReason.PROGRAM_FAILED),
        "sig": (SiteState.FAILED, None, 10, EndReason.PROGRAM_FAILED),
        "nope": (SiteState.FAILED, None, None, EndReason.START_FAILED),
        "gang": (SiteState.RUNNING, None, None, None),
        "gpu": (SiteState.RUNNING, None, None, None),
        "wait": (SiteState.QUEUED, None, None, None),
    }
    assert reports["fed-nope-a1"].message == "there is no program nope"
    assert reports["fed-gpu-a1"].pool == "gpu"
    assert reports["fed-wait-a1"].started_at is None


def test_accounting_says_of_what_is_over_as_the_listing_does():
    listed = codec.reports_of(squeue().jobs, "fed")
    past = codec.reports_of_past(sacct(), "fed")
    assert len(past) == 4
    assert past == {name: listed[name] for name in past}


@pytest.mark.parametrize("listing", [squeue, rest])
def test_our_own_runs_take_no_room_and_others_do(listing):
    # the gang has 4 of n1's cpus and 2 of n2's, 0.5 GiB with each; the GPU run a cpu, 0.5 GiB and an a100
    empty = {pool.name: pool.empty for pool in POOLS}
    assert codec.rooms_of(listing(), "fed", POOLS, LOCAL) == empty
    rooms = codec.rooms_of(listing(), "other", POOLS, LOCAL)
    assert rooms["cpu"] == Room.of([(Resources(0, 6), 1), (Resources(2, 7), 1)])
    assert rooms["gpu"] == Room.of([(Resources(3, 7.5, (("a100", 1), ("h100", 1))), 1)])


@pytest.mark.parametrize(("ended_at", "room"), [(103.0, 4), (102.0, 4), (101.0, 2)])
def test_what_of_ours_ended_while_we_listed_leaves_no_hole(ended_at, room):
    # the node was listed at 103 with two cpus taken; a run of ours that held them ended in that second, or long before
    node = Node("n1", frozenset({"cpu"}), frozenset({"MIXED"}), Resources(4, 8), Resources(2, 1))
    ours = Job("1", "fed-j-a1", "me", ("COMPLETED",), comment="fed fed cpu", ended_at=ended_at, held={"n1": Resources(2, 1)})
    rooms = codec.rooms_of(Listing([node], [ours], "", 103.0), "fed", POOLS[:1], LOCAL)
    assert rooms["cpu"].fit(Resources(1)) == room


def test_what_looks_like_ours_and_is_not_is_foreign():
    assert set(codec.foreign_names(squeue().jobs, "fe")) == set()
    jobs = [Job("1", "fed-x-a1", "me", ("RUNNING",), comment="fed fed-x cpu"), Job("2", "fed-y-a1", "me", ("RUNNING",))]
    assert codec.foreign_names(jobs, "fed") == ("fed-x-a1", "fed-y-a1")
    assert codec.reports_of(jobs, "fed") == {}


def test_the_newer_dialect_is_read_as_well():
    (job,) = [rest_codec.job_from_json(job, {}) for job in recorded("jobs-v0.0.41.json")["jobs"]]
    assert (job.states, job.status, job.submitted_at) == (("FAILED",), 3 << 8, 1795346133)
    assert job.held == {"gamma-n1": Resources(1, 100 / 1024)}


@pytest.mark.parametrize("size", [0, 100, 400, 900, 2000, -11])
def test_a_listing_that_is_cut_short_is_no_answer(size):
    with pytest.raises(Unreachable):
        commandline_codec.listing_from_text((RECORDED / "squeue-22.05.txt").read_text()[:size])


@pytest.mark.parametrize("text", ["<html>", "\x1e\x1e\x1e", "a\x1fb\x1f\n\x1e\x1e\x1e1795410609\n"])
def test_what_no_listing_looks_like_is_no_answer(text):
    with pytest.raises(Unreachable):
        commandline_codec.listing_from_text(text)


@pytest.mark.parametrize("reply", [None, [], {}, {"nodes": None}, {"nodes": [{}]}, "<html>"])
def test_json_that_is_no_listing_is_no_answer(reply):
    with pytest.raises(Unreachable):
        rest_codec.listing_from_json(reply, reply, reply)


def job(number, *states, comment="fed fed cpu", nodes=("n1",), **rest):
    return Job(str(number), "fed-j-a1", "me", states, comment=comment, held=dict.fromkeys(nodes, Resources()), **rest)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("TIMEOUT", EndReason.WALLTIME),
        ("OUT_OF_MEMORY", EndReason.OUT_OF_MEMORY),
        ("NODE_FAIL", EndReason.NODE_LOST),
        ("BOOT_FAIL", EndReason.NODE_LOST),
        ("PREEMPTED", EndReason.PREEMPTED),
        ("FAILED", EndReason.NODE_LOST),  # with no exit code: Slurm could not start it
    ],
)
def test_why_slurm_ended_a_job_is_told(state, reason):
    report = codec.report_of(job(1, state))
    assert (report.state, report.reason, report.exit_code, report.signal) == (SiteState.FAILED, reason, None, None)
    assert state in report.message


def test_a_state_without_a_reading_is_unknown_and_never_over():
    assert codec.report_of(job(1, "ON_HOLIDAY")).state is SiteState.UNKNOWN
    assert codec.report_of(job(1)).state is SiteState.UNKNOWN


def test_a_job_that_is_completing_is_not_over():
    assert codec.report_of(job(1, "CANCELLED", "COMPLETING")).state is SiteState.RUNNING


def test_a_job_that_was_refused_never_was():
    assert codec.reports_of([job(1, "FAILED", nodes=(), reason="BadConstraints")], "fed") == {}


@pytest.mark.parametrize("number", [EndReason.CLAIMED, EndReason.START_FAILED, EndReason.NODE_LOST, EndReason.WALLTIME])
def test_the_signal_by_which_the_script_left_tells_why(number):
    report = codec.report_of(job(1, "FAILED", status=codec.LEAVE_SIGNALS[number], comment=f"fed fed cpu {number} some words"))
    assert (report.reason, report.message, report.signal) == (number, "some words", None)


LEFT = [(number, None) for number in codec.LEAVE_SIGNALS.values()]


@pytest.mark.parametrize(("status", "number"), [(15, 15), (9, 9), (0, None), *LEFT])
def test_a_run_that_was_cancelled_tells_the_signal_that_ended_it_and_none_by_which_its_script_left(status, number):
    report = codec.report_of(job(1, "CANCELLED", status=status))
    assert (report.state, report.signal, report.reason) == (SiteState.CANCELLED, number, None)


CLAIMED = {"status": codec.LEAVE_SIGNALS[EndReason.CLAIMED]}


@pytest.mark.parametrize(
    ("one", "other", "wins"),
    [
        (job(1, "COMPLETED"), job(2, "FAILED", **CLAIMED), "1"),
        (job(1, "FAILED", **CLAIMED), job(2, "RUNNING"), "2"),
        (job(1, "PENDING"), job(2, "COMPLETED"), "2"),
        (job(1, "RUNNING"), job(2, "COMPLETED"), "2"),  # 1 is about to find the claim
        (job(1, "NODE_FAIL"), job(2, "RUNNING"), "2"),  # 1 may never have had it
        (job(1, "CANCELLED"), job(2, "PENDING"), "2"),
        (job(1, "FAILED", **CLAIMED, submitted_at=2), job(2, "FAILED", **CLAIMED, submitted_at=1), "2"),
    ],
)
def test_of_two_jobs_of_one_name_the_one_with_the_claim_is_the_run(one, other, wins):
    for jobs in ([one, other], [other, one]):
        assert codec.reports_of(jobs, "fed")["fed-j-a1"].native_id == wins


@pytest.mark.parametrize(
    ("states", "serves"),
    [
        ({"IDLE"}, True),
        ({"MIXED", "PLANNED"}, True),
        ({"IDLE", "CLOUD", "POWERED_DOWN"}, True),
        ({"IDLE", "DRAIN"}, False),
        ({"ALLOCATED", "NOT_RESPONDING"}, False),
        ({"DOWN"}, False),
        ({"RESERVED"}, False),
    ],
)
def test_only_nodes_that_take_jobs_are_room(states, serves):
    node = Node("n1", frozenset({"cpu"}), frozenset(states), Resources(4, 8), Resources())
    rooms = codec.rooms_of(Listing([node], [], "", 0.0), "fed", POOLS[:1], LOCAL)
    assert rooms["cpu"] == Room.of([(Resources(4, 8), 1 if serves else 0)])


def test_pools_of_one_partition_are_told_apart_by_their_features():
    pools = {"cpu": {"partition": "all", "constraint": "new&ib"}, "gpu": {"partition": "all"}}
    settings = SlurmSettings.model_validate({"command": {"kind": "local"}, "pools": pools})
    nodes = [
        Node("n1", frozenset({"all"}), frozenset({"IDLE"}), Resources(4, 8), Resources(), frozenset({"new", "ib"})),
        Node("n2", frozenset({"all"}), frozenset({"IDLE"}), Resources(4, 8), Resources(), frozenset({"old", "ib"})),
    ]
    rooms = codec.rooms_of(Listing(nodes, [], "", 0.0), "fed", POOLS, settings)
    assert (rooms["cpu"].fit(Resources(1)), rooms["gpu"].fit(Resources(1))) == (4, 8)


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("7 0 100 103\n", (SiteState.SUCCEEDED, 0, None)),
        ("7 3 100 103\n", (SiteState.FAILED, 3, None)),
        ("7 143 100 103\n", (SiteState.FAILED, None, 15)),
    ],
)
def test_what_a_run_noted_of_its_end_is_its_report(note, said):
    report = codec.report_of_note("fed-j-a1", note)
    assert (report.state, report.exit_code, report.signal) == said
    assert (report.native_id, report.started_at, report.ended_at) == ("7", 100, 103)
    assert codec.report_of_note("fed-j-a1", note[:-1]) is None


def test_slurms_ways_to_write_are_read():
    assert codec.expand_hosts("n[1-3,07],gpu1,r[08-10]x") == ["n1", "n2", "n3", "n07", "gpu1", "r08x", "r09x", "r10x"]
    assert codec.gpus_from_gres("gpu:a100:2(S:0-1),gpu:h100:1,gpu:3,craynetwork:4") == {"a100": 2, "h100": 1, "": 3}
    assert [codec.whole_cpus(Resources(cpus)) for cpus in (0, 0.5, 1, 1.5, 4)] == [1, 1, 1, 2, 4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pool": "tpu"}, "no pool tpu"),
        ({"per_task": Resources(5, 1)}, "5 cpus"),
        ({"tasks": 9}, "do not fit"),
        ({"command": ("a\0b",)}, "zero byte"),
    ],
)
def test_what_can_never_run_is_refused_in_words(change, words):
    run = Run(**{"name": "fed-j-a1", "federation": "fed", "job": "j", "tenant": "t", "tasks": 8, "per_task": Resources(1, 1),
                 "pool": "cpu", "command": ("true",), **change})
    assert words in codec.objection(run, POOLS)


def test_answers_of_sbatch_are_found_behind_what_a_login_says():
    runs = [Submission(f"fed-j{n}-a1", "", "", Place(partition="cpu"), 1, 1, 0, 0, None, {}, "/bin") for n in range(3)]
    said = "Welcome to the cluster\n7 jobs wait\n0 0 41\x1e1 1 sbatch: error: line\n2 0 99\x1e"
    told = commandline_codec.submit_outcomes(runs, said)
    assert told["fed-j0-a1"] == Accepted("41")
    assert isinstance(told["fed-j1-a1"], Unknown)
    assert told["fed-j2-a1"] == Unknown("sbatch: no answer")
