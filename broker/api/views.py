"""What the endpoint shows. Times are epoch seconds (`*_at`) or seconds (`*_s`), money is in the federation's currency."""

from __future__ import annotations

from typing import Any

from broker.jobs.model import Attempt, Cost, Phase, Wish
from broker.world import Job

Shown = dict[str, Any]
"""A JSON object."""


def new_job_view(wish: Wish) -> Shown:
    """A job that was made just now."""
    shown = {"id": wish.id, "name": wish.name, "tenant": wish.tenant, "phase": Phase.PENDING}
    return {**shown, "labels": wish.labels, "site": None, "attempt": 0, "reason": "", "created_at": wish.created_at}


def job_view(job: Job, now: float, reason: str = "") -> Shown:
    """A job with its attempts. `reason` is why a pending job was passed over, which no record holds."""
    state, wish = job.state, job.wish
    attempt = state.attempts[-1] if state.attempts else None
    end = attempt.end if attempt else None
    is_pending = state.phase is Phase.PENDING
    return {
        "id": job.id,
        "name": wish.name,
        "tenant": wish.tenant,
        "labels": wish.labels,
        "phase": state.phase,
        "site": attempt.site if attempt and not is_pending else None,
        "attempt": state.number,
        "reason": _joined(reason, state.reason) if is_pending else state.reason,
        "created_at": wish.created_at,
        "started_at": attempt.started_at if attempt else None,
        "finished_at": state.finished_at,
        "exit_code": end.exit_code if end else None,
        **_times(job, attempt, now),
        "cost": cost_view(attempt.decision.cost) if attempt else None,
        "outputs": [str(dataset) for dataset in state.outputs],
        "is_cancel_asked": wish.cancel is not None,
        "is_held": wish.hold is not None,
        "attempts": [_attempt_view(each) for each in state.attempts],
        "attempts_folded": state.folded,
    }


def _joined(now: str, before: str) -> str:
    """Why a job waits, and what its last attempt came to."""
    return f"{now}; before that: {before}" if now and before else now or before


def _times(job: Job, attempt: Attempt | None, now: float) -> dict[str, float | None]:
    """Where the time went, by the last attempt: bringing inputs, running, and all the rest up to the start (the queues here and
    there, and what earlier attempts took)."""
    over_at = job.state.finished_at or now
    if attempt is None:
        return {"wait_s": over_at - job.wish.created_at, "staging_s": None, "run_s": None}
    ended_at = attempt.end.at if attempt.end else over_at
    staging_s = max((attempt.staged_at or ended_at) - attempt.placed_at, 0.0)
    wait_s = max((attempt.started_at or ended_at) - job.wish.created_at - staging_s, 0.0)
    run_s = max(ended_at - attempt.started_at, 0.0) if attempt.started_at else None
    return {"wait_s": wait_s, "staging_s": staging_s, "run_s": run_s}


def cost_view(cost: Cost) -> Shown:
    """What placement expected it to take."""
    return {
        "hours": cost.hours,
        "money": cost.money,
        "carbon_kg": cost.carbon_kg,
        "wait_hours": cost.wait_hours,
        "staging_hours": cost.staging_hours,
        "run_hours": cost.run_hours,
        "compute_money": cost.compute_money,
        "egress_money": cost.egress_money,
    }


def _attempt_view(attempt: Attempt) -> Shown:
    end = attempt.end
    return {
        "number": attempt.number,
        "site": attempt.site,
        "pool": attempt.pool,
        "gpu_type": attempt.gpu_type,
        "native_id": attempt.native_id,
        "placed_at": attempt.placed_at,
        "staged_at": attempt.staged_at,
        "accepted_at": attempt.accepted_at,
        "started_at": attempt.started_at,
        "ended_at": end.at if end else None,
        "ending": end.ending if end else None,
        "exit_code": end.exit_code if end else None,
        "signal": end.signal if end else None,
        "message": end.message if end else "",
        "decision": {
            "cost": cost_view(attempt.decision.cost),
            "runners_up": [
                {"site": each.site, "pool": each.pool, "cost": cost_view(each.cost)} for each in attempt.decision.runners_up
            ],
            "objections": attempt.decision.objections,
        },
    }
