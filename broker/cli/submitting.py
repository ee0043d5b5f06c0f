"""`fed submit`: jobs from documents, from a script with directives, or from a command after `--`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from broker.cli.datasets import with_workdir
from broker.cli.options import fields_of, merged, variables
from broker.cli.planning import show_plans
from broker.cli.scripts import bodies_of, has_foreign_lines, scripted
from broker.cli.session import Format, Output, Session, print_table, show, text_of
from broker.cli.waiting import exit_code_of, follow_to_its_end, wait_for_all
from broker.errors import Fault, Invalid

if TYPE_CHECKING:
    from broker.client import Client, Json

BULK = 500
"""Jobs in one request."""
MOST_COPIES = 100_000
MOST_TOLD = 20
"""Of jobs that did not succeed, each with its reason."""
COMMAND = "fed.command"
INDEX = "{index}"
FOREIGN_WORDS = (
    "what another scheduler reads in it says nothing here: write lines such as `#FED cpus: 2`, `#FED memory: 4G`, "
    "`#FED gpus: a100:1`, `#FED walltime: 10m`; an array is `--count 8 --env N={index}`"
)


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
    memory: Annotated[str | None, typer.Option(help="Per task: GiB, or such as 512M.")] = None,
    gpus: Annotated[str | None, typer.Option(help="Per task: a number, or TYPE:NUMBER.")] = None,
    input_: Annotated[list[str] | None, typer.Option("--input", help="A dataset to read; may be repeated.")] = None,
    output_: Annotated[list[str] | None, typer.Option("--save", help="A dataset that it makes; may be repeated.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be repeated; {index} is the --count's.")] = None,
    walltime: Annotated[str | None, typer.Option(help="Killed after that, such as 10m.")] = None,
    objective: Annotated[str | None, typer.Option(help="fastest, cheapest or greenest.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Money that no attempt may be expected to exceed.")] = None,
    deadline: Annotated[str | None, typer.Option(help="To be over by then, such as 6h from now.")] = None,
    preemptible: Annotated[bool | None, typer.Option("--preemptible", help="Best effort: gives way to what is not.")] = None,
    site: Annotated[list[str] | None, typer.Option(help="Only there; may be repeated.")] = None,
    prefer: Annotated[list[str] | None, typer.Option(help="There before elsewhere; repeated, in that order.")] = None,
    workdir: Annotated[Path | None, typer.Option(help="A directory to work in, sent along; `.fedignore` says what not.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any field of a job, such as `max_wait: 2h`.")] = None,
    count: Annotated[int, typer.Option(min=1, max=MOST_COPIES, help="So many of each.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="Until all are over; the exit code is the job's.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Of one job: print what it writes, and wait for its end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show where it would go, as `fed plan`; nothing is made.")] = False,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key makes the same jobs, however often sent.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Hand in jobs: -f FILE, a script with `#FED` lines, or `-- COMMAND`. Prints their ids."""
    session: Session = context.obj
    if idempotency_key is not None and not (idempotency_key and idempotency_key.isascii() and idempotency_key.isprintable()):
        raise Invalid(faults=[Fault("--idempotency-key", "use printable ASCII characters, at least one")])
    command = context.meta.get(COMMAND)
    short = {"cpus": cpus, "memory": memory, "gpus": gpus, "input": input_, "save": output_, "site": site, "prefer": prefer}
    plain: Json = {"name": name, "tenant": tenant, "tasks": tasks, "walltime": walltime, "objective": objective}
    plain |= {"max_cost": max_cost, "deadline": deadline, "preemptible": preemptible}
    asked = {field: value for field, value in plain.items() if value is not None} | fields_of(short, "--") | variables(env or ())
    whole = _fields(set_ or ())
    bodies = copies([{**body, **whole} for body in _asked(script, file, command, asked)], count)
    if follow and len(bodies) != 1:
        raise Invalid(faults=[Fault("--follow", f"these are {len(bodies)} jobs: it follows one; use --wait")])
    if dry_run:
        show_plans(session, bodies, output)
        return
    if workdir is not None:
        bodies = with_workdir(session, bodies, workdir, site[0] if site else None)
    answers = session.run(lambda client: _send(client, bodies, idempotency_key))
    items = [item for answer in answers for item in answer.get("items", [answer])]
    _tell_made(answers, items, None if follow else output)
    if wait or follow:
        over = _ends(session, [item["id"] for item in items], follow)
        _tell_failed([job for job in over if job["phase"] != "succeeded"])
        raise typer.Exit(exit_code_of(over))


def _tell_made(answers: Sequence[Json], items: Sequence[Json], output: Format | None) -> None:
    """The jobs that were made, and warnings; without `output` only on stderr, since what the job writes is to be printed."""
    for warning in [warning for answer in answers for warning in answer.get("warnings", ())]:
        print(f"fed: warning: {warning}", file=sys.stderr)
    if output is None:
        print("\n".join(f"fed: {item['id']} {item['name']}" for item in items), file=sys.stderr)
        return
    rows = [(each["id"], each["name"], each["phase"]) for each in items]
    answer = {"items": items, "next": None} if len(items) > 1 else answers[0]
    show(answer, output, lambda _: print_table(("id", "name", "phase"), rows))


def copies(bodies: Sequence[Json], count: int) -> list[Json]:
    """So many of each; their names are told apart by a number, which their variables may hold as `{index}`."""
    if count == 1:
        return list(bodies)
    return [_copy(body, number) for body in bodies for number in range(1, count + 1)]


def _copy(body: Json, number: int) -> Json:
    named = {**body, "name": f"{body['name']}-{number}"}
    if not isinstance(env := body.get("env"), dict):
        return named
    return {**named, "env": {name: value.replace(INDEX, str(number)) for name, value in env.items()}}


def _asked(script: Path | None, file: Path | None, command: Sequence[str] | None, over: Json) -> list[Json]:
    """The jobs that the command line asks for. Raises Invalid."""
    ways = [way for way in (script, file, command) if way is not None]
    if len(ways) != 1:
        raise Invalid("what is to be run? Give one of `-f FILE`, a script, and `-- COMMAND`")
    if file is not None:
        return [merged(body, over) for body in bodies_of(file)]
    if script is not None:
        text = text_of(script)
        if has_foreign_lines(text):
            print(f"fed: warning: {script}: {FOREIGN_WORDS}", file=sys.stderr)
        return [scripted(text, _name_from(script.stem), over)]
    if not command:
        raise Invalid("--: name a program behind it")
    return [{"name": _name_from(Path(command[0]).stem), "command": list(command), **over}]


def _ends(session: Session, jobs: Sequence[str], follow: bool) -> list[Json]:
    """The jobs once all are over; who stops waiting is told that they go on."""
    try:
        return [follow_to_its_end(session, jobs[0])] if follow else wait_for_all(session, jobs)
    except KeyboardInterrupt:
        what = f"{jobs[0]} goes on: `fed cancel {jobs[0]}` ends it" if len(jobs) == 1 else f"these {len(jobs)} jobs go on"
        print(f"\nfed: {what}", file=sys.stderr)
        raise


def _tell_failed(jobs: Sequence[Json]) -> None:
    for job in jobs[:MOST_TOLD]:
        print(f"fed: {job['id']} {job['phase']}: {job['reason']}; `fed logs {job['id']}` has its output", file=sys.stderr)
    if len(jobs) > MOST_TOLD:
        print(f"fed: and {len(jobs) - MOST_TOLD} more: `fed jobs --phase failed,cancelled`", file=sys.stderr)


def _name_from(word: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", word.lower()).strip("-")[:40] or "job"


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
