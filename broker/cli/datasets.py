"""`fed dataset put|ls|rm`: datasets by their bytes. `fed apply` declares those that are at a site already."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.session import Format, Output, Session, ago, clock_time, print_table, show

if TYPE_CHECKING:
    from broker.client import Client, Json

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
STEP = 1024

datasets = typer.Typer(no_args_is_help=True, help="Datasets: put, ls, rm.")
Whose = Annotated[str | None, typer.Option(help="Whose dataset.")]


@datasets.command()
def put(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="Without a version, its content is its version.")],
    path: Annotated[Path, typer.Argument(help="A file, or a directory with all that is in it.")],
    site: Annotated[str | None, typer.Option(help="Where it is kept; the largest that takes jobs when absent.")] = None,
    tenant: Whose = None,
    output: Output = Format.TABLE,
) -> None:
    """Send files to a site and name them as a dataset: jobs read them as `--input NAME`. What is there is not sent again."""
    session: Session = context.obj
    with progress(f"{path} to {site or 'a site'}") as on_bytes:
        made = session.run(lambda client: client.upload(name, path, site, tenant, on_bytes))
    show(made, output, lambda _: _tell([made]))


@datasets.command("ls")
def list_datasets(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="All versions of this one only.")] = None,
    tenant: Whose = None,
    output: Output = Format.TABLE,
) -> None:
    """List datasets: how large, at which sites, and how many unfinished jobs read them."""
    session: Session = context.obj
    found = session.run(lambda client: client.list("datasets", tenant=tenant))
    items = [item for item in found["items"] if name in (None, item["name"], f"{item['name']}@{item['version']}")]
    show({"items": items, "next": None}, output, lambda _: _tell(items))


@datasets.command()
def rm(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest version where none is named.")],
    tenant: Whose = None,
) -> None:
    """Remove a dataset that no unfinished job reads. Files that were sent by `fed dataset put` are removed from the site within a
    day; those that were there before stay."""
    session: Session = context.obj
    session.run(lambda client: client.delete("datasets", name, tenant=tenant))
    print(f"dataset {name} is removed")


def with_workdir(session: Session, bodies: Sequence[Json], workdir: Path, site: str | None) -> list[Json]:
    """The jobs with the directory that they work in, which is sent once for each tenant."""
    tenants = {body.get("tenant") for body in bodies}
    with progress(f"{workdir} to {site or 'a site'}") as on_bytes:

        async def send(client: Client) -> dict[str | None, str]:
            return {tenant: await client.upload_workdir(workdir, site, tenant, on_bytes) for tenant in tenants}

        sent = session.run(send)
    return [{**body, "workdir": sent[body.get("tenant")]} for body in bodies]


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """How far sending is, on a terminal; elsewhere nothing is told."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    how_far = BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn()
    with Progress(TextColumn("{task.description}", markup=False), *how_far, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda sent, of: bar.update(task, completed=sent, total=of)


def _tell(items: list[Json]) -> None:
    columns = ("tenant", "name", "version", "size", "sites", "read by", "age", "kept until")
    print_table(columns, map(_row, items))


def _row(item: Json) -> tuple[object, ...]:
    until = clock_time(item["temporary_until"]) if item["temporary_until"] else None
    whose = item["tenant"], item["name"], item["version"]
    return *whose, size_of(item["size_bytes"]), item["sites"], item["read_by"], ago(item["created_at"]), until


def size_of(size_bytes: int | None) -> str:
    """Bytes as people say them; `-` where nobody knows."""
    if size_bytes is None:
        return "-"
    amount, unit = float(size_bytes), UNITS[0]
    for unit in UNITS:
        if amount < STEP or unit == UNITS[-1]:
            break
        amount /= STEP
    return f"{amount:.0f} {unit}" if unit == UNITS[0] else f"{amount:.1f} {unit}"
