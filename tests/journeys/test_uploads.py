"""Files sent to a site of real processes: jobs work with them, and a broker that is killed meanwhile leaves no half of them."""

import os
import subprocess
import textwrap
import time

import pytest

from tests.journeys.places import declare
from tests.running import FED


@pytest.fixture(autouse=True)
def sites(up, tmp_path):
    """ams and fra, empty."""
    declare(up, tmp_path)


@pytest.fixture
def project(tmp_path):
    """A directory to work in, with a program, a link to its data and what need not be sent."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "count").write_text(textwrap.dedent("""\
        #!/bin/sh
        cat src/latest "$FED_INPUTS"/corpus/* | wc -w > "$FED_OUTPUTS/words/count"
        ls -A > "$FED_OUTPUTS/words/seen-$FED_TASK"
        echo changed > src/a.txt
    """))
    (folder / "count").chmod(0o755)
    (folder / "src/a.txt").write_text("one two\n")
    (folder / "src/latest").symlink_to("a.txt")
    (folder / "secret.key").write_text("not for you")
    (folder / ".fedignore").write_text("*.key\n")
    return folder


def test_a_job_works_in_a_copy_of_what_was_sent_with_it_and_reads_what_was_put(up, project, tmp_path):
    (tmp_path / "b.txt").write_text("three four five\n")
    put = up.fed("dataset", "put", "corpus", tmp_path / "b.txt", "--site", "ams")
    assert (put.code, put.err) == (0, "")
    asked = ("submit", "--workdir", project, "--site", "fra", "--tasks", "2", "--input", "corpus", "--save", "words", "--wait")
    for _ in range(2):
        done = up.fed(*asked, "-o", "name", "--", "./count")
        assert (done.code, done.err) == (0, "")
    assert up.fed("download", done.out.strip(), "--to", tmp_path / "out").code == 0
    assert (tmp_path / "out/words/count").read_text().strip() == "5"
    for task in (0, 1):
        assert (tmp_path / f"out/words/seen-{task}").read_text().split() == [".fedignore", "count", "src"]
    assert len(up.fed("dataset", "ls", "workdir", "-o", "json").json["items"]) == 1


def test_a_broker_killed_while_it_is_sent_something_leaves_no_half_of_it(up, tmp_path):
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(2**20) * 200)
    folder = tmp_path / "ams/.fed/uploads"
    environment = {**os.environ, "FED_URL": up.url}
    sending = subprocess.Popen([*FED, "--patience", "60", "dataset", "put", "large", large, "--site", "ams"], env=environment)
    try:
        until = time.monotonic() + 30
        while not any(path.stat().st_size for path in folder.glob("*/*/large.bin")):
            assert time.monotonic() < until
            time.sleep(0.002)
        up.kill()
        assert sending.poll() is None
        up.start()
        assert up.fed("--patience", "20", "dataset", "ls", "-o", "name").out == ""
        assert sending.wait(60) == 0  # it was sent anew
    finally:
        sending.kill()
        sending.wait()
    (found,) = up.fed("dataset", "ls", "-o", "json").json["items"]
    (replica,) = found["replicas"]
    assert (tmp_path / "ams" / replica["path"] / "large.bin").read_bytes() == large.read_bytes()
    assert len(list(folder.glob("*/*"))) == 2  # the half, to be swept after a day, and the whole
