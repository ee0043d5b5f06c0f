"""Verbs on what the federation is made of: apply, get, delete, health, cordon, uncordon, site test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.exits import Exit
from broker.cli.session import Format, Output, Session, ago, print_table, show, text_of
from broker.errors import Fault, Invalid, NotFound

if TYPE_CHECKING:
    from broker.client import Client, Json

KINDS: Mapping[str, tuple[str, ...]] = {
    "sites": ("name", "region", "kind", "health", "admission", "jobs", "reason"),
    "links": ("name", "bandwidth_gbps", "measured_gbps", "latency_ms", "price_per_gib"),
    "datasets": ("tenant", "name", "version", "size_bytes", "sites"),
    "tenants": ("name", "parent", "weight", "max_pending", "pending"),
    "jobs": ("id", "name", "tenant", "phase", "site", "attempt", "reason"),
}
"""What can be shown, and the columns of its table."""

WIDE: Mapping[str, tuple[str, ...]] = {
    "sites": ("name", "region", "kind", "fabric", "storage", "pools", "health", "admission", "owner", "jobs", "reason"),
    "datasets": ("tenant", "name", "version", "size_bytes", "sites", "checksum"),
    "jobs": ("id", "name", "tenant", "phase", "site", "attempt", "created_at", "finished_at", "exit_code", "reason"),
}
"""With `-o wide`, where there is more to tell."""

SPARE: Mapping[str, tuple[str, ...]] = {
    "sites": ("storage", "pools", "fabric", "owner", "region", "kind", "jobs", "admission"),
    "links": ("measured_gbps",),
    "jobs": ("attempt", "tenant", "created_at", "finished_at", "exit_code", "id"),
}
"""What a narrow terminal goes without, first what is missed least."""

ORDER = ("sites", "links", "tenants", "datasets")
"""What is applied first, since what follows refers to it."""

TOGETHER = 16
"""Documents under way at a time."""


def apply(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--file", "-f", help="YAML documents; - for standard input.")],
    output: Output = Format.TABLE,
) -> None:
    """Declare sites, links, datasets and tenants."""
    session: Session = context.obj
    documents = _documents(text_of(file))

    async def put(client: Client) -> Json:
        gate = asyncio.Semaphore(TOGETHER)

        async def one(kind: str, name: str, body: Json) -> Json:
            async with gate:
                return {"kind": kind, "name": name, **await client.put(kind, name, body)}

        items: list[Json] = []
        for stage in ORDER:
            for layer in _layers([each for each in documents if each[0] == stage]):
                items += await asyncio.gather(*(one(*each) for each in layer))
        return {"items": items, "next": None}

    show(session.run(put), output, _print_applied)


def get(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}; or KIND/NAME.")],
    name: Annotated[str | None, typer.Argument(help="One of them; all when absent.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose dataset or jobs.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what is registered."""
    session: Session = context.obj
    plural, only, whose = named(kind, name, tenant)

    async def fetch(client: Client) -> Json:
        return await client.list(plural, tenant=whose) if only is None else await one_of(client, plural, only, whose)

    answer = session.run(fetch)
    items = answer["items"] if only is None else [answer]

    def table(columns: tuple[str, ...]) -> None:
        print_table(columns, [[_of(item, column) for column in columns] for item in items], SPARE.get(plural, ()))

    show(answer, output, lambda _: table(KINDS[plural]), lambda _: table(WIDE.get(plural, KINDS[plural])))


def delete(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="site, link, dataset or tenant; or KIND/NAME")],
    name: Annotated[str | None, typer.Argument(help="Its name; a dataset's with @version.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose dataset.")] = None,
) -> None:
    """Remove what nothing uses any more."""
    session: Session = context.obj
    plural, only, whose = named(kind, name, tenant)
    if plural == "jobs":
        raise Invalid(f"a job is ended, not deleted: `fed cancel {only or 'ID'}`; those that are over go by themselves")
    if only is None:
        raise Invalid(f"which of the {plural}? Give its name")
    session.run(lambda client: client.delete(plural, only, tenant=whose))
    print(f"{only} deleted")


def health(context: typer.Context, output: Output = Format.TABLE) -> None:
    """How sites, store and brokers are."""
    session: Session = context.obj
    show(session.run(lambda client: client.health()), output, print_health)


def cordon(context: typer.Context, site: str) -> None:
    """Let a site take no new jobs; what runs there goes on."""
    session: Session = context.obj
    session.run(lambda client: client.cordon(site))
    print(f"{site} takes no new jobs")


def uncordon(context: typer.Context, site: str) -> None:
    """Let a site take jobs again."""
    session: Session = context.obj
    session.run(lambda client: client.cordon(site, is_cordoned=False))
    print(f"{site} takes jobs")


def ask_site(context: typer.Context, site: str, output: Output = Format.TABLE) -> None:
    """Ask each layer of a site now: reach, login, scheduler, storage. Exits with 1 when one fails."""
    session: Session = context.obj
    answer = session.run(lambda client: client.test(site))
    show(answer, output, _print_checks)
    if not all(check["is_ok"] for check in answer["checks"]):
        raise typer.Exit(Exit.FAILED)


