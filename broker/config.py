"""Settings of a broker: models of `configs/broker.yaml`, which says every one with its default and a comment."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from broker.documents.reading import DocumentError, parse_plain


class SettingsError(Exception):
    """Settings that cannot be read; the message names file, field and cure."""


def is_loopback(host: str) -> bool:
    """Whether an address, or a name, is this machine's and no other's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Listen(BaseModel):
    """Where the endpoint listens. Port 0 takes a free one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=7777, ge=0, le=65535)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


class Etcd(BaseModel):
    """The store. Without endpoints an embedded etcd runs below `data_dir`. Secrets are files, never values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoints: tuple[str, ...] = ()
    """Such as `http://10.0.0.1:2379`; `https` for TLS."""
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    user: str | None = None
    password_file: str | None = None


class Tls(BaseModel):
    """The certificate that the endpoint shows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cert_file: str
    """With the chain, as PEM. Taken anew when it changes."""
    key_file: str
    ca_file: str | None = None
    """The authority of the other brokers' certificates; those that the machine trusts when absent."""


class Tracing(BaseModel):
    """Where spans go, by OTLP over HTTP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str
    """A collector: `http://HOST:4318`, to which OTLP's own path is added, or with a path, which is taken as it is."""
    sample: float = Field(default=0.1, ge=0, le=1)
    """The share of traces that is kept; a caller who brings a trace has decided for it."""
    ca_file: str | None = None
    """The authority of the collector's certificate; those that the machine trusts when absent."""
    token_file: str | None = None

    @property
    def url(self) -> str:
        """What spans are posted to."""
        return self.endpoint if urlsplit(self.endpoint).path.strip("/") else f"{self.endpoint.rstrip('/')}/v1/traces"

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, given: str) -> str:
        try:
            parts = urlsplit(given)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_url = False
        if not is_url or parts.query or parts.fragment or not given.isascii() or given.split() != [given]:
            raise ValueError("not the URL of a collector: write http://HOST:PORT or https://HOST:PORT, as in http://127.0.0.1:4318")
        if "@" in parts.netloc:
            raise ValueError("holds a name or a password: put the collector's token into a file and name it by token_file")
        return given


class Planning(BaseModel):
    """Where plans are made: in one process, or in parts of the federation side by side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: int = Field(default=1, ge=1, le=64)
    """Groups of sites, each planned in a process of its own."""
    ray: str | None = None
    """Plan the parts on Ray instead: the address of a cluster, such as `auto` or `HOST:6379`, or `local` for one of our own."""

    @model_validator(mode="after")
    def _is_divided(self) -> Planning:
        if self.ray is not None and self.partitions == 1:
            raise ValueError("ray: one part is planned here; set partitions to 2 or more")
        return self


class KeepFinished(BaseModel):
    """How long finished jobs stay: the older ones go when either bound is passed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hours: float = Field(default=168.0, gt=0)
    count: int = Field(default=100_000, gt=0)


class Settings(BaseModel):
    """One broker process. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    federation: str = "fed"
    listen: Listen = Listen()
    url: str | None = None
    """Where other brokers of the federation reach this endpoint; from `listen` when absent."""
    token_file: str | None = None
    """A file of tokens, one of which every request must bear: `fed token new` makes it. Needed to listen beyond this machine."""
    tls: Tls | None = None
    data_dir: str | None = None
    """Where an embedded etcd keeps its files."""
    etcd: Etcd = Etcd()
    mode: Literal["development", "production"] = "development"
    """In production what is unsafe is refused, and not only warned of: no tokens, no TLS beyond this machine, tokens that others
    can read, an embedded etcd that can lose writes in a crash."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    tracing: Tracing | None = None
    """Traces for OpenTelemetry; wants the extra `otel`. The same for all brokers of a federation, since any may lead."""
    lease_ttl_s: float = Field(default=3.0, ge=2.0)
    plan_interval_s: float = Field(default=1.0, gt=0)
    planning: Planning = Planning()
    share_half_life_hours: float = Field(default=24.0, gt=0)
    """What a tenant held counts half as much towards its fair share after so long."""
    observe_interval_s: float = Field(default=0.5, gt=0)
    call_timeout_s: float = Field(default=30.0, gt=0)
    """The most a call to a site may take; a shorter lease shortens it."""
    probe_interval_s: float = Field(default=5.0, gt=0)
    probe_timeout_s: float = Field(default=3.0, gt=0)
    down_after: int = Field(default=3, ge=1)
    """Failed probes in a row that turn suspect into down."""
    site_lost_after_s: float = Field(default=600.0, gt=0)
    suspect_ourselves_share: float = Field(default=0.5, gt=0, le=1)
    """With at least two sites failing and more than this share of all, nothing is evicted: the fault may be ours."""
    keep_finished: KeepFinished = KeepFinished()
    keep_temporary_hours: float = Field(default=24.0, gt=0)
    """Working directories that were sent with jobs go so long after they were sent, once no unfinished job reads them."""
    max_upload_gib: float = Field(default=100.0, gt=0)
    """The largest dataset that may be sent through this broker."""
    keep_history_revisions: int = Field(default=10_000, gt=0)
    quota_bytes: int = Field(default=2 * 2**30, gt=0)
    admission_share: float = Field(default=0.8, gt=0, le=1)
    """Above this share of the store's quota new jobs are answered 429."""

    @property
    def is_production(self) -> bool:
        """Whether what is unsafe is refused."""
        return self.mode == "production"

    @model_validator(mode="before")
    @classmethod
    def _has_no_old_names(cls, given: Any) -> Any:
        if isinstance(given, dict) and "production" in given:
            raise ValueError("production: write `mode: production`")
        return given

    @model_validator(mode="after")
    def _is_guarded(self) -> Settings:
        if not self.listen.is_loopback and self.token_file is None:
            raise ValueError(f"listen.host: others can reach {self.listen.host}; set token_file, or listen on 127.0.0.1")
        if self.is_production and self.token_file is None:
            raise ValueError("token_file: a broker in production wants tokens: `fed token new --file F` makes the file")
        if self.is_production and self.tls is None and not self.listen.is_loopback:
            raise ValueError("tls: a broker in production that others can reach wants it: set tls.cert_file and tls.key_file")
        return self


def read_settings(path: Path | None, over: dict[str, object]) -> Settings:
    """Settings of a file, with those of the command line over them. Raises SettingsError."""
    given = _given(path) if path else {}
    try:
        return Settings.model_validate(_merged(given, over))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ") for each in error.errors())
        raise SettingsError(f"{path or 'settings'}: {faults}") from error


def _given(path: Path) -> dict[str, object]:
    try:
        documents = parse_plain(path.read_text()) or [{}]
    except (OSError, UnicodeDecodeError, DocumentError) as error:
        raise SettingsError(f"{path}: {error}") from error
    if len(documents) > 1 or not isinstance(documents[0], dict):
        raise SettingsError(f"{path}: must be one mapping of settings")
    return documents[0]


def read_secret(path: str) -> str:
    """A token or password from its file, without the line's end. Raises SettingsError."""
    try:
        secret = Path(path).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    if not secret:
        raise SettingsError(f"{path}: holds no secret")
    return secret


def _merged(under: dict[str, object], over: dict[str, object]) -> dict[str, object]:
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
