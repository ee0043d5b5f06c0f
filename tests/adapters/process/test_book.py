"""What the engine knows is what its journal says."""

import json

import pytest

from adapters.base import EndReason, Report, Run, SiteState
from adapters.process import book as records
from adapters.process.book import CANCEL, GANG, KEEP_NAMES_S, WALLTIME, Book, Held, conclusion
from adapters.process.codec import report_from_json, report_to_json, run_from_json, run_to_json
from adapters.process.journal import Journal
from adapters.process.schedule import Place
from topology.resources import Resources

RUN = Run(
    "fed-j1-a1", "fed", "j1", "vision", 2, Resources(1, 0.5, (("a100", 1),)), "gpu", ("sh", "-c", "true"),
    {"LANG": "C"}, "#!/bin/sh\n", {"corpus": "corpus/"}, {"words": ".fed/words"}, 60.0, ".fed/claims/fed-j1-a1",
)  # fmt: skip
OVER = Report("fed-j1-a1", "id", SiteState.FAILED, 1.0, 2.0, 3, None, EndReason.PROGRAM_FAILED, "x", "gpu")


def through_json(value):
    return json.loads(json.dumps(value))


def a_book(*facts):
    book = Book("life")
    for fact in facts:
        book.apply(through_json(fact))
    return book


STORY = (
    records.epoch_record("fed", 3),
    records.run_record(RUN, "id", 0.5),
    records.start_record(RUN.name, (Place(0, (1,)), Place(1, (0,))), 1.0, "boot"),
    records.kill_record(RUN.name, GANG, 1.5),
    records.end_record(OVER),
    records.gone_record(RUN.name, 3.0),
)


@pytest.mark.parametrize("length", range(len(STORY) + 1))
def test_a_compacted_journal_tells_the_same(length):
    book = a_book(*STORY[:length])
    again = a_book(*book.records(4.0))
    assert (again.life, again.epochs, again.runs, again.gone) == (book.life, book.epochs, book.runs, book.gone)


def test_names_of_runs_forgotten_long_ago_are_dropped():
    book = a_book(*STORY)
    assert a_book(*book.records(3.0 + KEEP_NAMES_S + 1)).gone == {}


def test_runs_and_reports_cross_the_socket_unchanged():
    assert run_from_json(through_json(run_to_json(RUN))) == RUN
    assert report_from_json(through_json(report_to_json(OVER))) == OVER


def test_a_state_of_a_newer_engine_is_unknown_and_never_final():
    told = through_json(report_to_json(OVER))
    told[2], told[7] = "hibernating", "frozen"
    report = report_from_json(told)
    assert (report.state, report.reason, report.message) == (SiteState.UNKNOWN, None, "frozen: x")


def ended(*ends, kill=""):
    """The report of a run of three whose tasks ended so: (when, task, code)."""
    report = conclusion(Held(RUN, "id", 0.0, started_at=1.0, kill=kill, killed_at=5.0), list(ends))
    return report.state, report.reason, report.exit_code, report.signal


def test_the_task_that_failed_first_speaks_for_all():
    # the second failed; the others were then ended by the engine, the last of them with its shell
    assert ended((3.0, 0, 143), (2.0, 1, 9), (4.0, 2, None), kill=GANG) == (SiteState.FAILED, EndReason.PROGRAM_FAILED, 9, None)


@pytest.mark.parametrize(
    ("ends", "kill", "told"),
    [
        (((2.0, 0, 0), (3.0, 1, 0)), "", (SiteState.SUCCEEDED, None, 0, None)),
        (((2.0, 0, 139),), "", (SiteState.FAILED, EndReason.PROGRAM_FAILED, None, 11)),
        (((2.0, 0, None),), "", (SiteState.FAILED, EndReason.NODE_LOST, None, None)),
        (((2.0, 0, None), (3.0, 1, 143)), GANG, (SiteState.FAILED, EndReason.NODE_LOST, None, None)),
        (((2.0, 0, 143),), CANCEL, (SiteState.CANCELLED, None, None, 15)),
        (((2.0, 0, 0),), CANCEL, (SiteState.CANCELLED, None, 0, None)),
        (((2.0, 0, None),), WALLTIME, (SiteState.FAILED, EndReason.WALLTIME, None, 9)),
    ],
)
def test_ends_are_told_apart(ends, kill, told):
    assert ended(*ends, kill=kill) == told


async def test_a_journal_keeps_what_was_added_and_drops_a_torn_line(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.begin([{"t": "life", "id": "x"}])
    journal.add(*STORY[:2])
    await journal.commit()
    with path.open("ab") as file:
        file.write(b'{"t": "run", "ru')
    again = Journal(path)
    assert len(again.read()) == 3


async def test_a_journal_written_anew_goes_on(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.begin([])
    journal.add({"n": 1}, {"n": 2})
    await journal.renew(lambda: [{"n": 2}])
    journal.add({"n": 3})
    await journal.commit()
    assert journal.read() == [{"n": 2}, {"n": 3}]
