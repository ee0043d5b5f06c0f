"""Small scenarios: say only what matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from broker.jobs.model import Shape
from broker.simulator.scenario import Arrival, Change, Scenario
from tests.broker.placement.worlds import a_dataset, a_shape
from topology.dataset import Dataset, Replica
from topology.graph import Topology
from topology.link import GIB, Link
from topology.resources import Resources
from topology.site import Engine, Pool, Power, Price, Site, Storage

GBPS = 8 * GIB / 1e9
"""The bandwidth that moves one GiB in a second."""


def a_site(name: str, cpus: float = 4, nodes: int = 1, speed: float = 1.0, price: float = 0.0, **site: float) -> Site:
    pool = Pool("cpu", nodes, Resources(cpus, 64), speed, Power(cpu_w=100.0))
    return Site(name, Engine("twin"), (pool,), Storage(f"file:///{name}"), price=Price(cpu_hour=price), **site)


def a_job(name: str, at: float = 0.0, run_time_s: float | None = None, **shape: object) -> Arrival:
    """It runs as long as expected unless told."""
    made: Shape = a_shape(**shape)  # type: ignore[arg-type]
    return Arrival(name, at, made, made.run_time_s if run_time_s is None else run_time_s)


def a_scenario(
    sites: Iterable[Site],
    jobs: Iterable[Arrival],
    at: Mapping[str, str] | None = None,
    links: Iterable[Link] = (),
    changes: Iterable[Change] = (),
    gib: float = 3600.0,
) -> Scenario:
    """`at` says at which sites (in one word) each dataset of `gib` GiB is."""
    at = at or {}
    datasets = [Dataset(a_dataset(name), int(gib * GIB)) for name in at]
    replicas = [Replica(a_dataset(name), site, "") for name, names in at.items() for site in names.split()]
    return Scenario("small", Topology.of(sites, links, datasets, replicas), tuple(jobs), tuple(changes))


def a_link(source: str, target: str, gib_per_second: float = 1.0, price: float = 0.0) -> Link:
    return Link(source, target, gib_per_second * GBPS, price_per_gib=price)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """A few sites, linked all to all, and a few dozen jobs, some of them gangs, some with data, expected wrong."""
    names = ("ams", "fra", "osl")
    cpus, nodes, speeds = st.sampled_from([2, 4]), st.integers(2, 3), st.sampled_from([1.0, 2.0])
    sites = [a_site(name, draw(cpus), draw(nodes), draw(speeds), draw(st.floats(0, 1))) for name in names]
    rates, prices = st.sampled_from([0.5, 4.0]), st.sampled_from([0.0, 0.01])
    links = [a_link(a, b, draw(rates), draw(prices)) for a in names for b in names if a != b]
    jobs, at = [], 0.0
    for number in range(draw(st.integers(1, 30))):
        at += draw(st.sampled_from([0.0, 60.0, 900.0]))
        run_hours = draw(st.sampled_from([0.1, 0.5, 2]))
        inputs = draw(st.sampled_from([(), (), ("corpus",), ("corpus", "images")]))
        size = {"cpus": draw(st.sampled_from([0.5, 1, 2])), "tasks": draw(st.sampled_from([1, 1, 2]))}
        wrong = draw(st.sampled_from([0.5, 1.0, 3.0]))
        jobs.append(a_job(f"j{number}", at, run_hours * 3600 * wrong, run_hours=run_hours, inputs=inputs, **size))
    where = {"corpus": draw(st.sampled_from(["ams", "fra osl"])), "images": "osl"}
    return a_scenario(sites, jobs, where, links, gib=draw(st.sampled_from([1.0, 500.0])))
