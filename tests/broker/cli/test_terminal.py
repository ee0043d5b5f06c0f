"""How answers look on a terminal, wide and narrow, and where nobody looks."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

from tests.running import FED

pytestmark = pytest.mark.usefixtures("applied")


@pytest.fixture
def seen(url):
    """What a terminal of so many columns shows of `fed`, without its colours: lines."""

    def show(width, *arguments, code=0):
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        environment |= {"FED_URL": url, "TERM": "xterm"}
        with subprocess.Popen([*FED, *arguments], stdin=its, stdout=its, stderr=its, env=environment) as running:
            os.close(its)
            shown = b""
            try:
                while part := os.read(ours, 65_536):
                    shown += part
            except OSError:  # how Linux tells that nobody has the other end open
                pass
        os.close(ours)
        assert running.returncode == code, shown
        return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()

    return show


@pytest.fixture(scope="module")
def job(fed):
    """The id of a job that no site can ever run, which takes many words to say."""
    made = fed("submit", "--name", "a-job-with-long-words", "--gpus", "h100:8", "-o", "name", "--", "sleep")
    yield made.out.strip()
    fed("cancel", made.out.strip())


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_job_is_one_line_of_a_terminal_and_no_word_of_it_is_broken(seen, job, width):
    head, *lines = seen(width, "jobs", "--name", "a-job-with-long-words")
    assert len(lines) == 1
    assert max(map(len, [head, *lines])) <= width
    assert {"a-job-with-long-words", "pending"} <= set(lines[0].split())
    assert (job in lines[0]) == (width > 60)
    assert ("carbon_kg" in head) == (width == 200)


def test_words_of_a_site_are_folded_and_none_is_lost(seen, fed):
    lines = seen(60, "doctor", "--all")
    assert max(map(len, lines)) <= 60
    told = fed("doctor", "--all", "-o", "json").json["items"]
    assert "".join(told[0]["state"].split()) in "".join("".join(lines).split())


def test_where_nobody_looks_a_row_is_a_line_with_all_that_there_is(fed, job):
    head, line = fed("jobs", "--name", "a-job-with-long-words").out.splitlines()
    assert head.split()[-2:] == ["carbon_kg", "reason"]
    assert fed("get", "job", job, "-o", "json").json["reason"] in line


def test_who_waits_for_an_endpoint_that_is_away_is_told(seen, fed):
    away = ("--url", "http://127.0.0.1:9", "--patience", "4")
    told = "".join(seen(200, *away, "jobs", code=5))
    assert told.count("asking again for up to 4 s") == 1
    assert "asking again" not in fed(*away, "jobs").err


def test_what_is_described_is_for_people(fed, job):
    for ways in ((job,), (f"job/{job}",), ("job", "a-job-with-long-words")):
        said = fed("describe", *ways).out
        assert said.startswith(f"id: {job}\n")
        assert "created_at: '2" in said
        assert "finished_at" not in said
        assert "would help" in said
