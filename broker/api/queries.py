"""What each route takes in its query. Another name is refused, so that one that was misspelt is not passed over in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from broker.documents.faults import suggestion
from broker.errors import Fault, Invalid


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter: its JSON type and what it is."""

    name: str
    kind: str
    words: str


PAGES = (
    Query("limit", "integer", "how many, from 1 to 1,000; 100 when absent"),
    Query("cursor", "string", "`next` of the page before"),
)
TENANT = Query("tenant", "string", "whose; the caller's own when absent")
WHY = Query("why", "string", "told to whoever asks")
FILTERS = (
    Query("phase", "string", "in these phases, with commas between"),
    Query("site", "string", "at this site"),
    Query("tenant", "string", "of this tenant"),
    Query("name", "string", "of this name"),
    Query("label", "string", "with such labels: a=b,c!=d,e,!f"),
    Query("since", "string", "made after that: epoch seconds, or RFC 3339"),
)

QUERIES: Mapping[str, tuple[Query, ...]] = {
    "GET /v1/jobs": (*FILTERS, *PAGES),
    "GET /v1/events": FILTERS,
    "GET /v1/jobs/{job}": (TENANT,),
    "GET /v1/jobs/{job}/why": (TENANT,),
    "GET /v1/jobs/{job}/events": (TENANT,),
    "GET /v1/jobs/{job}/outputs": (TENANT,),
    "GET /v1/jobs/{job}/logs": (
        TENANT,
        Query("task", "integer", "which task of a gang; 0 when absent"),
        Query("attempt", "integer", "which attempt; the last when absent"),
        Query("offset", "integer", "from this byte on"),
        Query("tail", "integer", "only so many of the last lines"),
        Query("follow", "boolean", "go on until the task ends"),
    ),
    "POST /v1/jobs/{job}/cancel": (TENANT, WHY),
    "POST /v1/jobs/{job}/hold": (TENANT, WHY),
    "POST /v1/jobs/{job}/release": (TENANT, WHY),
    "POST /v1/jobs/{job}/unstick": (TENANT, Query("why", "string", "what is wrong with it; it has to be said")),
    "GET /v1/datasets": (TENANT,),
    "GET /v1/datasets/{name}": (TENANT,),
    "DELETE /v1/datasets/{name}": (TENANT,),
    "PUT /v1/datasets/{name}/content": (
        Query("site", "string", "where it is kept; the largest that takes jobs when absent"),
        TENANT,
        Query("checksum", "string", "of all files, as `GET` of a dataset shows it: what comes must have it"),
        Query("temporary", "boolean", "remove it after `keep_temporary_hours`, once no unfinished job reads it"),
    ),
    "GET /v1/topology/path": (Query("from", "string", "a site"), Query("to", "string", "a site")),
    "POST /v1/sites/{name}/drain": (Query("finish", "boolean", "let what runs already come to its end"),),
    "POST /v1/sites/{name}/forget": (Query("why", "string", "what became of it; it has to be said"),),
    "POST /v1/pause": (WHY,),
    "POST /v1/resume": (WHY,),
    "GET /v1/audit": (
        Query("who", "string", "what this caller did"),
        Query("what", "string", "what was done, such as change or cancel"),
        Query("record", "string", "the beginning of a record's name, such as sites/ams"),
        *PAGES,
    ),
}
"""By route; one that is not here takes none."""


def route_of(request: web.Request) -> str:
    """The route's name in tables, such as `GET /v1/jobs/{job}`; empty where there is none."""
    resource = request.match_info.route.resource
    method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
    return f"{method} {resource.canonical}" if resource else ""


@web.middleware
async def check_query(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around all handlers: raises Invalid for a parameter that the route does not take, or that is there twice."""
    if request.query:
        known = [query.name for query in QUERIES.get(route_of(request), ())]
        strange = [name for name in request.query if name not in known]
        faults = [Fault(name, suggestion(name, known) if known else "no parameter is taken here") for name in strange]
        faults += [Fault(name, "is there twice") for name in known if len(request.query.getall(name, ())) > 1]
        if faults and request.match_info.http_exception is None:
            raise Invalid(faults=faults)
    return await handler(request)
