"""How many requests a tenant may send: a bucket of tokens each, filled at its rate, that holds one second of them.

Each member counts for itself, so a federation of several takes as many times more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler

from broker.api.auth import caller, is_open
from broker.api.services import SERVICES
from broker.errors import TooMany


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The buckets, by tenant."""

    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def wait_s(self, tenant: str, rate: float, now: float) -> float:
        """0 where one more request of a tenant is taken at `now` (monotonic seconds), which counts it; else the seconds until one
        will be. `rate` is in requests per second."""
        most = max(rate, 1.0)
        bucket = self._buckets.setdefault(tenant, _Bucket(most, now))
        bucket.tokens = min(bucket.tokens + max(now - bucket.at, 0.0) * rate, most)
        bucket.at = now
        if bucket.tokens < 1.0:
            return (1.0 - bucket.tokens) / rate
        bucket.tokens -= 1.0
        return 0.0


LIMITS = web.AppKey("limits", Limits)


@web.middleware
async def keep_limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around all handlers, once it is known who asks: raises TooMany. Callers of all tenants are not counted."""
    tenant = None if is_open(request) else caller(request).tenant
    declared = request.app[SERVICES].context.world.tenants.get(tenant) if tenant else None
    if declared and (rate := declared.max_requests_per_second):
        wait_s = request.app[LIMITS].wait_s(declared.name, rate, asyncio.get_running_loop().time())
        if wait_s:
            raise TooMany(f"tenant {declared.name} may send {rate:g} requests a second to this member", after_s=wait_s)
    return await handler(request)
