"""Settings of a broker: models of `configs/broker.yaml`, which says every one with its default and a comment."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class KeepFinished(BaseModel):
    """How long finished jobs stay: the older ones go when either bound is passed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hours: float = Field(default=168.0, gt=0)
    count: int = Field(default=100_000, gt=0)


class Settings(BaseModel):
    """One broker process. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    federation: str = "fed"
    lease_ttl_s: float = Field(default=3.0, ge=2.0)
    plan_interval_s: float = Field(default=1.0, gt=0)
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
    keep_history_revisions: int = Field(default=10_000, gt=0)
    quota_bytes: int = Field(default=2 * 2**30, gt=0)
    admission_share: float = Field(default=0.8, gt=0, le=1)
    """Above this share of the store's quota new jobs are answered 429."""
