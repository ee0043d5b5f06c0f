"""`fed whatif`: what would come of a change to the live federation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.session import Format, Output, Session, print_table, show, text_of
from broker.errors import Fault, Invalid

if TYPE_CHECKING:
    from broker.client import Json

SHOWN = 10
"""Of the jobs that would begin again; all that the broker names are in `-o json`."""
SITE_COLUMNS = ("", "jobs", "cpu hours", "GPU hours", "money")
COLUMNS = ("", "jobs", "never end", "mean start h", "last start h", "mean end h", "last end h", "money", "kg CO2", "WAN GiB")


def whatif(
    context: typer.Context,
    lose_site: Annotated[list[str] | None, typer.Option(help="A site that is gone.")] = None,
    nodes: Annotated[list[str] | None, typer.Option(metavar="SITE/POOL=+N", help="Nodes more, or fewer.")] = None,
    cpu_hour: Annotated[list[str] | None, typer.Option(metavar="SITE=MONEY", help="Another price of a cpu hour.")] = None,
    gpu_hour: Annotated[list[str] | None, typer.Option(metavar="SITE/TYPE=MONEY", help="Another price of a GPU hour.")] = None,
    link: Annotated[list[str] | None, typer.Option(metavar="FROM:TO=GBPS", help="Another bandwidth, or a new link.")] = None,
    link_price: Annotated[list[str] | None, typer.Option(metavar="FROM:TO=MONEY", help="Another price per GiB.")] = None,
    carbon: Annotated[list[str] | None, typer.Option(metavar="SITE=G", help="Other g of CO2 per kWh.")] = None,
    weight: Annotated[list[str] | None, typer.Option(metavar="TENANT=WEIGHT", help="Another weight of a tenant.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="The same as YAML; - for standard input.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Simulate all that waits and runs, as the federation is and as it might be; nothing is stored."""
    session: Session = context.obj
    body: Json = _document(file) if file else {}
    body |= {"lose_sites": list(lose_site)} if lose_site else {}
    body |= _listed("nodes", [_nodes(each) for each in nodes or ()])
    body |= _listed("prices", [*map(_cpu_hour, cpu_hour or ()), *map(_gpu_hour, gpu_hour or ())])
    body |= _listed("links", [*_links("link", "bandwidth_gbps", link), *_links("link-price", "price_per_gib", link_price)])
    body |= {"carbon": dict(_pair("carbon", each) for each in carbon)} if carbon else {}
    body |= {"weights": dict(_pair("weight", each) for each in weight)} if weight else {}
    show(session.run(lambda client: client.what_if(body)), output, _print)


def _document(file: Path) -> Json:
    from broker.documents.reading import parse_plain

    documents = parse_plain(text_of(file))
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise Invalid(faults=[Fault("--file", "give it one mapping, such as `lose_sites: [ams]`")])
    found: Json = documents[0]
    return found


def _listed(field: str, items: Sequence[Json]) -> Json:
    return {field: list(items)} if items else {}


def _nodes(text: str) -> Json:
    where, more = _pair("nodes", text, int)
    site, pool = _parts("nodes", where, "/")
    return {"site": site, "pool": pool, "more": more}


def _cpu_hour(text: str) -> Json:
    site, price = _pair("cpu-hour", text)
    return {"site": site, "cpu_hour": price}


def _gpu_hour(text: str) -> Json:
    where, price = _pair("gpu-hour", text)
    site, kind = _parts("gpu-hour", where, "/")
    return {"site": site, "gpu_hour": {kind: price}}


def _links(option: str, field: str, texts: Sequence[str] | None) -> list[Json]:
    found = []
    for text in texts or ():
        where, value = _pair(option, text)
        source, target = _parts(option, where, ":")
        found.append({"from": source, "to": target, field: value})
    return found


def _pair(option: str, text: str, number: Callable[[str], Any] = float) -> tuple[str, Any]:
    """`WHAT=NUMBER`. Raises Invalid."""
    what, sign, value = text.partition("=")
    try:
        if what and sign:
            return what, number(value)
    except ValueError:
        pass
    raise Invalid(faults=[Fault(f"--{option}", f"{text}: use WHAT=NUMBER, such as {_EXAMPLES[option]}")])


def _parts(option: str, text: str, between: str) -> tuple[str, str]:
    left, sign, right = text.partition(between)
    if not (left and sign and right):
        raise Invalid(faults=[Fault(f"--{option}", f"{text}: use such as {_EXAMPLES[option]}")])
    return left, right


_EXAMPLES = {
    "nodes": "fra/gpu=+4",
    "cpu-hour": "ams=0.02",
    "gpu-hour": "ams/a100=1.2",
    "link": "ams:fra=40",
    "link-price": "ams:fra=0.01",
    "carbon": "ams=50",
    "weight": "vision=3",
}


def _print(answer: Json) -> None:
    for note in answer["notes"]:
        print(note)
    print_table(COLUMNS, _rows([answer["whole"]]))
    for title, items in (("tenants", answer["tenants"]), ("classes of which most changes", answer["classes"])):
        if items:
            print(f"\n{title}:")
            print_table(COLUMNS, _rows(items))
    print("\nsites:")
    print_table(SITE_COLUMNS, [_row(each["site"], each, _SITE_FIELDS) for each in answer["sites"]])
    if answer["stuck"]:
        print("\nwhat never runs:")
        print_table(("jobs", "why"), [[_both(each["before"], each["after"]), each["reason"]] for each in answer["stuck"]])
    if answer["moved"]:
        print(f"\njobs that run now and would have to begin again: {answer['moved']}")
        print_table(("job", "tenant", "runs at", "would end at"), [_moved(each) for each in answer["moved_jobs"][:SHOWN]])


def _rows(items: Sequence[Json]) -> list[list[str]]:
    return [_row(each["name"], each, _FIELDS) for each in items]


def _row(name: str, each: Json, fields: Sequence[str]) -> list[str]:
    return [name, *(_both(each["before"][field], each["after"][field]) for field in fields)]


def _moved(each: Json) -> list[str]:
    return [each["job"], each["tenant"], each["site"], each["then"] or "nowhere"]


_FIELDS = ("jobs", "never_end", "mean_start_h", "last_start_h", "mean_end_h", "last_end_h", "money", "carbon_kg", "wan_gib")


_SITE_FIELDS = ("jobs", "cpu_hours", "gpu_hours", "money")


def _both(before: float, after: float) -> str:
    """The number, or both where it changes."""
    was, now = f"{before:.4g}", f"{after:.4g}"
    return was if was == now else f"{was} -> {now}"
