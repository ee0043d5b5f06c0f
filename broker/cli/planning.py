"""Plans: where jobs would go, and why they are where they are, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.scripts import bodies_of
from broker.cli.session import Format, Output, Session, show

if TYPE_CHECKING:
    from broker.client import Client, Json

File = Annotated[Path, typer.Option("--file", "-f", help="Jobs as YAML documents; - for standard input.")]


def plan(context: typer.Context, file: File, output: Output = Format.TABLE) -> None:
    """Show where jobs would go, and why; nothing is stored. Of a script or command: `fed submit --dry-run`."""
    show_plans(context.obj, bodies_of(file), output)


def show_plans(session: Session, bodies: Sequence[Json], output: Format) -> None:
    """Ask for the plan of each, and print them."""

    async def ask(client: Client) -> list[Json]:
        return [{"name": body["name"], **await client.plan(body)} for body in bodies]

    answers = session.run(ask)
    answer = answers[0] if len(answers) == 1 else {"items": answers, "next": None}

    def table(_: Json) -> None:
        for each in answers:
            print_why(each)

    show(answer, output, table)


def print_why(answer: Json) -> None:
    """What was decided or stands in the way, one site a line. A job that waits is at no site, though one may be the best now."""
    told = ("job", "name", "phase") if answer.get("phase") == "pending" else ("job", "name", "phase", "site")
    print(" ".join(str(answer[name]) for name in told if answer.get(name)))
    for attempt in answer.get("attempts", ()):
        print(f"  attempt {attempt['number']} at {attempt['site']}:")
        for line in attempt["lines"]:
            print(f"    {line}")
    for verdict in answer["verdicts"]:
        print(f"  {verdict['text']}")
    if answer["reason"]:
        print(f"  {answer['reason']}")
    for part in ("start", "standing"):
        if answer.get(part) and not answer["site"]:
            print(f"  {answer[part]['text']}")
    for help_ in [*answer["help"], *(each["text"] for each in answer.get("remedies", ()))]:
        print(f"  would help: {help_}")
