"""Verbs on jobs that are there: jobs, why, logs, cancel, wait, download."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import Exit
from broker.cli.planning import print_why
from broker.cli.session import Format, Output, Session, ago, clock_time, print_table, show
from broker.cli.waiting import copy_logs
from broker.errors import InConflict, Invalid

if TYPE_CHECKING:
    from broker.client import Client, Json

Label = Annotated[str | None, typer.Option("--label", "-l", help="Only those with such labels: a=b,c!=d,e,!f.")]
OneJob = Annotated[str | None, typer.Argument(metavar="ID", help="A job's id, or a name that only it has.")]
Phases = Annotated[str | None, typer.Option("--phase", help="Those in these phases, with commas between.")]
Site = Annotated[str | None, typer.Option("--site", help="Those at this site.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Those of this tenant.")]
JobName = Annotated[str | None, typer.Option("--name", help="Those of this name.")]
Since = Annotated[str | None, typer.Option("--since", help="Younger ones: epoch seconds, or 2026-01-31T08:00:00Z.")]
Everything = Annotated[bool, typer.Option("--all", help="Every job.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, or a name that only it has.")]


def list_jobs(
    context: typer.Context,
    phase: Annotated[str | None, typer.Option(help="Only those in this phase.")] = None,
    site: Annotated[str | None, typer.Option(help="Only those at this site.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    label: Label = None,
    name: JobName = None,
    since: Since = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Then go on with what changes.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="The `next` of the page before.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List jobs, newest first."""
    session: Session = context.obj
    narrow = {"phase": phase, "site": site, "tenant": tenant, "label": label, "name": name, "since": since}
    answer = session.run(lambda client: client.jobs(limit, cursor, **narrow))
    show(answer, output, print_jobs, lambda _: print_jobs(answer, WIDE))
    if watch:
        session.run(lambda client: print_changes(client, narrow))


def events(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="ID", help="Of this job; of all, as they happen, when absent.")] = None,
    phase: Annotated[str | None, typer.Option(help="Only of jobs that come to this phase.")] = None,
    site: Annotated[str | None, typer.Option(help="Only of those at this site.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant's.")] = None,
    label: Label = None,
    output: Output = Format.TABLE,
) -> None:
    """What happened to a job; or all changes of jobs as they happen, until interrupted."""
    session: Session = context.obj
    if job is None:
        narrow = {"phase": phase, "site": site, "tenant": tenant, "label": label}
        session.run(lambda client: print_changes(client, narrow))
        return
    columns = ("at", "event", "attempt", "site", "words")
    answer = session.run(lambda client: client.job_events(job))
    rows = [[clock_time(each[column]) if column == "at" else each[column] for column in columns] for each in answer["items"]]
    show(answer, output, lambda _: print_table(columns, rows))


def why(context: typer.Context, job: JobId, output: Output = Format.TABLE) -> None:
    """Explain why a job is where it is, or why it waits and what would help."""
    session: Session = context.obj
    show(session.run(lambda client: client.why(job)), output, print_why)


def logs(
    context: typer.Context,
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task ends.")] = False,
    task: Annotated[int, typer.Option(min=0, help="Which task of a gang.")] = 0,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which attempt; the last when absent.")] = None,
    tail: Annotated[int | None, typer.Option(min=0, help="Only so many of the last lines.")] = None,
) -> None:
    """Print what a task wrote."""
    session: Session = context.obj
    session.run(lambda client: copy_logs(client.logs(job, task, attempt, follow=follow, tail=tail)))


def _asking(verb: str, words: str) -> Callable[..., None]:
    """The verb that asks something of one job, or of all that filters mean."""

    def ask(
        context: typer.Context,
        job: OneJob = None,
        label: Label = None,
        phase: Phases = None,
        site: Site = None,
        tenant: Tenant = None,
        name: JobName = None,
        since: Since = None,
        everything: Everything = False,
        output: Output = Format.TABLE,
    ) -> None:
        narrow = {"label": label, "phase": phase, "site": site, "tenant": tenant, "name": name, "since": since}
        _wish(context.obj, verb, job, narrow, everything, output)

    ask.__name__, ask.__doc__ = verb, words
    return ask


