"""Worlds and queues as text, with the explanation expected below the line of dashes.

`FED_REWRITE_SCENARIOS=1` writes what is said now into the files: read the difference before you keep it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from broker.jobs.model import Weights
from broker.placement.assign import plan
from broker.placement.explain import why
from broker.placement.view import PlanInput
from broker.placement.words import span
from broker.records import Health
from tests.broker.placement.worlds import a_link, a_shape, a_view, a_world, running, waiting
from topology.site import Admission, Fabric, Power, Price

LINE = "----\n"
SCENARIOS = sorted(Path(__file__).parent.glob("*.txt"))
MAKERS = {
    "health": Health,
    "admission": Admission,
    "fabric": Fabric,
    "price": lambda each: Price("EUR", **each),
    "power": lambda each: Power(**each),
}


def world_of(text: str) -> tuple[PlanInput, list[str]]:
    """The input of a plan, and the names of its classes."""
    given = YAML(typ="safe", pure=True).load(text)
    views = [site_of(dict(each)) for each in given["sites"]]
    links = [a_link(each["from"], each["to"], each["gib_per_second"], each.get("price", 0.0)) for each in given.get("links", ())]
    at = {name: each["at"] for name, each in given.get("data", {}).items()}
    sizes = {name: each["gib"] for name, each in given.get("data", {}).items()}
    classes = [class_of(dict(each)) for each in given["jobs"]]
    return a_world(*views, classes=classes, at=at, sizes=sizes, links=links), [each["name"] for each in given["jobs"]]


def site_of(given: dict[str, Any]) -> Any:
    held = tuple(running(each["cpus"], until=each["until"], count=each.get("count", 1)) for each in given.pop("running", ()))
    read = {name: MAKERS[name](value) if name in MAKERS else value for name, value in given.items()}
    return a_view(**read, held=held)


def class_of(given: dict[str, Any]) -> Any:
    del given["name"]
    count, age = given.pop("count", 1), given.pop("age", 0.0)
    if "objective" in given:
        given["objective"] = Weights(**given["objective"])
    read = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return waiting(a_shape(**read), count, age)


def told(given: PlanInput, names: list[str]) -> str:
    """The plan, then what every site says of each class behind what the plan left before it, what binds, and what would help."""
    made, lines = plan(given), []
    name_of = {queued.shape: name for queued, name in zip(given.classes, names, strict=True)}
    for each in made.placements:
        lines.append(f"{name_of[each.shape]}: {each.count} to {each.site}/{each.pool}, over in {span(each.decision.cost.hours)}")
        lines += [f"  with {booking.dataset} over {', '.join(booking.links)}" for booking in each.bookings]
    for shape, passed in made.passed.items():
        lines.append(f"{name_of[shape]}: {passed.reason}")
        lines += [f"  would help: {each}" for each in passed.help]
    for queued, name in zip(given.classes, names, strict=True):
        said = why(queued.shape, given, last=made)
        lines += ["", f"why {name}:", *(f"  {verdict.text}" for verdict in said.verdicts)]
        lines += [f"  binds: {said.binding.text}"] if said.binding else []
        lines += [f"  would help: {remedy.text}" for remedy in said.remedies]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_plan_and_its_reasons_are_as_written(path):
    text, _, expected = path.read_text().partition(LINE)
    said = told(*world_of(text))
    if os.environ.get("FED_REWRITE_SCENARIOS"):
        path.write_text(text + LINE + said)
    else:
        assert said == expected
