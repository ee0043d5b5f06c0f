"""What a user does from the first command on: `fed up` with its own etcd, sites of real processes, and kills."""

import os
import signal

import pytest

from tests.journeys.places import CORPUS, declare

JOBS = 12
DATA = {"a.txt": "one two\n", "b.txt": "three\n"}


@pytest.fixture
def sites(up, tmp_path):
    """ams with a dataset, fra without."""
    for name in ("ams", "fra"):
        (tmp_path / name / "corpus").mkdir(parents=True)
    for name, text in DATA.items():
        (tmp_path / "ams" / "corpus" / name).write_text(text)
    declare(up, tmp_path, CORPUS)


def count_words():
    """Counts the words of the corpus, at fra, where it must be brought first."""
    command = "cat $FED_INPUTS/corpus/* | wc -w > $FED_OUTPUTS/words/count; echo counted"
    reads_and_writes = "inputs: [{dataset: corpus}], outputs: [{dataset: words}], sites: {require: {site: fra}}"
    return f'{{name: count, command: [sh, -c, "{command}"], {reads_and_writes}}}'


@pytest.mark.usefixtures("sites")
def test_a_job_goes_from_submit_to_its_downloaded_result(up, tmp_path):
    job = up.fed("submit", "-f", "-", "-o", "json", stdin=count_words()).json["id"]
    done = up.fed("wait", job, "--timeout", 60, "-o", "json")
    assert (done.code, done.json["phase"], done.json["site"]) == (0, "succeeded", "fra"), up.fed("why", job).out
    assert up.fed("logs", job).out == "counted\n"
    downloaded = up.fed("download", job, "--to", tmp_path / "out")
    assert downloaded.out.split() == [str(tmp_path / "out" / "words")]
    # "one two" and "three"
    count = tmp_path / "out" / "words" / "count"
    assert int(count.read_text()) == 3
    assert count.stat().st_mtime == int(done.json["finished_at"])
    assert up.fed("get", "dataset", f"words@{job}", "-o", "json").json["sites"] == ["fra"]


@pytest.mark.usefixtures("sites")
def test_a_broker_killed_in_the_middle_loses_nothing_and_does_nothing_twice(up, tmp_path):
    ledger = tmp_path / "ran"
    job = f"{{name: n@, command: [sh, -c, 'echo $FED_JOB $FED_ATTEMPT >> {ledger}; sleep 1']}}"
    jobs = "\n---\n".join(job.replace("@", str(number)) for number in range(JOBS))
    first = up.fed("submit", "-f", "-", "-o", "json", "--idempotency-key", "k", stdin=jobs).json
    while not ledger.exists():
        assert up.fed("health").code == 0
    up.kill()
    up.start()
    again = up.fed("submit", "-f", "-", "-o", "json", "--idempotency-key", "k", stdin=jobs).json
    ids = [item["id"] for item in first["items"]]
    assert [item["id"] for item in again["items"]] == ids
    assert [up.fed("wait", job, "--timeout", 60).code for job in ids] == [0] * JOBS
    assert sorted(ledger.read_text().splitlines()) == sorted(f"{job} 1" for job in ids)


def test_the_etcd_of_a_stopped_broker_ends_with_it_and_the_records_stay(up):
    job = up.fed("submit", "-f", "-", "-o", "json", stdin="{name: waits, command: [a]}").json["id"]
    etcd = up.etcd
    assert up.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(etcd, 0)
    up.start()
    assert up.fed("why", "waits", "-o", "json").json["job"] == job


@pytest.mark.usefixtures("sites")
def test_a_broker_that_sums_up_a_large_output_ends_when_it_is_asked_to(up):
    # 4 TiB, of which nothing is on the disk: at 2 GiB/s it takes 34 minutes to read, and `stop` waits for one
    job = '{name: large, command: [sh, -c, "truncate -s 4T $FED_OUTPUTS/all/zeros"], outputs: [{dataset: all}]}'
    up.fed("submit", "-f", "-", stdin=job)
    while "collecting" not in up.fed("jobs", "--phase", "collecting").out:
        assert up.fed("jobs", "--phase", "failed", "-o", "json").json["items"] == []
    assert up.stop() == 0


def test_what_a_killed_broker_leaves_does_not_block_the_next_start(up):
    job = up.fed("submit", "-f", "-", "-o", "json", stdin="{name: waits, command: [a]}").json["id"]
    left_over = up.etcd
    os.kill(left_over, signal.SIGSTOP)  # so that it cannot follow its broker
    up.kill()
    up.start()
    assert up.etcd != left_over
    assert up.fed("why", "waits", "-o", "json").json["job"] == job


def test_a_second_broker_on_the_same_directory_is_refused_and_the_first_goes_on(up, tmp_path):
    other = up.fed("up", "--data-dir", tmp_path / "state", "--port", 0)
    assert other.code == 2
    assert "another broker" in other.err
    taken = up.fed("up", "--data-dir", tmp_path / "elsewhere", "--port", up.port)
    assert taken.code == 2
    assert "--port" in taken.err
    assert up.fed("health").code == 0
