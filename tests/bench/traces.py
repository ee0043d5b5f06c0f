"""The planner beside tuned baselines over whole compositions: `python -m tests.bench.traces --data TRACES --out results.jsonl`.

Baselines are tuned first, each over its grid (`policies.grid_of`), as `tuning` says; the planner has nothing to tune. Then every
policy runs over every seed. What was run stands in `--out`, a line of JSON each, as soon as it is over: the same command goes on
where it was cut off. Prints a table in Markdown for each composition, in the mean over seeds, and a verdict; asserts nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from broker.simulator.compositions import COMPOSITIONS
from broker.simulator.figures import Figures, mean_of
from broker.simulator.policies import KINDS, Ours
from broker.simulator.report import COLUMNS, cell
from broker.simulator.sweep import Run, Setting, bounded, measured, spread
from broker.simulator.tuning import Parameters, best, trials
from broker.simulator.verdict import verdict

BOUND = "bound"
"""Stands for a policy where the lower bound is worked out."""


def figured(run: Run) -> dict[str, float]:
    """The figures of a run, or of the bound."""
    return asdict(bounded((run.setting, run.seed)) if run.policy == BOUND else measured(run))


class Results:
    """What is known already, kept in a file."""

    def __init__(self, path: Path, processes: int) -> None:
        self._path, self._processes = path, processes
        lines = path.read_text().splitlines() if path.exists() else []
        self._known: dict[str, dict[str, float]] = {each["run"]: each["figures"] for each in map(json.loads, lines)}

    def of(self, runs: Sequence[Run]) -> list[dict[str, float]]:
        """The figures of each, those run now that are not known."""
        missing = [run for run in runs if _key(run) not in self._known]
        with self._path.open("a") as file:
            for run, figures in zip(missing, spread(figured, missing, self._processes), strict=True):
                self._known[_key(run)] = figures
                print(json.dumps({"run": _key(run), "figures": figures}), file=file, flush=True)
        return [self._known[_key(run)] for run in runs]


def _key(run: Run) -> str:
    return json.dumps({**asdict(run), "setting": {**asdict(run.setting), "data": None}}, sort_keys=True, default=str)


def main() -> None:
    """See the module."""
    asked = _arguments()
    results = Results(asked.out, asked.processes)
    for name in asked.compositions:
        setting = _setting(name, asked)
        tried = trials(setting, asked.policies)
        tuned = best([(run, _figures(each)) for run, each in zip(tried, results.of(tried), strict=True)])
        runs = [
            Run(setting, seed, policy, tuned.get(policy, {})) for seed in asked.seeds for policy in (BOUND, *asked.policies)
        ]
        _show(name, asked, zip(runs, results.of(runs), strict=True))


def _show(name: str, asked: argparse.Namespace, found: Iterable[tuple[Run, Mapping[str, float]]]) -> None:
    by_policy: dict[str, list[Mapping[str, float]]] = {}
    parameters: dict[str, Parameters] = {}
    for run, figures in found:
        by_policy.setdefault(run.policy, []).append(figures)
        parameters[run.policy] = run.parameters
    bounds = [each["mean_weighed"] for each in by_policy.pop(BOUND)]
    means = {policy: mean_of([_figures(each) for each in some]) for policy, some in by_policy.items()}
    columns = ("policy", *COLUMNS, "above bound")
    print(f"\n### {name}: {asked.jobs} jobs, seeds {', '.join(map(str, asked.seeds))}{_words(asked)}\n")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for policy, mean in means.items():
        above = mean.mean_weighed / (sum(bounds) / len(bounds)) - 1
        told = f"{above:.1%}" if not mean.unfinished else "-"
        label = ", ".join(f"{key} {value:g}" for key, value in parameters[policy].items())
        cells = [f"{policy} ({label})" if label else policy, *(cell(column(mean)) for column in COLUMNS.values()), told]
        print(f"| {' | '.join(cells)} |")
    print(f"\nThe bound on the mean weighed cost: {sum(bounds) / len(bounds):.4g}.")
    if Ours.name in means and len(means) > 1:
        others = {policy: each for policy, each in means.items() if policy != Ours.name}
        print(f"{Ours.name}: {'; '.join(verdict(means[Ours.name], others))}.", flush=True)


def _figures(plain: Mapping[str, float]) -> Figures:
    return Figures(**plain)  # type: ignore[arg-type]


def _setting(composition: str, asked: argparse.Namespace) -> Setting:
    return Setting(
        composition,
        asked.data,
        asked.jobs,
        asked.load,
        estimates_off=asked.estimates_off,
        links_at=asked.links_at,
        loses_site=asked.lose_site,
    )


def _words(asked: argparse.Namespace) -> str:
    said = [f", load {asked.load:g}"]
    said += [f", estimates off by up to {asked.estimates_off:g}x"] if asked.estimates_off != 1 else []
    said += [f", links at {asked.links_at:g}"] if asked.links_at != 1 else []
    said += [", the largest site lost at the peak"] if asked.lose_site else []
    return "".join(said)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    policies = (Ours.name, *KINDS)
    parser.add_argument("--data", type=Path, help="the folder of the traces")
    parser.add_argument("--out", type=Path, required=True, help="results, a line each; what is there is not run again")
    parser.add_argument("--compositions", nargs="+", choices=tuple(COMPOSITIONS), default=tuple(COMPOSITIONS))
    parser.add_argument("--policies", nargs="+", choices=policies, default=policies)
    parser.add_argument("--seeds", nargs="+", type=int, default=(1, 2, 3, 4, 5))
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--load", type=float, default=0.9)
    parser.add_argument("--estimates-off", type=float, default=1.0)
    parser.add_argument("--links-at", type=float, default=1.0)
    parser.add_argument("--lose-site", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
