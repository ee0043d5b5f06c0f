"""Plans in parts on Ray, run by the Python that has Ray: `python -m tests.engines.ray.in_parts`. Prints one object of JSON."""

from __future__ import annotations

import json
from concurrent.futures.process import BrokenProcessPool

import ray

from broker.config import Planning
from broker.jobs.model import Shape
from broker.placement.assign import plan
from broker.placement.grouping import grouped
from broker.placement.merging import plan_in_parts
from broker.placement.view import PlanInput
from broker.plan_crews import HERE, DividingDesk, RayActors
from broker.plan_desk import Sender
from tests.broker.placement.worlds import a_link, a_shape, a_view, a_world, waiting

SITES = ("ams", "fra", "osl", "rom")
PARTS = 2


def a_queue(*shapes: Shape) -> PlanInput:
    """Twenty jobs of each shape, more than four sites of eight cpus take; every site is linked to every other."""
    links = [a_link(a, b) for a in SITES for b in SITES if a != b]
    return a_world(*map(a_view, SITES), classes=[waiting(shape, 20) for shape in shapes], at={"corpus": "osl"}, links=links)


def killed(given: PlanInput) -> str:
    """What plans of a crew raise once one of it was killed."""
    crew = RayActors(PARTS, HERE)
    ray.kill(crew._actors[0])
    try:
        crew.plans([given] * PARTS)
    except BrokenProcessPool as error:
        return type(error).__name__
    finally:
        crew.close()
    return "nothing"


def main() -> None:
    """The same plan twice, the second time over the links as sent before; then an actor that dies."""
    desk, sender = DividingDesk(Planning(partitions=PARTS, ray=HERE)), Sender()
    given = a_queue(a_shape(), a_shape(run_hours=2, inputs=("corpus",)))
    here = plan_in_parts(given, grouped(given, PARTS), lambda parts: [plan(part) for part in parts])
    same = [desk.plan(sender.pack(given)) == here for _ in range(2)]
    desk.close()
    print(json.dumps({"same": same, "placed": sum(placement.count for placement in here.placements), "killed": killed(given)}))


if __name__ == "__main__":
    main()
