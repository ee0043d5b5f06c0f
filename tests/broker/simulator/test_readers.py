"""Traces, read from small samples in their formats."""

import gzip
from dataclasses import replace

import pytest

from broker.simulator.readers import BadTrace, Recorded, read_alibaba, read_philly, read_swf, read_swim, read_table

SWF = """; Version: 2.2
     1         7      -1    83      2      -1    2097152   -1    1200      -1 -1    1    5   -1 -1  3     -1      -1
     2         9      -1    -1      1      -1      -1   -1    1200      -1 -1    1    5   -1 -1  3     -1      -1
     3        12      -1    60      1      -1      -1   -1      -1      -1 -1    1    6   -1 -1  4     -1      -1
"""


PHILLY = "timestamp,duration,num_gpus,cluster\n"


@pytest.fixture
def a_file(tmp_path):
    def write(text, name="trace.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_standard_workload_format(a_file, tmp_path):
    first, third = read_swf(a_file(SWF, "log.swf"))
    assert first == Recorded("j1", 7.0, 83.0, "g5", 2, memory_gib=2.0, expected_s=1200.0, home="p3")
    assert (third.name, third.expected_s, third.memory_gib) == ("j3", None, None)
    with gzip.open(tmp_path / "log.swf.gz", "wt") as zipped:
        zipped.write(SWF)
    assert list(read_swf(tmp_path / "log.swf.gz")) == [first, third]


def test_philly(a_file):
    text = "timestamp,duration,num_gpus,gpu_time,cluster\n2017-10-09 07:01:55,66.0,1,66.0,vc\n2017-10-09 07:02:55,60,12,9,vc\n"
    one, gang = read_philly(a_file(text))
    assert (one.tasks, one.gpus, one.cpus, one.home) == (1, 1, 4.0, "vc")
    assert (gang.tasks, gang.gpus, gang.cpus, gang.at - one.at) == (2, 8, 32.0, 60.0)


def test_alibaba(a_file):
    head = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
    rows = "a,12000,16384,1,460,,LS,Running,5,105,15\nb,1000,1024,0,0,,BE,Failed,7,9,\n"
    assert list(read_alibaba(a_file(head + rows))) == [Recorded("a", 5.0, 90.0, "ls", cpus=12.0, memory_gib=16.0, gpus=1)]


def test_swim(a_file):
    (job,) = read_swim(a_file("job2\t20\t2\t53687091200\t1510005522\t5759777\n"))
    assert (job.at, job.input_gib) == (20.0, 50.0)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_plain_table(a_file, tmp_path, suffix):
    rows = [{"name": "a", "at": 1.0, "run_time_s": 60.0, "gpus": 2}, {"name": "b", "at": 2.5, "run_time_s": 30.0, "gpus": 0}]
    if suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        path = tmp_path / "jobs.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path = a_file("name,at,run_time_s,gpus\na,1,60,2\nb,2.5,30,0\n")
    jobs = [replace(job, where="") for job in read_table(path)]
    assert jobs == [Recorded("a", 1.0, 60.0, gpus=2), Recorded("b", 2.5, 30.0)]


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (read_swf, "1 2 3\n", "trace.csv:1: 3 fields: a job in Standard Workload Format has 18"),
        (read_swf, SWF.replace("    83 ", "   long "), "trace.csv:2: run time 'long': a number"),
        (read_philly, "timestamp,duration\n", "trace.csv: no column num_gpus: it should have timestamp, duration, num_"),
        (read_philly, f"{PHILLY}now,1,1,a\n", "trace.csv:2: timestamp 'now': like 2017-10-09 07:01:55"),
        (read_swim, "a\t1\n", "trace.csv:1: 2 columns"),
        (read_table, "name,at\n", "trace.csv: no column run_time_s"),
        (read_table, "name,at,run_time_s,colour\na,1,2,red\n", "trace.csv: column colour is none of"),
        (read_table, "name,at,run_time_s\na,,2\n", "trace.csv:2: at is missing: seconds since some beginning"),
        (read_table, "name,at,run_time_s\na,1\n", "trace.csv:2: not as many cells as there are columns"),
        (read_table, "name,at,run_time_s,tasks\na,1,2,0\n", "trace.csv:2: tasks '0': at least 1"),
        (read_table, "name,at,run_time_s\na,1,-2\n", "trace.csv:2: run_time_s '-2': at least 0"),
        (read_table, "name,at,run_time_s\na,nan,2\n", "trace.csv:2: at 'nan': a number"),
        (read_table, "name,at,run_time_s,gpus\na,1,2,0.5\n", "trace.csv:2: gpus '0.5': a whole number"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(a_file, read, text, told):
    with pytest.raises(BadTrace, match="^" + told.replace("(", r"\(")):
        list(read(a_file(text)))
