"""Now and sleep. Tests bring their own."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """The three clocks the broker uses. Loops take one; the core takes plain numbers."""

    def now(self) -> float:
        """Epoch seconds: what records carry."""

    def boottime(self) -> float:
        """Seconds on a clock that goes on while the machine is suspended: what leases are counted on."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Epoch seconds."""
        return time.time()

    def boottime(self) -> float:
        """CLOCK_BOOTTIME, in seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """asyncio.sleep."""
        await asyncio.sleep(seconds)
