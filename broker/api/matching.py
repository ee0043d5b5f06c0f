"""ETag and If-Match: who says what he has read changes that, and nothing that came after (RFC 9110, sections 8.8.3 and 13.1.1).

The tag of a thing is the revision of its record: of what was declared or wished, not of what is observed besides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import hdrs, web

from broker.errors import Fault, Invalid, Outdated

TAG = re.compile(r'"(\d{1,19})"')


@dataclass(frozen=True, slots=True)
class Wanted:
    """The revisions that a caller knows; None for any that is there."""

    revisions: frozenset[int] | None

    def check(self, revision: int) -> None:
        """Raises Outdated where the record is at another revision (0: absent)."""
        if not revision or (self.revisions is not None and revision not in self.revisions):
            now = f'it is "{revision}" now' if revision else "it is not there any more"
            raise Outdated(f"If-Match: this was changed since you read it: {now}; read it again")


def wanted(request: web.Request) -> Wanted | None:
    """What If-Match says; None without one. Raises Invalid."""
    given = request.headers.get(hdrs.IF_MATCH)
    if given is None:
        return None
    tags = [tag.strip() for tag in given.split(",")]
    if tags == ["*"]:
        return Wanted(None)
    found = [TAG.fullmatch(tag) for tag in tags]
    if not all(found):
        raise Invalid(faults=[Fault("If-Match", 'not an ETag as an answer gave it, such as "17", nor *')])
    return Wanted(frozenset(int(match[1]) for match in found if match))


def tagged(response: web.Response, revision: int) -> web.Response:
    """The answer with the ETag of a record at this revision; without one where that is not known."""
    if revision:
        response.headers[hdrs.ETAG] = f'"{revision}"'
    return response
