"""Clocks that differ: what a server's replies say of its clock, by their `Date` (RFC 9110, 6.6.1)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime

from adapters.base import Check

MOST_S = 30.0
"""A `Date` is of whole seconds, and a reply takes its time. What differs by less does no harm."""
MINUTE_S = 60.0


class ServerClock:
    """How far a server's clock is from ours, as its last reply says."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        """Less than zero for one that is behind."""

    def heard(self, headers: Mapping[str, str]) -> None:
        """Take in a reply's headers. One without a `Date`, and one out of a cache, tells nothing."""
        date = headers.get("Date")
        if date is None or "Age" in headers:
            return
        try:
            said = parsedate_to_datetime(date)
        except ValueError:
            return
        self.ahead_s = said.timestamp() - time.time()

    def judged(self, checks: Sequence[Check]) -> Sequence[Check]:
        """A probe's answers; where the clocks differ its first layer, if that is well, says so. The words are coarse, so that
        they do not change from probe to probe."""
        if abs(self.ahead_s) < MOST_S or not checks or not checks[0].is_ok:
            return checks
        apart, side = abs(self.ahead_s), "ahead of" if self.ahead_s > 0 else "behind"
        told = f"{apart / MINUTE_S:.0f} min" if apart >= 2 * MINUTE_S else f"{apart / 10:.0f}0 s"
        message = f"the site's clock is {told} {side} the broker's: set both by NTP"
        return [replace(checks[0], message=message, is_warning=True), *checks[1:]]
