"""`fed backup` from a running federation, and `fed restore` into an empty store."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import Exit
from broker.cli.session import Session
from broker.cli.up import Config, DataDir, Etcd, settings_of
from broker.errors import InConflict, NoAnswer

if TYPE_CHECKING:
    from broker.client import Client
    from broker.config import Settings
    from broker.store.backup import Backup


def backup(context: typer.Context, file: Annotated[Path, typer.Argument(help="Made anew; what is there stays.")]) -> None:
    """Write all records into a file, for `fed restore`. Nothing has to stand still for it."""
    from broker.store.backup import BackupError, read_backup

    session: Session = context.obj
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    if file.exists():
        raise InConflict(f"{file} is there already: name another")

    async def fetch(client: Client) -> None:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as to:
            async for chunk in client.backup():
                to.write(chunk)
            to.flush()
            os.fsync(to.fileno())

    try:
        session.run(fetch)
        records = len(read_backup(part).records)
        os.link(part, file)
    except BackupError as error:
        raise NoAnswer(f"what came is not whole: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    print(f"{file}: {records} records")


def restore(
    file: Annotated[Path, typer.Argument(help="Of `fed backup`.")],
    data_dir: DataDir = None,
    etcd: Etcd = None,
    config: Config = None,
) -> None:
    """Write the records of a backup into a store that has none of the federation; brokers that are started on it wait for
    `fed resume`."""
    from broker.config import SettingsError
    from broker.store.backup import BackupError, read_backup
    from broker.store.base import StoreError

    try:
        settings = settings_of(config, data_dir, etcd)
        read = read_backup(file)
    except (SettingsError, BackupError, OSError) as error:
        print(f"fed: {error}", file=sys.stderr)
        raise typer.Exit(Exit.USAGE) from error
    try:
        written = asyncio.run(_restore(settings, read))
    except (SettingsError, BackupError, StoreError, OSError) as error:
        print(f"fed: {error}", file=sys.stderr)
        raise typer.Exit(Exit.REFUSED) from error
    print(f"{written} records restored: start brokers, look at what they show, then `fed resume`")


async def _restore(settings: Settings, read: Backup) -> int:
    from broker.app import opened_store
    from broker.clock import SystemClock
    from broker.store.backup import restore
    from broker.store.keys import Keys

    async with opened_store(settings, SystemClock()) as store:
        return await restore(store, Keys(settings.federation), read, time.time())
