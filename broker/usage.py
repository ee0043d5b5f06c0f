"""What each tenant holds, and has held of late: for the planner's fair shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.jobs.model import Attempt
from broker.placement.view import TenantView
from broker.records import Tenant
from broker.world import Job, World
from topology.resources import Resources

Amounts = tuple[float, float, float]
"""Cpus, GiB of memory and GPUs."""
NONE: Amounts = (0.0, 0.0, 0.0)


class Usage:
    """Fades what was held by a half-life: an hour of a cpu counts half as much after so many hours.

    Begins with what the records of jobs say, as a broker does that has just begun to lead, and follows what is held from then on.
    """

    def __init__(self, world: World, half_life_hours: float) -> None:
        self._world, self._half_life_s = world, half_life_hours * 3600
        self._past: dict[str, Amounts] = {}
        self._held: dict[str, Amounts] = {}
        self._as_of: float | None = None

    def tenants(self, now: float, holds_at: Mapping[str, Mapping[str, Resources]]) -> tuple[TenantView, ...]:
        """All tenants that are declared, or hold or held something, as of now (epoch seconds); `holds_at` by tenant and site."""
        holds = {name: sum(at.values(), Resources()) for name, at in holds_at.items()}
        if self._as_of is None:
            self._past = _recorded(self._world.jobs.values(), now, self._half_life_s)
        else:
            self._follow(now - self._as_of)
        self._as_of = now
        self._held = {name: _amounts(held) for name, held in holds.items()}
        names = sorted({*self._world.tenants, *holds, *self._past})
        return tuple(self._view(name, holds_at.get(name, {}), self._past.get(name, NONE)) for name in names)

    def quotas(self, holds_at: Mapping[str, Mapping[str, Resources]]) -> tuple[TenantView, ...]:
        """The same without what was held of late: enough to know what quotas leave."""
        return tuple(self._view(name, holds_at.get(name, {}), NONE) for name in sorted({*self._world.tenants, *holds_at}))

    def _view(self, name: str, at: Mapping[str, Resources], past: Amounts) -> TenantView:
        tenant = self._world.tenants.get(name, Tenant(name))
        holds = sum(at.values(), Resources())
        return TenantView(name, tenant.parent or "", tenant.weight, holds, past, at, tenant.quotas)

    def _follow(self, seconds: float) -> None:
        """What was held at the last look was held until now."""
        kept = 0.5 ** (max(seconds, 0.0) / self._half_life_s)
        for name in {*self._past, *self._held}:
            pairs = zip(self._past.get(name, NONE), self._held.get(name, NONE), strict=True)
            cpus, memory, gpus = (past * kept + held * (1 - kept) for past, held in pairs)
            if cpus + memory + gpus > 1e-6:
                self._past[name] = (cpus, memory, gpus)
            else:
                self._past.pop(name, None)


def _recorded(jobs: Iterable[Job], now: float, half_life_s: float) -> dict[str, Amounts]:
    """What fading leaves of all attempts that are known: of one from `a` to `b` seconds ago its size times
    2**(-b/h) - 2**(-a/h)."""
    found: dict[str, Amounts] = {}
    for job in jobs:
        for attempt in job.state.attempts:
            began, ended = now - attempt.placed_at, now - (attempt.end.at if attempt.end else now)
            part = 0.5 ** (max(ended, 0.0) / half_life_s) - 0.5 ** (max(began, 0.0) / half_life_s)
            if part > 1e-6:
                cpus, memory, gpus = _amounts(_size(job, attempt))
                before = found.get(job.spec.tenant, NONE)
                found[job.spec.tenant] = (before[0] + cpus * part, before[1] + memory * part, before[2] + gpus * part)
    return found


def _size(job: Job, attempt: Attempt) -> Resources:
    tasks, resources = job.spec.pieces
    return resources.on(attempt.gpu_type) * tasks


def _amounts(held: Resources) -> Amounts:
    return (held.cpus, held.memory_gib, float(held.gpu_count))
