"""`fed token`: the file of tokens that an endpoint takes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from broker.access import Role, TokensError, add_token, read_tokens, remove_token, rotate_token
from broker.cli.session import print_table
from broker.errors import Fault, Invalid

File = Annotated[Path, typer.Option("--file", "-f", help="The `token_file` of the broker's settings.")]
tokens = typer.Typer(no_args_is_help=True, help="Who may call: new, rotate, ls, rm. Brokers see changes of the file at once.")


@tokens.command("new")
def new(
    file: File,
    name: Annotated[str, typer.Option(help="Whose it is; what records and the audit name.")],
    role: Annotated[Role, typer.Option(help="What they may do.")] = Role.USER,
    tenant: Annotated[str | None, typer.Option(help="Whose jobs and datasets; a viewer may be of all.")] = None,
    expires: Annotated[str | None, typer.Option(help="After that it is refused: 2027-01-31, or 2027-01-31T08:00:00Z.")] = None,
) -> None:
    """Make a token and print it: the file keeps only its hash."""
    try:
        print(add_token(file, name, role, tenant, expires))
    except TokensError as error:
        raise Invalid(str(error)) from error


@tokens.command("rotate")
def rotate(
    file: File,
    name: str,
    grace: Annotated[str, typer.Option(help="So long the old one is good, too, such as 1h.")] = "",
) -> None:
    """Give somebody another token, and print it; role, tenant and expiry stay."""
    from broker.documents.fields import seconds_of

    try:
        grace_s = seconds_of(grace) if grace else 0.0
    except ValueError as error:
        raise Invalid(faults=[Fault("--grace", str(error))]) from error
    try:
        print(rotate_token(file, name, grace_s, datetime.now(UTC).timestamp()))
    except TokensError as error:
        raise Invalid(str(error)) from error


@tokens.command("ls")
def list_all(file: File) -> None:
    """The entries of the file."""
    try:
        found = read_tokens(file)
    except TokensError as error:
        raise Invalid(str(error)) from error
    now = datetime.now(UTC).timestamp()
    rows = [(e.name, e.role, e.tenant, e.expires, "expired" if e.expires_at <= now else "good") for e in found]
    print_table(("name", "role", "tenant", "expires", "state"), rows)


@tokens.command("rm")
def remove(file: File, name: str) -> None:
    """Take a token back, at once."""
    try:
        remove_token(file, name)
    except TokensError as error:
        raise Invalid(str(error)) from error
    print(f"{name} may call no more")
