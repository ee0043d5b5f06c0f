"""`fed simulate`: the planner and others over recorded or generated work, without any broker."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.session import Format, Output, print_table, show
from broker.errors import Fault, Invalid

if TYPE_CHECKING:
    from broker.simulator.bound import Bound
    from broker.simulator.compositions import Own
    from broker.simulator.sweep import Result

ALL = "all"
COMPOSED = "generated"
"""What is composed beside a user's own federation or jobs, unless told."""


def simulate(
    composition: Annotated[str | None, typer.Argument(help="lcg-swim, philly, alibaba or generated.")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder of the traces and link tables; `generated` needs none.")] = None,
    federation: Annotated[
        Path | None, typer.Option(help="Your sites, links and datasets in its stead: YAML documents as `fed apply` takes them.")
    ] = None,
    jobs_from: Annotated[Path | None, typer.Option(help="Your jobs in its stead: a table (CSV, Parquet) or an SWF log.")] = None,
    jobs_format: Annotated[str | None, typer.Option(help="swf, table, philly or alibaba, if its name does not tell.")] = None,
    draw_data: Annotated[bool, typer.Option("--draw-data", help="Most of your jobs that name no dataset read one.")] = False,
    policy: Annotated[list[str] | None, typer.Option(help="Who decides; several times for several; `all`.")] = None,
    tune: Annotated[bool, typer.Option("--tune", help="Baselines first try their settings on another seed.")] = False,
    seed: Annotated[list[int] | None, typer.Option(help="Several times for several.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="The window's length.")] = 20_000,
    load: Annotated[
        float | None,
        typer.Option(min=0.01, help="Work asked for, as a part of what there is: 0.9; your jobs come when they came."),
    ] = None,
    money_weight: Annotated[float, typer.Option(min=0.0, help="What a unit of money weighs beside an hour, for jobs.")] = 0.5,
    estimates_off: Annotated[float, typer.Option(min=1.0, help="Run times are expected wrong by up to this factor.")] = 1.0,
    links_at: Annotated[float, typer.Option(min=0.001, help="The part of every link's bandwidth that is there.")] = 1.0,
    lose_site: Annotated[bool, typer.Option("--lose-site", help="The largest site is lost for two hours at the peak.")] = False,
    spot_losses: Annotated[float, typer.Option(min=0.0, help="Half a pool's nodes go for an hour, so often a day.")] = 0.0,
    spot_trace: Annotated[Path | None, typer.Option(help="Half of each pool goes as recorded: a trace, or a folder.")] = None,
    carbon_trace: Annotated[Path | None, typer.Option(help="Electricity as recorded: a table of g/kWh, or a folder.")] = None,
    maintenance: Annotated[bool, typer.Option("--maintenance", help="Each site is closed for four hours once.")] = False,
    varying_links: Annotated[bool, typer.Option("--varying-links", help="Links change every half hour.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots here (needs the extra `simulate`).")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Simulations side by side.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Run them as Ray tasks (needs the extra `ray`).")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Try policies on recorded or generated work in virtual time: waits, completion, money, bytes, carbon, fairness."""
    from broker.simulator.compositions import Own
    from broker.simulator.policies import KINDS, Ours
    from broker.simulator.readers import BadTrace
    from broker.simulator.sweep import Run, Setting, bounded, scenario_of, spread, sweep
    from broker.simulator.tuning import tuned

    chosen = list(dict.fromkeys(policy or [Ours.name, "locality", "least-loaded"]))
    if ALL in chosen:
        chosen = [Ours.name, *KINDS]
    own = Own(federation, jobs_from, jobs_format, draw_data)
    if faults := _faults(composition, own, data, chosen, html):
        raise Invalid(faults=faults)
    setting = Setting(
        composition or COMPOSED,
        data,
        jobs,
        load,
        estimates_off,
        links_at,
        lose_site,
        spot_losses,
        maintenance,
        varying_links,
        money_weight,
        own,
        spot_trace,
        carbon_trace,
    )
    seeds = list(dict.fromkeys(seed or [1]))
    try:
        scenario_of(setting, seeds[0])  # what is wrong with its files is told before anything else is done
        parameters = tuned(setting, chosen, processes, ray) if tune else {}
        runs = [Run(setting, each, name, parameters.get(name, {})) for each in seeds for name in chosen]
        results = list(sweep(runs, processes, ray))
        bounds = dict(zip(seeds, spread(bounded, [(setting, each) for each in seeds], processes, ray), strict=True))
    except BadTrace as error:
        raise Invalid(f"{error}") from error
    except OSError as error:
        raise Invalid(f"{error.filename}: {error.strerror}") from error
    _show(results, bounds, html, output)


def _faults(composition: str | None, own: Own, data: Path | None, policies: Sequence[str], html: Path | None) -> list[Fault]:
    """What is wrong with what was asked, before any file is read."""
    from broker.simulator.compositions import COMPOSITIONS
    from broker.simulator.policies import KINDS, Ours
    from broker.simulator.readers import READERS

    known = [Ours.name, *KINDS]
    faults = [Fault("--policy", f"{name}: one of {', '.join(known)} or {ALL}") for name in policies if name not in known]
    names = ", ".join(COMPOSITIONS)
    if composition is None and not (own.federation or own.jobs):
        faults.append(Fault("composition", f"is missing: one of {names}, or --federation and --jobs-from"))
    elif composition is not None and composition not in COMPOSITIONS:
        faults.append(Fault("composition", f"{composition}: one of {names}"))
    elif composition and own.federation and own.jobs:
        faults.append(Fault("composition", f"{composition}: nothing is left of it beside --federation and --jobs-from"))
    elif data is None and composition not in (None, COMPOSED):
        faults.append(Fault("--data", f"{composition} needs the folder of the traces"))
    if own.jobs_format and own.jobs_format not in READERS:
        faults.append(Fault("--jobs-format", f"{own.jobs_format}: one of {', '.join(READERS)}"))
    if own.jobs is None:
        asked = {"--jobs-format": own.jobs_format, "--draw-data": own.draws_data}
        faults += [Fault(option, "goes with --jobs-from") for option, value in asked.items() if value]
    if html and html.is_dir():
        faults.append(Fault("--html", f"{html} is a folder: name a file"))
    elif html and not html.absolute().parent.is_dir():
        faults.append(Fault("--html", f"{html}: there is no such folder"))
    return faults


def _show(results: Sequence[Result], bounds: Mapping[int, Bound], html: Path | None, output: Format) -> None:
    from broker.simulator.page import as_html
    from broker.simulator.report import HEADS, as_json, rows

    if html:
        page = as_html(results, bounds)
        unfinished = html.with_name(f".{html.name}.new")
        unfinished.write_text(page, encoding="utf-8")
        os.replace(unfinished, html)
    answer = as_json(results, bounds)

    def table(_: object) -> None:
        for note in answer["notes"]:
            print(note)
        print_table(HEADS, rows(results, bounds))

    show(json.loads(json.dumps(answer)), output, table)
