"""The tracer that the settings ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.config import Settings, SettingsError
from broker.metrics import Metrics
from broker.tracing.tracer import OFF, Tracer


@asynccontextmanager
async def opened_tracer(settings: Settings, member: str, version: str, metrics: Metrics) -> AsyncIterator[Tracer]:
    """The one that is off, unless there is a section `tracing`. Raises SettingsError, also where the extra `otel` is missing."""
    if settings.tracing is None:
        yield OFF
        return
    try:
        from broker.tracing.otel import otel_tracer
    except ImportError as error:
        cure = "pip install 'fedbroker[otel]', or take the section out"
        raise SettingsError(f"tracing: the extra `otel` is not installed ({error}): {cure}") from error
    about = {
        "service.name": "fedbroker",
        "service.namespace": settings.federation,
        "service.instance.id": member,
        "service.version": version,
    }
    async with otel_tracer(settings.tracing, about, metrics) as tracer:
        yield tracer
