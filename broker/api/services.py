"""What handlers work with: built once in `broker/app.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from aiohttp import ClientSession, web
from pydantic_core import to_json

from adapters.base import Check, SiteAdapter
from broker.access import Tokens
from broker.accuracy import RunTimes
from broker.context import Context
from broker.feed import Feed
from broker.jobs.model import Shape
from broker.members import Members
from broker.placement.standing import Standing
from broker.placement.view import Passed
from broker.snapshot import Snapshots
from broker.store.base import Store
from broker.store.vitals import Vitals
from broker.submission import Submissions
from broker.uploads import Uploads
from broker.whatif import WhatIfs


class Planning(Protocol):
    """What handlers ask of the planner: why what waits was passed over in the last plan, by class (nothing in a process that does
    not lead), and the world as placement sees it."""

    reasons: Mapping[Shape, Passed]
    snapshots: Snapshots
    run_times: RunTimes

    def standing(self, shape: Shape) -> Standing | None:
        """Where a class stands in the queue; None in a process that does not lead."""


class LiveSites(Protocol):
    """The sites that this process owns."""

    def adapter(self, site: str) -> SiteAdapter | None:
        """The live adapter; None for a site of another owner."""

    async def ask(self, site: str) -> Sequence[Check] | None:
        """What each layer answers now; None for a site of another owner."""


@dataclass(frozen=True, slots=True)
class Services:
    """Handed to every handler."""

    context: Context
    store: Store
    vitals: Vitals
    members: Members
    submissions: Submissions
    sites: LiveSites
    planner: Planning
    feed: Feed
    peers: ClientSession
    """For what another member must answer."""
    uploads: Uploads
    downloads: Executor
    """Threads that read files for callers: storage that hangs holds these, and nothing else."""
    whatifs: WhatIfs
    tokens: Tokens | None = None
    """What requests must bear one of; None leaves the endpoint to all on this machine."""


SERVICES = web.AppKey("services", Services)


def answer(
    body: object, status: int = HTTPStatus.OK, content_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON answer."""
    return web.Response(body=to_json(body), status=status, content_type=content_type, headers=headers)
