"""What each tenant holds, and has held of late: for the planner's fair shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.jobs.model import Attempt
from broker.placement.fading import NEXT_TO_NOTHING, NONE, Amounts, Fading, amounts, faded
from broker.placement.view import TenantView
from broker.records import Tenant
from broker.world import Job, World
from topology.resources import Resources


class Usage:
    """Fades what was held by a half-life: an hour of a cpu counts half as much after so many hours.

    Begins with what the records of jobs say, as a broker does that has just begun to lead, and follows what is held from then on.
    """

    def __init__(self, world: World, half_life_hours: float) -> None:
        self._world = world
        self.half_life_s = half_life_hours * 3600
        self._fading: Fading | None = None

    def tenants(self, now: float, holds_at: Mapping[str, Mapping[str, Resources]]) -> tuple[TenantView, ...]:
        """All tenants that are declared, or hold or held something, as of now (epoch seconds); `holds_at` by tenant and site."""
        if self._fading is None:
            self._fading = Fading(self.half_life_s, _recorded(self._world.jobs.values(), now, self.half_life_s), now)
        past = self._fading.look(now, {name: sum(at.values(), Resources()) for name, at in holds_at.items()})
        names = sorted({*self._world.tenants, *holds_at, *past})
        return tuple(self._view(name, holds_at.get(name, {}), past.get(name, NONE)) for name in names)

    def quotas(self, holds_at: Mapping[str, Mapping[str, Resources]]) -> tuple[TenantView, ...]:
        """The same without what was held of late: enough to know what quotas leave."""
        return tuple(self._view(name, holds_at.get(name, {}), NONE) for name in sorted({*self._world.tenants, *holds_at}))

    def _view(self, name: str, at: Mapping[str, Resources], past: Amounts) -> TenantView:
        tenant = self._world.tenants.get(name, Tenant(name))
        holds = sum(at.values(), Resources())
        return TenantView(name, tenant.parent or "", tenant.weight, holds, past, at, tenant.quotas)


def _recorded(jobs: Iterable[Job], now: float, half_life_s: float) -> dict[str, Amounts]:
    """What fading leaves of all attempts that are known."""
    found: dict[str, Amounts] = {}
    for job in jobs:
        for attempt in job.state.attempts:
            began, ended = now - attempt.placed_at, now - (attempt.end.at if attempt.end else now)
            cpus, memory, gpus = faded(amounts(_size(job, attempt)), began, ended, half_life_s)
            if cpus + memory + gpus > NEXT_TO_NOTHING:
                before = found.get(job.spec.tenant, NONE)
                found[job.spec.tenant] = (before[0] + cpus, before[1] + memory, before[2] + gpus)
    return found


def _size(job: Job, attempt: Attempt) -> Resources:
    tasks, resources = job.spec.pieces
    return resources.on(attempt.gpu_type) * tasks
