"""Compositions and what may go otherwise: seeded, and as asked."""

import gzip

import pytest

from broker.simulator.compositions import compose
from broker.simulator.engine import simulate
from broker.simulator.modifiers import (
    with_estimates_off,
    with_links_at,
    with_maintenance,
    with_site_lost,
    with_spot_losses,
    with_varying_links,
)
from broker.simulator.policies import Ours
from broker.simulator.scenario import Bandwidth, Maintenance, NodesLost, SiteLost


@pytest.fixture(scope="module")
def generated():
    return compose("generated", seed=1, jobs=400)


def test_the_same_seed_composes_the_same_and_another_another(generated):
    again, other = compose("generated", seed=1, jobs=400), compose("generated", seed=2, jobs=400)
    assert again.arrivals == generated.arrivals
    assert again.topology.links == generated.topology.links
    assert other.arrivals != generated.arrivals


def test_jobs_come_in_order_fit_and_ask_for_the_load(generated):
    times = [arrival.at for arrival in generated.arrivals]
    assert times == sorted(times)
    assert all(job.ended_at is not None for job in simulate(generated, Ours()).jobs)
    twice = compose("generated", seed=1, jobs=400, load=1.8)
    assert twice.arrivals[-1].at == pytest.approx(times[-1] / 2)


def test_classes_are_few_and_have_deadlines_gangs_tenants_and_data(generated):
    shapes = {arrival.shape for arrival in generated.arrivals}
    assert len(shapes) <= 300
    assert {bool(shape.deadline_s) for shape in shapes} == {bool(shape.inputs) for shape in shapes} == {True, False}
    assert len({shape.tenant for shape in shapes}) == 5
    assert max(shape.tasks for shape in shapes) > 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "nothing"}, "composition 'nothing': one of lcg-swim"),
        ({"name": "philly"}, "needs the folder of the traces"),
        ({"name": "generated", "jobs": 0}, "both are more than nothing"),
        ({"name": "generated", "load": 0.0}, "both are more than nothing"),
    ],
)
def test_what_cannot_be_composed_is_told(given, told):
    with pytest.raises(ValueError, match=told):
        compose(**{"seed": 1, **given})


ALIBABA = "name,cpu_milli,memory_mib,num_gpu,qos,creation_time,deletion_time,scheduled_time"


@pytest.fixture
def traces(tmp_path):
    """The folder of the traces, each of a few lines."""
    texts = {
        "lcg2005_swf/LCG.swf": "",
        "swim_facebook/FB-2010_samples_24_times_1hr_0.tsv": "job0\t1\t1\t5368709120\t0\t9\njob1\t2\t1\t21474836480\t0\t9\n",
        "philly_sia/philly.csv": "timestamp,duration,num_gpus,cluster\n"
        + "".join(f"2017-10-09 07:{minute:02}:00,{600 + minute},{1 + minute % 9},vc{minute % 2}\n" for minute in range(30)),
        "philly_sia/philly_vc_nodes.csv": "vc,node num\nvc0,4\nvc1,2\n",
        "alibaba_gpu/openb_pod_list_default.csv": f"{ALIBABA}\n"
        + "".join(f"p{n},{1000 * (1 + n % 8)},4096,{n % 2},LS,{n * 10},{n * 10 + 900},{n * 10}\n" for n in range(20)),
        "skyplane/throughput_compact.csv": "src_region,src_tier,dst_region,dst_tier,throughput_sent_bits_per_second\n"
        "aws:eu,PREMIUM,gcp:us,PREMIUM,5e9\ngcp:us,PREMIUM,aws:eu,PREMIUM,4e9\naws:eu,STANDARD,gcp:us,PREMIUM,1e9\n",
        "skyplane/latency.csv": "src_region,dst_region,avg_rtt\naws:eu,gcp:us,90\n",
        "skyplane/cost_compact.csv": "src,dest,cost\naws:eu,gcp:us,0.09\n",
        "carbon/mlco2_cloud_region_impact.csv": "provider,region,impact\naws,eu,120\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    line = "{n} {at} -1 {run} {cpus} -1 -1 -1 3600 -1 -1 1 {group} -1 -1 {site} -1 -1\n"
    jobs = [line.format(n=n, at=n * 30, run=300 + n, cpus=1 + n % 3, group=n % 3, site=n % 4) for n in range(40)]
    with gzip.open(tmp_path / "lcg2005_swf/LCG.swf.gz", "wt") as zipped:
        zipped.write("; Version: 2.2\n" + "".join(jobs))
    return tmp_path


@pytest.mark.parametrize("name", ["lcg-swim", "philly", "alibaba"])
def test_traces_become_scenarios_that_run_to_their_end(traces, name):
    made = compose(name, traces, seed=3, jobs=25)
    assert 20 <= len(made.arrivals) <= 25
    assert all(job.ended_at is not None for job in simulate(made, Ours()).jobs)
    assert "seed 3" in made.notes


def test_links_are_as_measured(traces):
    links = compose("philly", traces, seed=3, jobs=25).topology.links
    assert {(link.bandwidth_gbps, link.latency_ms, round(link.price_per_gib, 4)) for link in links.values()} == {
        (5.0, 45.0, 0.0966),
        (4.0, 45.0, 0.0),
    }


def test_estimates_are_off_by_no_more_than_the_factor(generated):
    off = with_estimates_off(generated, 2.0, seed=5)
    ratios = [b.shape.run_time_s / a.shape.run_time_s for a, b in zip(generated.arrivals, off.arrivals, strict=True)]
    assert min(ratios) == pytest.approx(0.5)
    assert max(ratios) == pytest.approx(2.0)
    assert [arrival.run_time_s for arrival in off.arrivals] == [arrival.run_time_s for arrival in generated.arrivals]
    with pytest.raises(ValueError, match="at least 1"):
        with_estimates_off(generated, 0.5, seed=5)


def test_links_are_narrower(generated):
    narrow = with_links_at(generated, 0.1).topology
    before = generated.topology
    ratios = [link.bandwidth_gbps / before.links[name].bandwidth_gbps for name, link in narrow.links.items()]
    assert ratios == [pytest.approx(0.1)] * len(before.links)
    assert all(narrow.replica_sites(dataset) == before.replica_sites(dataset) for dataset in before.datasets)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (with_site_lost, SiteLost),
        (lambda scenario: with_spot_losses(scenario, 200.0, 1), NodesLost),
        (lambda scenario: with_maintenance(scenario, 1), Maintenance),
        (lambda scenario: with_varying_links(scenario, 1, 0.01), Bandwidth),
    ],
)
def test_what_happens_is_in_order_and_survived(generated, change, kind):
    changed = change(generated)
    times = [each.at for each in changed.changes]
    assert times
    assert times == sorted(times)
    assert {type(each) for each in changed.changes} == {kind}
    assert all(job.ended_at is not None for job in simulate(changed, Ours()).jobs)
