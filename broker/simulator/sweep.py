"""Many simulations, side by side: in this process, in several, or as Ray tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from broker.errors import Invalid
from broker.simulator.bound import Bound, bound_of
from broker.simulator.compositions import MONEY_WEIGHT, Own, compose
from broker.simulator.engine import simulate
from broker.simulator.figures import Figures, figures_of
from broker.simulator.modifiers import (
    with_carbon_traces,
    with_estimates_off,
    with_links_at,
    with_maintenance,
    with_site_lost,
    with_spot_losses,
    with_spot_traces,
    with_varying_links,
)
from broker.simulator.outcome import Outcome
from broker.simulator.policies import named
from broker.simulator.scenario import Scenario
from broker.simulator.series import files_of, read_carbon, read_spot

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated: a composition with its window and load (None: see `compose`), and what goes otherwise."""

    composition: str
    data: Path | None = None
    jobs: int = 20_000
    load: float | None = None
    estimates_off: float = 1.0
    links_at: float = 1.0
    loses_site: bool = False
    spot_losses_per_day: float = 0.0
    has_maintenance: bool = False
    has_varying_links: bool = False
    money_weight: float = MONEY_WEIGHT
    own: Own = Own()
    spot_traces: Path | None = None
    carbon_traces: Path | None = None
    """A file of a recorded series, or a folder of them."""

    def scenario(self, seed: int) -> Scenario:
        """Raises what `compose` raises."""
        made = compose(
            self.composition,
            self.data,
            seed=seed,
            jobs=self.jobs,
            load=self.load,
            money_weight=self.money_weight,
            own=self.own,
        )
        if self.estimates_off != 1.0:
            made = with_estimates_off(made, self.estimates_off, seed)
        if self.links_at != 1.0:
            made = with_links_at(made, self.links_at)
        if self.loses_site:
            made = with_site_lost(made)
        if self.spot_losses_per_day:
            made = with_spot_losses(made, self.spot_losses_per_day, seed)
        if self.has_maintenance:
            made = with_maintenance(made, seed)
        if self.spot_traces:
            made = with_spot_traces(made, [read_spot(path) for path in files_of(self.spot_traces, "*.json*")], seed)
        if self.carbon_traces:
            made = with_carbon_traces(made, [read_carbon(path) for path in files_of(self.carbon_traces, "*_hourly.csv*")], seed)
        return with_varying_links(made, seed) if self.has_varying_links else made


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation: a setting, a seed, and a policy with its parameters."""

    setting: Setting
    seed: int
    policy: str
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """A run and what came of it; `notes` says what was composed."""

    run: Run
    outcome: Outcome
    notes: str


@lru_cache(maxsize=2)
def scenario_of(setting: Setting, seed: int) -> Scenario:
    """As `Setting.scenario`; kept for the next run of it in this process."""
    return setting.scenario(seed)


def simulated(run: Run) -> Result:
    """One of them. Raises what `compose` and `named` raise."""
    scenario = scenario_of(run.setting, run.seed)
    return Result(run, simulate(scenario, named(run.policy, **run.parameters)), scenario.notes)


def measured(run: Run) -> Figures:
    """Its figures alone."""
    return figures_of(simulated(run).outcome)


def bounded(of: tuple[Setting, int]) -> Bound:
    """The bound of a setting with a seed. Raises what `compose` and `bound_of` raise."""
    return bound_of(scenario_of(*of))


def sweep(runs: Sequence[Run], processes: int = 1, on_ray: bool = False) -> Iterator[Result]:
    """All of them, in order, as they come. Raises Invalid where Ray is asked for and not there."""
    yield from spread(simulated, runs, processes, on_ray)


def spread(each: Callable[[T], R], items: Sequence[T], processes: int = 1, on_ray: bool = False) -> Iterator[R]:
    """What a module's function makes of all of these, in order, as it comes: here, in processes or as Ray tasks. Raises Invalid
    where Ray is asked for and not there."""
    if on_ray:
        yield from _on_ray(each, items)
    elif processes == 1:
        yield from map(each, items)
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            yield from pool.map(each, items)


def _on_ray(each: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    try:
        import ray
    except ImportError as error:
        raise Invalid("--ray: the extra `ray` is not installed: pip install 'fedbroker[ray]'") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    task: Callable[[T], object] = ray.remote(each).remote
    for waiting in [task(item) for item in items]:
        result: R = ray.get(waiting)
        yield result
