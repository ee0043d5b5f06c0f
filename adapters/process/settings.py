"""Settings of a site whose engine is `process`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from adapters.process.codec import EngineConfig
from topology.site import Site


class ProcessSettings(BaseModel):
    """All have defaults that suit a site on this machine. Paths are absolute."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    state_dir: str | None = Field(default=None, pattern="^/")
    """Where the engine keeps what it must not forget; `.fed/engine` below the site's storage when absent."""
    socket: str | None = Field(default=None, pattern="^/")
    """Where it listens; `engine.sock` in its state directory when absent."""
    autostart: bool = True
    """Whether the adapter starts an engine that does not run; it then outlives the broker."""
    cancel_grace_s: float = Field(default=10.0, ge=0, strict=False)
    """Between SIGTERM and SIGKILL."""
    keep_logs_mib: float = Field(default=200.0, ge=0, strict=False)
    keep_logs_hours: float = Field(default=24.0, ge=0, strict=False)
    """Output of forgotten runs stays until either bound is passed."""


def state_dir_of(storage: Path) -> Path:
    """The state directory of an engine whose settings name none."""
    return storage / ".fed" / "engine"


def socket_of(state_dir: Path) -> Path:
    """The socket of an engine whose settings name none."""
    return state_dir / "engine.sock"


def config_of(site: Site, settings: ProcessSettings) -> EngineConfig:
    """What the site's daemon is started with. Raises ValueError for storage that is not a directory of this machine."""
    url = urlsplit(site.storage.url)
    if url.scheme != "file" or url.netloc or not url.path.startswith("/"):
        raise ValueError(f"storage.url: a process site's storage is file:///some/directory, not {site.storage.url}")
    storage = Path(unquote(url.path))
    state_dir = Path(settings.state_dir) if settings.state_dir else state_dir_of(storage)
    return EngineConfig(
        site=site.name,
        storage=str(storage),
        state_dir=str(state_dir),
        socket=settings.socket or str(socket_of(state_dir)),
        pools=site.pools,
        cancel_grace_s=settings.cancel_grace_s,
        keep_logs_mib=settings.keep_logs_mib,
        keep_logs_hours=settings.keep_logs_hours,
    )
