"""What a caller may be told, as one tree. The endpoint sends these as problem documents (RFC 9457); the client raises them anew.

```
FedError
├── Invalid          422   what was sent is wrong: each fault names its field and the cure
├── Unauthorized     401   no token, or not the right one
├── Forbidden        403   the token does not allow it
├── NotFound         404   nothing of that name
├── InConflict       409   it contradicts what is stored, or somebody still uses it
├── Outdated         412   what was to be changed has been changed since it was read
├── TooLarge         413   more than one request may hold
├── TooMany          429   a limit is reached; later it may go through
├── Unavailable      503   the broker cannot answer just now; the same call may succeed later
└── NoAnswer               (client only) the endpoint does not answer, or makes no sense
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with what was sent. `field` is a dotted path; `document` and `line` count from 1, 0: not known.
    `subject` is what the document declares, such as `Site ams`."""

    field: str
    message: str
    document: int = 0
    line: int = 0
    subject: str = ""

    def __str__(self) -> str:
        subject = f" ({self.subject})" if self.subject else ""
        document = f"document {self.document}{subject}" if self.document else self.subject
        line = f"line {self.line}" if self.line else ""
        return ": ".join(part for part in (document, line, self.field, self.message) if part)


class FedError(Exception):
    """Base of what callers are told. `status` is its HTTP status, `title` what all of its kind have in common."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "the broker failed"

    def __init__(self, detail: str = "", faults: Sequence[Fault] = ()) -> None:
        self.detail = detail or "; ".join(str(fault) for fault in faults) or self.title
        self.faults = tuple(faults)
        super().__init__(self.detail)


class Invalid(FedError):
    """What was sent is wrong."""

    status = 422
    title = "what was sent is not valid"


class Unauthorized(FedError):
    """No token, or not the right one."""

    status = 401
    title = "not authorized"


class Forbidden(FedError):
    """The token does not allow it."""

    status = 403
    title = "not allowed"


class NotFound(FedError):
    """Nothing of that name."""

    status = 404
    title = "not found"


class InConflict(FedError):
    """It contradicts what is stored, or somebody still uses it."""

    status = 409
    title = "in conflict with what is stored"


class Outdated(FedError):
    """What was to be changed has been changed since it was read."""

    status = 412
    title = "changed since it was read"


class TooLarge(FedError):
    """More than one request may hold."""

    status = 413
    title = "too large"


class TooMany(FedError):
    """A limit is reached; after `after_s` seconds it may go through."""

    status = 429
    title = "a limit is reached"

    def __init__(self, detail: str = "", faults: Sequence[Fault] = (), after_s: float = 1.0) -> None:
        super().__init__(detail, faults)
        self.after_s = after_s


class Unavailable(FedError):
    """The broker cannot answer just now; the same call may succeed later."""

    status = 503
    title = "not available just now"


class NoAnswer(FedError):
    """The endpoint does not answer, or what it answers makes no sense."""

    title = "the endpoint does not answer"


KINDS = (Invalid, Unauthorized, Forbidden, NotFound, InConflict, Outdated, TooLarge, TooMany, Unavailable)
BY_STATUS = {kind.status: kind for kind in KINDS}
"""The errors that an answer's status stands for."""
