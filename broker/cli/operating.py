"""Verbs for who runs the federation: site cordon, uncordon, drain, test and forget; pause, resume, audit, unstick."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from broker.cli.exits import Exit
from broker.cli.federation import ask_site, cordon, uncordon
from broker.cli.session import Format, Output, Session, clock_time, print_table, show

LOOK_S = 1.0

site = typer.Typer(no_args_is_help=True, help="A site at work: cordon, uncordon, drain, test, forget.")
site.command("cordon")(cordon)
site.command("uncordon")(uncordon)
site.command("test")(ask_site)


@site.command("drain")
def drain(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SITE")],
    finish: Annotated[bool, typer.Option("--finish", help="Let what runs already come to its end there.")] = False,
    wait: Annotated[bool, typer.Option(help="Until nothing is left there.")] = True,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait; exit code 6 when they are over.")] = None,
) -> None:
    """Take no new jobs, and move away what is there. `fed site uncordon` ends it."""
    session: Session = context.obj
    shown = session.run(lambda client: client.drain(name, finish))
    until = None if timeout is None else time.monotonic() + timeout
    told = None
    while wait and not shown["drained"]:
        left = f"{name}: {shown['jobs']} jobs are left" + (f", {shown['unresolved']} out of reach" if shown["unresolved"] else "")
        if left != told:
            print(told := left, flush=True)
        if until is not None and time.monotonic() > until:
            raise typer.Exit(Exit.TIMED_OUT)
        time.sleep(LOOK_S)
        shown = session.run(lambda client: client.get("sites", name))
    print(f"{name} is drained" if shown["drained"] else f"{name} drains")


@site.command("forget")
def forget(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SITE")],
    why: Annotated[str, typer.Option(help="What became of it: it stays in the audit.")],
) -> None:
    """Take out a site that will never come back, with its links; its jobs go elsewhere where their retries allow."""
    session: Session = context.obj
    told = session.run(lambda client: client.forget(name, why))
    print(f"{name} is forgotten: {told['jobs']} jobs were there, {len(told['links'])} links led to it")
    for dataset in told["datasets_lost"]:
        print(f"its copy of {dataset} was the only one")


def pause(context: typer.Context, why: Annotated[str, typer.Option(help="Told to whoever asks why jobs wait.")] = "") -> None:
    """Let nothing be placed, anywhere; what is at a site goes on."""
    session: Session = context.obj
    print(session.run(lambda client: client.pause(why))["paused"]["reason"])


def unstick(
    context: typer.Context,
    job: str,
    why: Annotated[str, typer.Option(help="What is wrong with it: it stays in the audit.")],
) -> None:
    """End a job that a bug left: it fails now, and what may still run of it is stopped."""
    session: Session = context.obj
    told = session.run(lambda client: client.unstick(job, why))
    print(f"{told['id']} is {told['outcome']}")


def resume(context: typer.Context) -> None:
    """End a pause; after a restore of the store: let brokers act again, once you have looked at what it brought back."""
    session: Session = context.obj
    session.run(lambda client: client.resume())
    print("the brokers act again")


def audit(
    context: typer.Context,
    who: Annotated[str | None, typer.Option(help="Only what this caller did.")] = None,
    what: Annotated[str | None, typer.Option(help="Only this: create, change, delete, cancel, hold, cordoned ...")] = None,
    record: Annotated[str | None, typer.Option(help="Only of this, such as sites/ams or wishes/.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="The `next` of the page before.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Who changed what, newest first; -o json has each record before and after."""
    session: Session = context.obj
    answer = session.run(lambda client: client.audit(limit, cursor, who=who, what=what, record=record))
    columns = ("at", "who", "what", "record")
    rows = [[clock_time(each["at"]), *(each[column] for column in columns[1:])] for each in answer["items"]]
    show(answer, output, lambda _: print_table(columns, rows))
