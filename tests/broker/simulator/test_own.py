"""A federation and jobs of one's own in place of a composition's."""

import pytest

from broker.errors import Invalid
from broker.simulator.compositions import Own, compose
from broker.simulator.engine import simulate
from broker.simulator.own import read_federation, read_jobs
from broker.simulator.policies import Ours
from broker.simulator.readers import BadTrace

SITE = """
kind: Site
name: {name}
engine: {{kind: process}}
storage: {{url: "file:///srv/{name}"}}
price: {{cpu_hour: 0.5}}
pools: [{{name: cpu, nodes: 2, per_node: {{cpus: 6, memory_gib: 24, gpus: {{a100: 2}}}}}}]
---"""
FEDERATION = (
    SITE.format(name="ams")
    + SITE.format(name="fra")
    + """
{kind: Link, from: ams, to: fra, bandwidth_gbps: 10, price_per_gib: 0.02}
---
{kind: Dataset, name: corpus, version: "9", tenant: vision, size_bytes: 1073741824, replicas: [{site: ams, path: a}]}
---
{kind: Dataset, name: corpus, version: "10", tenant: vision, replicas: [{site: ams, path: b}]}
---
{kind: Tenant, name: vision, weight: 2}
"""
)
JOBS = """name,at,run_time_s,tenant,cpus,memory_gib,gpus,gpu_type,datasets,priority,deadline_s,expected_s
late,100,60,vision,6,20,1,a100,corpus corpus@9,80,900,50
soon,40,600,physics,3,,,,vision/corpus,,,
huge,50,600,physics,7,,,,,,,
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "fed.yaml").write_text(FEDERATION)
    (tmp_path / "jobs.csv").write_text(JOBS)
    return Own(tmp_path / "fed.yaml", tmp_path / "jobs.csv")


def test_jobs_come_as_recorded_to_the_federation_declared(own):
    made = compose("generated", seed=1, own=own)
    soon, late = made.arrivals
    assert sorted(made.topology.sites) == ["ams", "fra"]
    assert list(made.topology.links) == ["ams:fra"]
    # the first comes at 0, the other 60 s later, as large as they were; without a version the newest is read: 10, not 9
    assert [(job.name, job.at, job.shape.resources.cpus) for job in made.arrivals] == [("soon", 0.0, 3.0), ("late", 60.0, 6.0)]
    assert [str(of) for of in soon.shape.inputs] == ["vision/corpus@10"]
    assert [str(of) for of in late.shape.inputs] == ["vision/corpus@10", "vision/corpus@9"]
    assert (soon.shape.run_time_s, soon.shape.priority, soon.shape.resources.memory_gib) == (512.0, 50, 6.0)
    assert (late.shape.run_time_s, late.shape.priority, late.shape.deadline_s) == (50.0, 80, 900.0)
    assert late.shape.resources.gpus.types == ("a100",)
    for words in ("2 sites of fed.yaml", "3 of 3 jobs of jobs.csv", "1 more fit no site", "1 of its datasets have no size"):
        assert words in made.notes
    assert all(job.ended_at is not None for job in simulate(made, Ours()).jobs)


def test_one_part_may_be_composed(own):
    theirs = compose("generated", seed=1, jobs=50, own=Own(federation=own.federation))
    assert len(theirs.arrivals) <= 50
    assert sorted(theirs.topology.sites) == ["ams", "fra"]
    own.jobs.write_text("name,at,run_time_s\none,5,60\n")
    mine = compose("generated", seed=1, jobs=50, own=Own(jobs=own.jobs))
    assert (len(mine.topology.sites), [job.name for job in mine.arrivals]) == (24, ["one"])


def test_a_window_of_many_jobs_is_taken_and_stretched_to_a_load(own):
    rows = "".join(f"j{number},{number * 10},60,red\n" for number in range(50))
    own.jobs.write_text(f"name,at,run_time_s,tenant\n{rows}")
    made = compose("generated", seed=1, jobs=20, load=0.5, own=own)
    assert len(made.arrivals) == 20
    # 20 jobs of 60 s on 24 cpus: 50 s of all; at half the load in 100 s, from the first to the last
    assert made.arrivals[-1].at == pytest.approx(100)


def test_data_is_drawn_when_asked(own):
    own.jobs.write_text("name,at,run_time_s,input_gib\n" + "".join(f"j{n},{n},60,8\n" for n in range(50)))
    assert not any(job.shape.inputs for job in compose("generated", seed=1, own=own).arrivals)
    drawn = compose("generated", seed=1, own=Own(own.federation, own.jobs, draws_data=True))
    assert 20 < sum(bool(job.shape.inputs) for job in drawn.arrivals) < 50
    assert {drawn.topology.datasets[of].size_bytes for job in drawn.arrivals for of in job.shape.inputs} == {8 * 2**30}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: Site\nname: ams\n", "document 1 (Site ams): line 1: engine: is missing"),
        ("{kind: Tenant, name: red}", "there is no site: declare one with `kind: Site`"),
        (FEDERATION + "---\n{kind: Link, from: ams, to: osl, bandwidth_gbps: 1}", "to: osl is not declared here: the sites are"),
        (FEDERATION + "---\n{kind: Dataset, name: d, replicas: [{site: osl, path: x}]}", "replicas.0.site: osl is not declared"),
        (FEDERATION + "---\n{kind: Job, name: j, command: [a], resources: {cpus: 1}}", "kind: jobs come from --jobs-from"),
        ("a: [", "line"),
    ],
)
def test_what_is_wrong_with_a_federation_is_told_with_its_place(tmp_path, text, told):
    path = tmp_path / "fed.yaml"
    path.write_text(text)
    with pytest.raises(Invalid) as caught:
        read_federation(path)
    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("jobs.txt", "", "jobs.txt: what is it"),
        ("jobs.csv", "name,at,run_time_s\n", "jobs.csv: there is no job with a run time in it"),
        ("jobs.swf.gz", "plain", "jobs.swf.gz: not gzipped"),
    ],
)
def test_what_is_wrong_with_jobs_is_told(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadTrace, match=told):
        read_jobs(tmp_path / name)


def test_a_dataset_that_is_not_declared_is_told_with_its_line(own):
    own.jobs.write_text("name,at,run_time_s,datasets\na,0,60,vision/corpus\nb,0,60,corpus\n")
    with pytest.raises(BadTrace, match=r"^jobs.csv:3: datasets: there is no default/corpus; the federation declares vision/"):
        compose("generated", seed=1, own=own)
