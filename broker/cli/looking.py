"""Verbs that put several answers together: describe, status, topology."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.drawing import dot_of, svg_of
from broker.cli.federation import is_kind, named, one_of, print_health
from broker.cli.planning import print_why
from broker.cli.session import Format, Output, Session, clock_time, print_table, show
from broker.errors import Invalid

if TYPE_CHECKING:
    from broker.client import Client, Json


def describe(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="job, site, link, dataset or tenant; KIND/NAME; or just a job.")],
    name: Annotated[str | None, typer.Argument(help="Its name, or a job's id.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose dataset or job.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """All that is known of one thing, for people, without what is empty; of a job also why it is where it is."""
    session: Session = context.obj
    if name is None and "/" not in kind and not is_kind(kind):
        kind, name = "job", kind
    plural, only, whose = named(kind, name, tenant)
    if only is None:
        raise Invalid(f"which of the {plural}? Give its name")

    async def fetch(client: Client) -> Json:
        found = await one_of(client, plural, only, whose)
        return {**found, "why": await client.why(found["id"])} if plural == "jobs" else found

    show(session.run(fetch), output, _print_all)


def status(context: typer.Context, output: Output = Format.TABLE) -> None:
    """The federation at a glance: what waits by tenant, and what `fed health` says."""
    session: Session = context.obj

    async def fetch(client: Client) -> Json:
        return {"tenants": (await client.list("tenants"))["items"], "health": await client.health()}

    def table(answer: Json) -> None:
        rows = [(each["name"], each["pending"], each["max_pending"]) for each in answer["tenants"]]
        print_table(("tenant", "pending", "max_pending"), rows)
        print()
        print_health(answer["health"])

    show(session.run(fetch), output, table)


def topology(
    context: typer.Context,
    path: Annotated[list[str] | None, typer.Argument(metavar="[path A B]", help="The routes from one site to another.")] = None,
    dot: Annotated[bool, typer.Option("--dot", help="For Graphviz.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Draw it into this file.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Sites and the links between them; with `path A B` how data would go."""
    session: Session = context.obj
    if path:
        if len(path) != 3 or path[0] != "path":
            raise Invalid("use `fed topology`, or `fed topology path A B`")
        show(session.run(lambda client: client.path(path[1], path[2])), output, _print_routes)
        return

    async def fetch(client: Client) -> Json:
        return {kind: (await client.list(kind))["items"] for kind in ("sites", "links")}

    answer = session.run(fetch)
    if svg is not None:
        svg.write_text(svg_of(answer["sites"], answer["links"]))
        print(svg)
    elif dot:
        print(dot_of(answer["sites"], answer["links"]), end="")
    else:
        show(answer, output, _print_topology)


def _print_all(answer: Json) -> None:
    from broker.documents.plain import yaml_of

    told = answer.get("why")
    print(yaml_of(_readable({name: value for name, value in answer.items() if name != "why"})), end="")
    if told:
        print("why:")
        print_why(told)


def _readable(value: Any, name: str = "") -> Any:
    """Without what is empty, with times as a clock shows them, no more digits than anyone reads, and text line by line."""
    from broker.documents.plain import literal

    if isinstance(value, dict):
        found = {each: _readable(below, each) for each, below in value.items()}
        return {each: below for each, below in found.items() if below not in (None, "", [], {})}
    if isinstance(value, list):
        return [_readable(each) for each in value]
    if isinstance(value, float):
        return clock_time(value) if name == "since" or name.endswith("_at") else float(f"{value:.6g}")
    return literal(value) if isinstance(value, str) and "\n" in value else value


def _print_routes(answer: Json) -> None:
    if not answer["routes"]:
        print(f"no links lead from {answer['from']} to {answer['to']}")
        return
    columns = ("by", "links", "bottleneck_gbps", "latency_ms", "price_per_gib")
    print_table(columns, [[_here(route, column) for column in columns] for route in answer["routes"]])


def _here(route: Json, column: str) -> Any:
    return " ".join(route["links"]) or "none: it is one site" if column == "links" else route[column]


def _print_topology(answer: Json) -> None:
    columns = ("name", "region", "health", "jobs")
    print_table(columns, [[site[column] for column in columns] for site in answer["sites"]])
    print()
    ways = ("name", "bandwidth_gbps", "measured_gbps", "latency_ms", "price_per_gib")
    print_table(ways, [[link[way] for way in ways] for link in answer["links"]])
