"""What waits before a class: as the last plan left it, for whatever asks when a job would start."""

from __future__ import annotations

import math
from dataclasses import replace

from broker.jobs.model import Shape
from broker.placement.view import Awaited, Plan


def before(shape: Shape, last: Plan) -> tuple[Awaited, ...]:
    """Of the pools that something waits for, what counts for a class. In the pool that it waits for itself that is what the plan
    saw before it, without what came later; elsewhere, and for one that the plan did not see, all of it."""
    passed = last.passed.get(shape)
    if passed is None or passed.wait is None:
        return last.awaited
    wait, own = passed.wait, (passed.site, passed.pool)
    return tuple(
        replace(each, backlog_hours=wait.behind_hours, promised_hours=each.promised_hours if wait.is_kept else math.inf)
        if (each.site, each.pool) == own
        else each
        for each in last.awaited
    )
