"""The API's own description, and the page to try it at."""

import re
from pathlib import Path

import pytest
from aiohttp import ClientSession

from broker.api.app import MODULES
from broker.api.auth import OPEN
from broker.api.openapi import BODIES, SENT, described
from broker.api.queries import QUERIES
from broker.api.rights import LEAST
from broker.errors import Invalid

DOCUMENT = described(MODULES)
DOCS = Path(MODULES[-1].__file__).with_name("docs")


def references(part):
    """All `$ref` of a part."""
    if isinstance(part, dict):
        yield from ([part["$ref"]] if "$ref" in part else [])
        for value in part.values():
            yield from references(value)
    if isinstance(part, list):
        for value in part:
            yield from references(value)


def operations():
    return {f"{method.upper()} {path}": shown for path, methods in DOCUMENT["paths"].items() for method, shown in methods.items()}


def test_each_route_is_there_with_words_of_its_own():
    assert set(operations()) == {*LEAST, *(f"GET {path}" for path in OPEN)}
    assert all(shown["summary"] for shown in operations().values())
    names = [shown["operationId"] for shown in operations().values()]
    assert len(names) == len(set(names))


def test_all_that_it_refers_to_is_there():
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(references(DOCUMENT)) <= known
    for route, shown in operations().items():
        named = [each["name"] for each in shown["parameters"] if each["in"] == "path"]
        assert named == re.findall(r"{(\w+)}", route)


def test_tables_name_routes_that_are_there():
    assert set(QUERIES) <= set(operations())
    assert set(BODIES) <= set(operations())
    assert set(SENT) <= set(operations())
    assert all(("requestBody" in shown) == (route in {*BODIES, *SENT}) for route, shown in operations().items())


def test_a_jobs_fields_are_those_of_the_model():
    fields = DOCUMENT["components"]["schemas"]["JobBody"]["properties"]
    assert {"name", "command", "labels", "inputs", "walltime"} <= set(fields)


@pytest.mark.parametrize(
    ("path", "field"),
    [("jobs?phse=failed", "phse"), ("sites?limit=3", "limit"), ("jobs?limit=1&limit=2", "limit"), ("health?x=", "x")],
)
async def test_a_parameter_that_nobody_takes_is_refused(fed, path, field):
    with pytest.raises(Invalid) as raised:
        await fed._call("GET", f"/v1/{path}")
    assert field in {fault.field for fault in raised.value.faults}


async def test_the_page_and_what_it_is_made_of_come_from_here_alone(broker):
    async with ClientSession(broker.url) as session:
        async with session.get("/docs") as response:
            page = await response.text()
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        parts = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert [part for part in parts if "//" in part] == []
        for part in (each for each in parts if not each.startswith("data:")):
            async with session.get(f"/{part}") as response:
                assert response.status == 200, part
        for wrong in ("/docs/..%2fapp.py", "/docs/app.py", "/docs/README.md", "/docs/nothing.js"):
            async with session.get(wrong) as response:
                assert response.status == 404
        async with session.get("/openapi.json") as response:
            assert (await response.json())["openapi"] == "3.1.0"


def test_what_is_of_others_has_its_licence_beside_it():
    assert "Apache License" in (DOCS / "LICENSE").read_text()
    assert "SmartBear" in (DOCS / "NOTICE").read_text()