cancel = _asking("cancel", "Ask for the end of a job, or of all that the filters mean; `fed wait` tells when it is over.")
hold = _asking("hold", "Keep a job that waits from being placed, or all that the filters mean.")
release = _asking("release", "Let a held job be placed, or all that the filters mean.")


def _wish(session: Session, verb: str, job: str | None, narrow: Json, everything: bool, output: Format) -> None:
    """Of one job or of many, never of both."""
    is_many = everything or any(narrow.values())
    if (job is not None) == is_many:
        raise Invalid(f"which job? Give `fed {verb} ID`, or filters such as -l team=vision, or --all")
    if job is None:
        many = session.run(lambda client: client.for_all(verb, **narrow, all=everything))
        show(many, output, lambda _: print(f"{verb}: {many['changed']} of {many['matched']} jobs"))
        return
    show(session.run(lambda client: client.wish(job, verb)), output, lambda answer: print_jobs({"items": [answer]}))


def wait(
    context: typer.Context,
    job: JobId,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds; without it as long as it takes.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Wait until a job is over: exit code 0 when it succeeded, 1 when not, 6 when time was up."""
    from broker.client import TimedOut

    session: Session = context.obj
    try:
        answer = session.run(lambda client: client.wait(job, timeout))
    except TimedOut as error:
        print(f"fed: {error}", file=sys.stderr)
        raise typer.Exit(Exit.TIMED_OUT) from error
    show(answer, output, lambda answer: print_jobs({"items": [answer]}))
    if answer["phase"] != "succeeded":
        raise typer.Exit(Exit.FAILED)


def download(
    context: typer.Context,
    job: JobId,
    to: Annotated[Path, typer.Option("--to", "-d", help="A directory; made when absent.")] = Path(),
) -> None:
    """Fetch a job's outputs, a directory for each."""
    import tarfile
    import tempfile

    session: Session = context.obj
    with tempfile.TemporaryFile() as archive:

        async def fetch(client: Client) -> None:
            async for chunk in client.outputs(job):
                archive.write(chunk)

        session.run(fetch)
        archive.seek(0)
        try:
            to.mkdir(parents=True, exist_ok=True)
            with tarfile.open(fileobj=archive) as tar:
                tar.extractall(to, filter="data")
                names = sorted({member.name.split("/")[0] for member in tar.getmembers()})
        except (OSError, tarfile.TarError) as error:
            raise InConflict(f"{to}: {error}") from error
    for name in names:
        print(to / name)


COLUMNS = ("id", "name", "phase", "site", "age", "attempt", "wait_s", "staging_s", "run_s", "money", "carbon_kg", "reason")
WIDE = (*COLUMNS[:2], "tenant", *COLUMNS[2:4], "pool", "native_id", *COLUMNS[4:9], "exit_code", *COLUMNS[9:])
SPARE = (
    *("native_id", "pool", "staging_s", "carbon_kg", "money", "exit_code", "attempt", "tenant"),
    *("wait_s", "run_s", "age", "id", "site"),
)
"""What a narrow terminal goes without, first what is missed least."""


def print_jobs(answer: Json, columns: Sequence[str] = COLUMNS) -> None:
    """Jobs as a table."""
    rows = [[_of(job, column) for column in columns] for job in answer["items"]]
    print_table(columns, rows, SPARE, short=columns is COLUMNS)
    if answer.get("next"):
        print(f"more: --cursor {answer['next']}")


def _of(job: Json, column: str) -> object:
    match column:
        case "money" | "carbon_kg":
            return (job.get("cost") or {}).get(column)
        case "pool" | "native_id":
            return job["attempts"][-1][column] if job["attempts"] else None
        case "age":
            return ago(job["created_at"])
        case "wait_s" | "staging_s" | "run_s":
            return None if job.get(column) is None else f"{job[column]:.1f}"
        case "reason" if job.get("is_cancel_asked") and job["phase"] not in ("succeeded", "failed", "cancelled"):
            return "is being cancelled"
    return job.get(column)


async def print_changes(client: Client, narrow: Mapping[str, str | None]) -> None:
    """A line for each change, for ever."""
    async for event in client.events(None, **narrow):
        if "reset" in event:
            print("some changes were missed: see `fed jobs`", file=sys.stderr)
            continue
        print(" ".join(str(event[name]) for name in ("job", "name", "phase", "site", "reason") if event[name]), flush=True)
