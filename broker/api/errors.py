"""Our errors as problem documents (RFC 9457, `application/problem+json`). No traceback leaves the process."""

from __future__ import annotations

import asyncio
import logging
import math
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from broker.api.services import SERVICES, answer
from broker.errors import FedError, TooMany, Unavailable
from broker.store.base import NoSpace, StoreError

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
"""The most a request may take, streams left out."""
STREAMS = frozenset({"logs", "outputs", "events", "backup", "upload"})
"""Names of the routes whose requests or answers last as long as they must."""


def problem(error: FedError, status: int | None = None) -> web.Response:
    """The document of an error; `faults` names field and cure of each thing that was wrong with a request."""
    status = status or error.status
    title = error.title if status == error.status else HTTPStatus(status).phrase.lower()
    body: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "detail": error.detail}
    if error.faults:
        body["faults"] = error.faults
    response = answer(body, status=status, content_type="application/problem+json")
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        response.headers["Retry-After"] = str(math.ceil(error.after_s) if isinstance(error, TooMany) else 1)
    return response


@web.middleware
async def errors_to_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around all handlers: what they raise becomes an answer."""
    try:
        route = request.match_info.route.name
        async with asyncio.timeout(None if route in STREAMS else TIMEOUT_S):
            return await handler(request)
    except FedError as error:
        return problem(error)
    except NoSpace:
        return problem(Unavailable("the store is full (NOSPACE): nothing can be written until there is room"))
    except (StoreError, TimeoutError) as error:
        return problem(Unavailable(f"no answer from the store in time: this may or may not have happened. {error}".rstrip()))
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        told = problem(FedError(f"{request.method} {request.path}: {error.reason}"), error.status)
        if isinstance(error, web.HTTPMethodNotAllowed):
            told.headers["Allow"] = error.headers["Allow"]
        return told
    except web.RequestPayloadError as error:
        return problem(FedError(f"{request.method} {request.path}: the body cannot be read: {error}"), HTTPStatus.BAD_REQUEST)
    except Exception:
        log.exception("a request failed by our fault: %s %s", request.method, request.path)
        request.app[SERVICES].context.metrics.bugs.labels("api").inc()
        return problem(FedError("this is our fault; the broker's log has the details"))
