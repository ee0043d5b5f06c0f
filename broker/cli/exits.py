"""What `fed` says by its exit code."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Why it did not end well."""

    FAILED = 1
    """What was asked was done, and a job, a layer of a site or the federation is not well."""
    USAGE = 2
    """Wrong usage, or a document that is not valid."""
    NOT_FOUND = 3
    REFUSED = 4
    """Refused, or in conflict."""
    NO_ANSWER = 5
    """The endpoint does not answer."""
    TIMED_OUT = 6
    INTERRUPTED = 130
