"""A plan in spite of a class that breaks it. That is our fault, and must not hold up anybody else's jobs."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace

from broker.jobs.model import Shape
from broker.placement.assign import plan
from broker.placement.memory import Memory
from broker.placement.view import Passed, Plan, PlanInput, QueuedClass

REASON = "our fault: planning this job fails ({error}); it waits, and nothing is lost: the broker's log has the details"


def plan_around(given: PlanInput, memory: Memory | None = None) -> Plan:
    """The plan; where making it fails, one without the classes that fail alone, each with a reason and told in `faults`. Raises
    what `plan` raises where no class fails alone, or those that do not fail together. These tries use no memory."""
    try:
        return plan(given, memory=memory)
    except Exception:
        found = list(_broken(given, given.classes))
        if not found:
            raise
    broken = {shape: Passed(REASON.format(error=error)) for shape, error, _ in found}
    made = plan(replace(given, classes=tuple(queued for queued in given.classes if queued.shape not in broken)))
    return replace(made, passed={**made.passed, **broken}, faults=tuple(fault for _, _, fault in found))


def _broken(given: PlanInput, classes: Sequence[QueuedClass]) -> Iterator[tuple[Shape, str, str]]:
    """Of these classes those that fail alone, each with its error and where that arose: by halves, since few do."""
    try:
        plan(replace(given, classes=tuple(classes)))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the others go on
        if len(classes) == 1:
            yield classes[0].shape, repr(error)[:200], traceback.format_exc()
            return
        middle = len(classes) // 2
        yield from _broken(given, classes[:middle])
        yield from _broken(given, classes[middle:])
