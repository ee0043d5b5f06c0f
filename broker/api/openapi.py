"""The API's own description, OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), and a page to try it at."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import ModuleType
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from broker.access import Role
from broker.api.queries import QUERIES, Query
from broker.api.rights import LEAST
from broker.api.services import answer
from broker.api.submit import JobsBody
from broker.api.wishes import ManyBody
from broker.documents import DatasetBody, JobBody, LinkBody, SiteBody, TenantBody
from broker.documents.whatif import WhatIfBody
from broker.errors import BY_STATUS

routes = web.RouteTableDef()
DESCRIBED = web.AppKey("described", tuple[ModuleType, ...])
"""The modules whose routes the application has."""

BODIES: Mapping[str, tuple[type[BaseModel], ...]] = {
    "POST /v1/jobs": (JobBody, JobsBody),
    "POST /v1/plan": (JobBody,),
    "POST /v1/whatif": (WhatIfBody,),
    "POST /v1/jobs/cancel": (ManyBody,),
    "POST /v1/jobs/hold": (ManyBody,),
    "POST /v1/jobs/release": (ManyBody,),
    "PUT /v1/sites/{name}": (SiteBody,),
    "PUT /v1/links/{name}": (LinkBody,),
    "PUT /v1/datasets/{name}": (DatasetBody,),
    "PUT /v1/tenants/{name}": (TenantBody,),
}
"""What each route takes as JSON."""
STREAMED = {
    "GET /v1/jobs/{job}/logs": "application/octet-stream",
    "GET /v1/backup": "application/x-ndjson",
    "GET /v1/jobs/{job}/outputs": "application/x-tar",
    "GET /v1/events": "text/event-stream",
    "GET /metrics": "text/plain",
}
SENT = {"PUT /v1/datasets/{name}/content": "application/x-tar"}
"""What is taken as it is, and is no JSON."""
PLACE = "#/components/schemas/{model}"
PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "RFC 9457; `faults` names field and cure of each thing that was wrong with a request.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "faults": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string"},
                    "message": {"type": "string"},
                    "document": {"type": "integer"},
                    "line": {"type": "integer"},
                    "subject": {"type": "string"},
                },
            },
        },
    },
}
PAGE_HEADERS = {
    # the page styles its elements itself, and draws its icons as data
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


@routes.get("/openapi.json")
async def show_description(request: web.Request) -> web.Response:
    """This document."""
    return answer(described(request.app[DESCRIBED]))


@routes.get("/docs")
async def show_page(request: web.Request) -> web.Response:
    """A page to try the API at; it loads nothing from elsewhere."""
    return _file("index.html")


@routes.get("/docs/{file}")
async def show_part(request: web.Request) -> web.Response:
    """What the page is made of."""
    return _file(request.match_info["file"])


def _file(name: str) -> web.Response:
    folder = files("broker.api").joinpath("docs")
    known = {each.name for each in folder.iterdir()}
    suffix = f".{name.rpartition('.')[2]}"
    if name not in known or suffix not in TYPES:
        raise web.HTTPNotFound()
    content = folder.joinpath(name).read_bytes()
    return web.Response(body=content, content_type=TYPES[suffix], charset="utf-8", headers=PAGE_HEADERS)


@cache
def described(modules: tuple[ModuleType, ...]) -> dict[str, Any]:
    """The document."""
    models = sorted({model for bodies in BODIES.values() for model in bodies}, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=PLACE)
    paths: dict[str, dict[str, Any]] = {}
    for module in modules:
        for route in module.routes:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(f"{route.method} {route.path}", route.handler)
    return {
        "openapi": "3.1.0",
        "info": {"title": "fedbroker", "version": "1", "summary": "One endpoint for the schedulers of many data centres."},
        "paths": paths,
        "components": {
            "schemas": {**schemas["$defs"], "Problem": PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(route: str, handler: Any) -> dict[str, Any]:
    words = " ".join((inspect.getdoc(handler) or "").split())
    operation: dict[str, Any] = {
        "operationId": handler.__name__,
        "summary": words.split(". ")[0].rstrip("."),
        "description": f"{words} Wants role {LEAST.get(route, Role.ADMIN)}." if route in LEAST else words,
        "tags": [route.split("/")[2 if "/v1/" in route else 1]],
        "parameters": [*_in_path(route), *(_in_query(query) for query in QUERIES.get(route, ())), *_in_headers(route)],
        "responses": {str(_status(route)): _success(route), "default": _problem("what went wrong"), **dict(_problems())},
    }
    if route in SENT:
        content = {SENT[route]: {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": content}
    if bodies := BODIES.get(route):
        places = [{"$ref": PLACE.format(model=body.__name__)} for body in bodies]
        schema = places[0] if len(places) == 1 else {"anyOf": places}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _in_path(route: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", route):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _in_query(query: Query) -> dict[str, Any]:
    return {"name": query.name, "in": "query", "description": query.words, "schema": {"type": query.kind}}


def _in_headers(route: str) -> Iterable[dict[str, Any]]:
    if route == "POST /v1/jobs":
        words = "the same body under the same key makes the same jobs, for a day; another body is a conflict"
        yield {"name": "Idempotency-Key", "in": "header", "description": words, "schema": {"type": "string"}}
    if (route.startswith(("PUT ", "DELETE ")) and route not in SENT) or re.search(r"{job}/(cancel|hold|release)$", route):
        words = "an ETag, as GET gave it: only if it is still that; 412 otherwise"
        yield {"name": "If-Match", "in": "header", "description": words, "schema": {"type": "string"}}
    if route == "GET /v1/events":
        yield {"name": "Last-Event-ID", "in": "header", "description": "go on behind it", "schema": {"type": "string"}}


def _status(route: str) -> int:
    if route == "POST /v1/jobs":
        return 201
    if route.startswith("DELETE "):
        return 204
    is_asked_for = route.endswith("/cancel") or route in ("POST /v1/jobs/hold", "POST /v1/jobs/release")
    return 202 if is_asked_for else 200


def _success(route: str) -> dict[str, Any]:
    if _status(route) == 204:
        return {"description": "done"}
    kind = STREAMED.get(route, "text/html" if "/docs" in route else "application/json")
    schema = {"type": "object"} if kind == "application/json" else {"type": "string"}
    return {"description": "done", "content": {kind: {"schema": schema}}}


def _problems() -> Iterator[tuple[str, dict[str, Any]]]:
    return ((str(status), _problem(kind.title)) for status, kind in BY_STATUS.items())


def _problem(words: str) -> dict[str, Any]:
    return {"description": words, "content": {"application/problem+json": {"schema": {"$ref": PLACE.format(model="Problem")}}}}
