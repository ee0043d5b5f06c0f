"""`fed submit`: jobs from documents, from a script with directives, or from a command after `--`."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from broker.cli.session import Format, Output, Session, print_table, show, text_of
from broker.cli.waiting import exit_code_of, wait_for_all
from broker.errors import Fault, Invalid

if TYPE_CHECKING:
    from broker.client import Client, Json

BULK = 500
"""Jobs in one request."""
MOST_COPIES = 100_000
MOST_TOLD = 20
"""Of jobs that did not succeed, each with its reason."""
DIRECTIVE = re.compile(r"#FED(?:[ \t](.*))?")
COMMAND = "fed.command"


class CommandAfterDashes(TyperCommand):
    """Keeps what stands behind `--` apart from arguments before it: it is a command of the user's, options and all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's, of what stands before `--`."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


def submit(
    context: typer.Context,
    script: Annotated[Path | None, typer.Argument(help="A script; its lines `#FED key: value` say what the job needs.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Jobs as YAML documents; - for standard input.")] = None,
    name: Annotated[str | None, typer.Option(help="The job's name; from the script or program when absent.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose job.")] = None,
    tasks: Annotated[int | None, typer.Option(help="How many at once, all at one site.")] = None,
    cpus: Annotated[float | None, typer.Option(help="Per task.")] = None,
    memory: Annotated[float | None, typer.Option(help="GiB per task.")] = None,
    gpus: Annotated[str | None, typer.Option(help="Per task: a number, or TYPE:NUMBER.")] = None,
    input_: Annotated[list[str] | None, typer.Option("--input", help="A dataset to read; may be repeated.")] = None,
    output_: Annotated[list[str] | None, typer.Option("--save", help="A dataset that it makes; may be repeated.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be repeated.")] = None,
    walltime: Annotated[str | None, typer.Option(help="Killed after that, such as 10m.")] = None,
    objective: Annotated[str | None, typer.Option(help="fastest, cheapest or greenest.")] = None,
    site: Annotated[list[str] | None, typer.Option(help="Only there; may be repeated.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any field of a job, such as `max_wait: 2h`.")] = None,
    count: Annotated[int, typer.Option(min=1, max=MOST_COPIES, help="So many of each.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="Until all are over; the exit code is the job's.")] = False,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key makes the same jobs, however often sent.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Hand in jobs: -f FILE, a script with `#FED` lines, or `-- COMMAND`. Prints their ids."""
    session: Session = context.obj
    if idempotency_key is not None and not (idempotency_key and idempotency_key.isascii() and idempotency_key.isprintable()):
        raise Invalid(faults=[Fault("--idempotency-key", "use printable ASCII characters, at least one")])
    command = context.meta.get(COMMAND)
    given = {
        "name": name,
        "tenant": tenant,
        "tasks": tasks,
        "resources": _resources(cpus, memory, gpus),
        "inputs": [{"dataset": each} for each in input_ or ()],
        "outputs": [{"dataset": each} for each in output_ or ()],
        "env": dict(_pair(each) for each in env or ()),
        "walltime": walltime,
        "objective": objective,
        "sites": {"require": {"site": site}} if site else None,
        **_fields(set_ or ()),
    }
    asked = {field: value for field, value in given.items() if value not in (None, [], {})}
    bodies = copies(_asked(script, file, command, asked), count)
    answers = session.run(lambda client: _send(client, bodies, idempotency_key))
    for warning in [warning for answer in answers for warning in answer.get("warnings", ())]:
        print(f"fed: warning: {warning}", file=sys.stderr)
    items = [item for answer in answers for item in answer.get("items", [answer])]
    answer = answers[0] if len(bodies) == 1 else {"items": items, "next": None}
    show(answer, output, lambda _: print_table(("id", "name", "phase"), [(e["id"], e["name"], e["phase"]) for e in items]))
    if wait:
        over = wait_for_all(session, [item["id"] for item in items])
        _tell_failed([job for job in over if job["phase"] != "succeeded"])
        raise typer.Exit(exit_code_of(over))


def bodies_of(file: Path) -> list[Json]:
    """The jobs of a file of documents. Raises Invalid, before anything is sent."""
    from broker.documents import parse_documents

    documents = parse_documents(text_of(file), default_kind="Job")
    strangers = [document for document in documents if document.kind != "Job"]
    if strangers:
        raise Invalid(faults=[Fault("kind", "use `fed apply` for what is no job", each.number, each.line) for each in strangers])
    if not documents:
        raise Invalid(f"{file}: holds no job")
    return [dict(document.plain) for document in documents]


def scripted(text: str, name: str, over: Mapping[str, Any]) -> Json:
    """The job of a script: its `#FED` lines up to the first command are one YAML mapping, and faults name their lines. What
    `over` says is stronger. Raises Invalid."""
    from broker.documents import parse_documents

    lines = []
    for line in text.splitlines():
        found = DIRECTIVE.fullmatch(line)
        if not found and line.strip() and not line.startswith("#"):
            break
        lines.append((found[1] or "") if found else "")
    said = {line.partition(":")[0].strip() for line in lines}
    lines += [f"{field}: {json.dumps(value)}" for field, value in {"name": name, "script": text}.items() if field not in said]
    body = dict(parse_documents("\n".join(lines), default_kind="Job")[0].plain)
    return {**body, **over}


def copies(bodies: Sequence[Json], count: int) -> list[Json]:
    """So many of each; their names are told apart by a number."""
    if count == 1:
        return list(bodies)
    return [{**body, "name": f"{body['name']}-{number}"} for body in bodies for number in range(1, count + 1)]


def _asked(script: Path | None, file: Path | None, command: Sequence[str] | None, over: Json) -> list[Json]:
    """The jobs that the command line asks for. Raises Invalid."""
    ways = [way for way in (script, file, command) if way is not None]
    if len(ways) != 1:
        raise Invalid("what is to be run? Give one of `-f FILE`, a script, and `-- COMMAND`")
    if file is not None:
        return [{**body, **over} for body in bodies_of(file)]
    if script is not None:
        return [scripted(text_of(script), _name_from(script.stem), over)]
    if not command:
        raise Invalid("--: name a program behind it")
    return [{"name": _name_from(Path(command[0]).stem), "command": list(command), **over}]


def _tell_failed(jobs: Sequence[Json]) -> None:
    for job in jobs[:MOST_TOLD]:
        print(f"fed: {job['id']} {job['phase']}: {job['reason']}; `fed logs {job['id']}` has its output", file=sys.stderr)
    if len(jobs) > MOST_TOLD:
        print(f"fed: and {len(jobs) - MOST_TOLD} more: `fed jobs --phase failed,cancelled`", file=sys.stderr)


def _name_from(word: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", word.lower()).strip("-")[:40] or "job"


def _resources(cpus: float | None, memory: float | None, gpus: str | None) -> Json:
    given: Json = {"cpus": cpus, "memory_gib": memory}
    for option, amount in (("--cpus", cpus), ("--memory", memory)):
        if amount is not None and not math.isfinite(amount):
            raise Invalid(faults=[Fault(option, f"{amount} is no amount")])
    if gpus is not None:
        kind, colon, number = gpus.rpartition(":")
        if not number.isdecimal() or (colon and not kind):
            raise Invalid(faults=[Fault("--gpus", f"{gpus} is neither a number nor TYPE:NUMBER, such as a100:2")])
        given["gpus"] = {"count": int(number), **({"types": [kind]} if kind else {})}
    return {name: value for name, value in given.items() if value is not None}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Invalid(faults=[Fault("--env", f"{text} is not NAME=VALUE")])
    return name, value


def _fields(texts: Sequence[str]) -> Json:
    """`key: value` as YAML. Raises Invalid."""
    from broker.documents.reading import parse_plain

    found: Json = {}
    for text in texts:
        try:
            values = parse_plain(text)
        except Invalid as error:
            raise Invalid(faults=[Fault("--set", fault.message) for fault in error.faults]) from error
        if len(values) != 1 or not isinstance(values[0], dict):
            raise Invalid(faults=[Fault("--set", f"{text} is not `field: value`")])
        found.update(values[0])
    return found


async def _send(client: Client, bodies: Sequence[Json], key: str | None) -> list[Json]:
    if len(bodies) == 1:
        return [await client.submit(bodies[0], key)]
    answers = []
    for start in range(0, len(bodies), BULK):
        part = f"{key}.{start}" if key and start else key
        answers.append(await client.submit(bodies[start : start + BULK], part))
    return answers
