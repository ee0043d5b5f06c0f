"""`fed up`: a broker in the foreground."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import Exit

if TYPE_CHECKING:
    from broker.config import Settings

log = logging.getLogger(__name__)

LAST_READS_S = 2.0
"""How long what still reads from a site's storage may take to notice that the broker is over."""


DataDir = Annotated[Path | None, typer.Option(help="Where an embedded etcd keeps its files.")]
Etcd = Annotated[str | None, typer.Option(help="URLs of an etcd cluster, with commas between, not an embedded one.")]
Config = Annotated[Path | None, typer.Option(help="Settings, as in configs/broker.yaml; options here are stronger.")]


def up(
    data_dir: DataDir = None,
    etcd: Etcd = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 when absent.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 7777 when absent, 0 for a free one.")] = None,
    config: Config = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text, or json: an object a line.")] = None,
) -> None:
    """Run a broker until SIGINT or SIGTERM."""
    from broker.app import run_until_signal
    from broker.config import SettingsError
    from broker.log import log_to_stderr
    from broker.store.base import StoreError

    listen = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    try:
        settings = settings_of(config, data_dir, etcd, listen=listen or None, log_level=log_level, log_format=log_format)
        log_to_stderr(settings.log_level, settings.log_format)
        run_until_signal(settings, on_start=lambda url: print(f"fed: listening on {url}", flush=True))
    except (SettingsError, StoreError, OSError) as error:
        print(f"fed: {error}", file=sys.stderr)
        raise typer.Exit(Exit.USAGE) from error
    _leave_readers()


def settings_of(config: Path | None, data_dir: Path | None, etcd: str | None, **more: object) -> Settings:
    """What a file says, and stronger options; None is for one that was not given. Raises SettingsError."""
    from broker.config import SettingsError, read_settings

    over: dict[str, object] = {
        "data_dir": str(data_dir) if data_dir else None,
        "etcd": {"endpoints": [url.strip() for url in etcd.split(",")]} if etcd else None,
        **more,
    }
    settings = read_settings(config, {name: value for name, value in over.items() if value is not None})
    if data_dir and etcd:
        raise SettingsError("--data-dir and --etcd: give one, an embedded etcd or one that is there")
    if settings.data_dir is None and not settings.etcd.endpoints:
        raise SettingsError("where are the records? --data-dir DIR for an embedded etcd, or --etcd URL for one that is there")
    return settings


def _leave_readers() -> None:
    """End the process if a thread is still at work. All is handed over by now, and what it does the next owner does anew; but at
    its end Python waits for such threads: for hours where one sums up a large output, for ever where storage hangs."""
    until = time.monotonic() + LAST_READS_S
    others = [each for each in threading.enumerate() if not each.daemon and each is not threading.current_thread()]
    for thread in others:
        thread.join(max(until - time.monotonic(), 0.0))
    still = [thread.name for thread in others if thread.is_alive()]
    if still:
        log.warning("left at work: %s", ", ".join(still))
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