def _documents(text: str) -> list[tuple[str, str, Json]]:
    """Kind, name and body of each document. Raises Invalid, before anything is sent."""
    from broker.documents import parse_documents

    found = []
    for document in parse_documents(text):
        plural, body = f"{document.kind.lower()}s", dict(document.plain)
        if plural not in ORDER:
            raise Invalid(faults=[Fault("kind", "use `fed submit` for jobs", document.number, document.line)])
        name = f"{body['from']}:{body['to']}" if plural == "links" else body["name"]
        found.append((plural, f"{name}@{body.get('version', '1')}" if plural == "datasets" else name, body))
    if not found:
        raise Invalid(faults=[Fault("document", "there is none: begin with `kind: Site`, or another kind")])
    return found


def _layers(documents: Sequence[tuple[str, str, Json]]) -> Iterator[list[tuple[str, str, Json]]]:
    """What may be applied together: a tenant comes after its parent, where both are there."""
    left = list(documents)
    while left:
        names = {name for _, name, _ in left}
        free = [each for each in left if each[2].get("parent") not in names - {each[1]}] or left
        yield free
        left = [each for each in left if each not in free]


def kind_of(given: str) -> str:
    """The plural that the API uses. Raises Invalid."""
    if not is_kind(given):
        raise Invalid(faults=[Fault("kind", f"{given} is none of {', '.join(KINDS)}")])
    return _plural(given)


def is_kind(given: str) -> bool:
    """Whether it is the name of a kind, in the plural or not."""
    return _plural(given) in KINDS


def _plural(given: str) -> str:
    return given.lower() if given.lower().endswith("s") else f"{given.lower()}s"


def named(kind: str, name: str | None, tenant: str | None) -> tuple[str, str | None, str | None]:
    """Plural, name and tenant of `KIND NAME`, `KIND/NAME`, and of `TENANT/NAME` for a dataset. Raises Invalid."""
    if name is None and "/" in kind:
        kind, name = kind.split("/", 1)
    plural = kind_of(kind)
    if plural == "datasets" and name is not None and "/" in name:
        tenant, name = name.split("/", 1)
    return plural, name, tenant


async def one_of(client: Client, plural: str, name: str, tenant: str | None) -> Json:
    """One of a kind. Raises NotFound, which names the tenants that have such a dataset, where none was asked for."""
    try:
        return await client.get(plural, name, tenant=tenant)
    except NotFound as error:
        if plural != "datasets" or tenant is not None:
            raise
        known = (await client.list(plural))["items"]
        others = sorted({each["tenant"] for each in known if name in (each["name"], f"{each['name']}@{each['version']}")})
        if not others:
            raise
        raise NotFound(f"{error.detail}; there is {' and '.join(f'{other}/{name}' for other in others)}") from error


def _of(item: Json, column: str) -> Any:
    match column:
        case "kind":
            return item.get("engine", {}).get("kind")
        case "storage":
            return item.get("storage", {}).get("url")
        case "pools":
            return [f"{pool['name']}: {pool['nodes']} nodes" for pool in item.get("pools", ())]
        case "created_at" | "started_at" | "finished_at":
            return ago(item.get(column))
    return item.get(column)


def _print_applied(answer: Json) -> None:
    print_table(("kind", "name"), [(each["kind"], each["name"]) for each in answer["items"]])


def _print_checks(answer: Json) -> None:
    rows = [[check["layer"], _verdict(check), f"{check['latency_ms']:.0f} ms", check["message"]] for check in answer["checks"]]
    print_table(("layer", "answer", "took", "message"), rows)


def _verdict(check: Json) -> str:
    if check["is_ok"]:
        return "warns" if check.get("is_warning") else "ok"
    return "misconfigured" if check["is_misconfigured"] else "fails"


def print_health(answer: Json) -> None:
    """Sites as a table, then store and brokers."""
    columns = ("name", "health", "takes_jobs", "admission", "since", "owner", "jobs", "reason")
    rows = [[ago(site["since"]) if column == "since" else site[column] for column in columns] for site in answer["sites"]]
    print_table(columns, rows, ("owner", "since", "jobs", "takes_jobs"))
    if not answer["sites"]:
        print("no sites yet: `fed apply -f FILE` declares them")
    store = answer["store"]
    size, quota = ((store[name] or 0) / 2**20 for name in ("size_bytes", "quota_bytes"))
    state = store["reason"] or ("takes new jobs" if store["takes_new_jobs"] else "takes no new jobs")
    print(f"\nstore: version {store['version']}, {size:.1f} of {quota:.0f} MiB, {store['members']} members, {state}")
    if answer["paused"]:
        print(f"PAUSED: {answer['paused']['reason']}")
    print(f"brokers: {', '.join(each['id'] for each in answer['members']) or 'none'}; leader: {answer['leader'] or 'none'}")
