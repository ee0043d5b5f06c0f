"""`fed up`: a broker in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

USAGE = 2


def up(
    data_dir: Annotated[Path | None, typer.Option(help="Where an embedded etcd keeps its files.")] = None,
    etcd: Annotated[str | None, typer.Option(help="URLs of an etcd cluster, with commas between, not an embedded one.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 when absent.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 7777 when absent, 0 for a free one.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings, as in configs/broker.yaml; options here are stronger.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Run a broker until SIGINT or SIGTERM."""
    from broker.app import run_until_signal
    from broker.config import SettingsError, read_settings
    from broker.log import log_to_stderr
    from broker.store.base import StoreError

    over: dict[str, object] = {
        "data_dir": str(data_dir) if data_dir else None,
        "etcd": {"endpoints": [url.strip() for url in etcd.split(",")]} if etcd else None,
        "listen": {name: value for name, value in (("host", host), ("port", port)) if value is not None} or None,
        "log_level": log_level,
    }
    try:
        settings = read_settings(config, {name: value for name, value in over.items() if value is not None})
        if data_dir and etcd:
            raise SettingsError("--data-dir and --etcd: give one, an embedded etcd or one that is there")
        if settings.data_dir is None and not settings.etcd.endpoints:
            raise SettingsError("where are the records? --data-dir DIR for an embedded etcd, or --etcd URL for one that is there")
        log_to_stderr(settings.log_level)
        run_until_signal(settings, on_start=lambda url: print(f"fed: listening on {url}", flush=True))
    except (SettingsError, StoreError, OSError) as error:
        print(f"fed: {error}", file=sys.stderr)
        raise typer.Exit(USAGE) from error
