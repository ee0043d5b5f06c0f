"""`fed`: options for all verbs, and errors as exit codes.

0 well, 1 a job failed, 2 wrong usage or a document that is not valid, 3 not found, 4 refused or in conflict, 5 the endpoint does
not answer, 6 timed out. Modules that take long to import are imported by the verbs that need them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from broker.cli import backup, doctor, federation, jobs, looking, operating, planning, submitting, tokens, up
from broker.cli.session import Session
from broker.errors import FedError, Invalid, NoAnswer, NotFound, Unavailable

SUMMARY = "Jobs go to their data, over a federation of data centres."
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True, help=SUMMARY)
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
    planning.plan,
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
app.add_typer(tokens.tokens, name="token")


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="FED_URL", help="The endpoint.")] = "http://127.0.0.1:7777",
    token: Annotated[str | None, typer.Option(envvar="FED_TOKEN", help="What the endpoint wants to see.")] = None,
    ca: Annotated[str | None, typer.Option(envvar="FED_CA", help="A file with the authority of its certificate.")] = None,
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
        sys.exit(4)
    except KeyboardInterrupt:
        sys.exit(130)


def _told(error: FedError) -> int:
    """Say on stderr what was wrong and how to cure it; the exit code."""
    lines = [str(fault) for fault in error.faults] or [error.detail]
    print("\n".join(f"fed: {line}" for line in lines), file=sys.stderr)
    match error:
        case Invalid():
            return 2
        case NotFound():
            return 3
        case NoAnswer() | Unavailable():
            return 5
        case _:
            return 4
