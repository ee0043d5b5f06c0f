"""`fed`: options for all verbs, and errors as exit codes.

Modules that take long to import are imported by the verbs that need them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from broker.cli import (
    backup,
    datasets,
    doctor,
    federation,
    jobs,
    looking,
    operating,
    planning,
    simulate,
    submitting,
    tokens,
    up,
    whatif,
)
from broker.cli.exits import Exit
from broker.cli.session import Session
from broker.errors import FedError, Invalid, NoAnswer, NotFound, Unavailable

SUMMARY = "Jobs go to their data, over a federation of data centres."
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("sbatch", "run", "srun", "launch", "exec"), "submit"),
    **dict.fromkeys(("squeue", "queue", "ps", "ls", "list", "sacct"), "jobs"),
    **dict.fromkeys(("scancel", "kill", "stop", "rm"), "cancel"),
    **dict.fromkeys(("show", "scontrol", "explain"), "describe"),
    **dict.fromkeys(("sinfo", "nodes", "top", "info"), "status"),
    **dict.fromkeys(("create", "edit", "register"), "apply"),
    **dict.fromkeys(("version", "help"), "--{}"),
    "results": "download",
}
"""What people type who come from other schedulers, and our verb for it."""


class Verbs(TyperGroup):
    """Tells who types another scheduler's verb which is ours."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As click's, with better words."""
        if args and args[0] in ELSEWHERE:
            ctx.fail(f"No such command '{args[0]}': use `fed {ELSEWHERE[args[0]].format(args[0])}`.")
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=Verbs, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True, help=SUMMARY)
app.command()(up.up)
VERBS: tuple[Callable[..., None], ...] = (
    federation.apply,
    federation.get,
    federation.delete,
    looking.describe,
    looking.status,
    looking.topology,
    federation.health,
    doctor.doctor,
    operating.pause,
    operating.resume,
    operating.audit,
    operating.unstick,
    backup.backup,
    backup.restore,
    federation.cordon,
    federation.uncordon,
    operating.drain,
    planning.plan,
    simulate.simulate,
    whatif.whatif,
    jobs.why,
    jobs.logs,
    jobs.events,
    jobs.cancel,
    jobs.hold,
    jobs.release,
    jobs.wait,
    jobs.download,
)
for verb in VERBS:
    app.command()(verb)
app.command(cls=submitting.CommandAfterDashes)(submitting.submit)
app.command("jobs")(jobs.list_jobs)
app.add_typer(operating.site, name="site")
app.add_typer(datasets.datasets, name="dataset")
app.add_typer(tokens.tokens, name="token")


def _tell_version(is_asked: bool) -> None:
    from broker import version

    if is_asked:
        print(f"fed {version()}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="FED_URL", help="The endpoint, or several with commas between.")] = "http://127.0.0.1:7777",
    token: Annotated[str | None, typer.Option(envvar="FED_TOKEN", help="What the endpoint wants to see.")] = None,
    ca: Annotated[str | None, typer.Option(envvar="FED_CA", help="A file with the authority of its certificate.")] = None,
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Show it and exit.")] = False,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for an endpoint that is away.")] = 10.0,
) -> None:
    """Options that stand before the verb."""
    context.obj = Session(url, token, patience, ca)


def main() -> None:
    """The command: runs a verb and exits."""
    try:
        app()
    except FedError as error:
        sys.exit(_told(error))
    except OSError as error:  # what the verbs foresee is told by them: this is a disk that is full, for one
        print(f"fed: {error}", file=sys.stderr)
        sys.exit(Exit.REFUSED)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)


def _told(error: FedError) -> Exit:
    """Say on stderr what was wrong and how to cure it; the exit code."""
    lines = [str(fault) for fault in error.faults] or [error.detail]
    print("\n".join(f"fed: {line}" for line in lines), file=sys.stderr)
    match error:
        case Invalid():
            return Exit.USAGE
        case NotFound():
            return Exit.NOT_FOUND
        case NoAnswer() | Unavailable():
            return Exit.NO_ANSWER
        case _:
            return Exit.REFUSED
