"""A plan in spite of a class that breaks it. That is our fault, and must not hold up anybody else's jobs."""

from __future__ import annotations

import traceback
from dataclasses import replace

from broker.jobs.model import Shape
from broker.placement.assign import plan
from broker.placement.view import Passed, Plan, PlanInput

REASON = "our fault: planning this job fails ({error}); it waits, and nothing is lost: the broker's log has the details"


def plan_around(given: PlanInput) -> Plan:
    """The plan; where making it fails, one without the classes that fail alone, each with a reason and told in `faults`. Raises
    what `plan` raises where no class fails alone."""
    try:
        return plan(given)
    except Exception:
        broken: dict[Shape, Passed] = {}
        faults = []
        for queued in given.classes:
            try:
                plan(replace(given, classes=(queued,)))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the others go on
                broken[queued.shape] = Passed(REASON.format(error=repr(error)[:200]))
                faults.append(traceback.format_exc())
        if not broken:
            raise
    made = plan(replace(given, classes=tuple(queued for queued in given.classes if queued.shape not in broken)))
    return replace(made, passed={**made.passed, **broken}, faults=tuple(faults))
