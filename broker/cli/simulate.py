"""`fed simulate`: the planner and others over recorded or generated work, without any broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.session import Format, Output, print_table, show
from broker.errors import Fault, Invalid

ALL = "all"


def simulate(
    composition: Annotated[str, typer.Argument(help="lcg-swim, philly, alibaba or generated.")],
    data: Annotated[Path | None, typer.Option(help="The folder of the traces and link tables; `generated` needs none.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Who decides; several times for several; `all`.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Several times for several.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="The window's length.")] = 20_000,
    load: Annotated[float, typer.Option(min=0.01, help="Work asked for, as a part of what the federation can do.")] = 0.9,
    money_weight: Annotated[float, typer.Option(min=0.0, help="What a unit of money weighs beside an hour, for jobs.")] = 0.5,
    estimates_off: Annotated[float, typer.Option(min=1.0, help="Run times are expected wrong by up to this factor.")] = 1.0,
    links_at: Annotated[float, typer.Option(min=0.001, help="The part of every link's bandwidth that is there.")] = 1.0,
    lose_site: Annotated[bool, typer.Option("--lose-site", help="The largest site is lost for two hours at the peak.")] = False,
    spot_losses: Annotated[float, typer.Option(min=0.0, help="Half a pool's nodes go for an hour, so often a day.")] = 0.0,
    maintenance: Annotated[bool, typer.Option("--maintenance", help="Each site is closed for four hours once.")] = False,
    varying_links: Annotated[bool, typer.Option("--varying-links", help="Links change every half hour.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots here (needs the extra `simulate`).")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Simulations side by side.")] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Run them as Ray tasks (needs the extra `ray`).")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Try policies on recorded or generated work in virtual time: waits, completion, money, bytes, carbon, fairness."""
    from broker.simulator.compositions import COMPOSITIONS
    from broker.simulator.policies import KINDS, Ours
    from broker.simulator.readers import BadTrace
    from broker.simulator.report import COLUMNS, as_html, as_json, rows
    from broker.simulator.sweep import Run, Setting, sweep

    known = [Ours.name, *KINDS]
    chosen = policy or [Ours.name, "locality", "least-loaded"]
    if ALL in chosen:
        chosen = known
    faults = [Fault("--policy", f"{name}: one of {', '.join(known)} or {ALL}") for name in chosen if name not in known]
    if composition not in COMPOSITIONS:
        faults.append(Fault("composition", f"{composition}: one of {', '.join(COMPOSITIONS)}"))
    elif data is None and composition != "generated":
        faults.append(Fault("--data", f"{composition} needs the folder of the traces"))
    if faults:
        raise Invalid(faults=faults)
    setting = Setting(
        composition,
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
    )
    runs = [Run(setting, each, name) for each in seed or [1] for name in chosen]
    try:
        results = list(sweep(runs, processes, ray))
    except BadTrace as error:
        raise Invalid(f"{error}") from error
    except OSError as error:
        raise Invalid(f"{error.filename}: {error.strerror}") from error
    if html:
        html.write_text(as_html(results))
    answer = as_json(results)

    def table(_: object) -> None:
        for note in answer["notes"]:
            print(note)
        print_table(("policy", *COLUMNS), rows(results))

    show(json.loads(json.dumps(answer)), output, table)
