"""What the store says of itself, asked again and again: for admission and for health."""

from __future__ import annotations

import logging

from broker.clock import Clock
from broker.store.base import Store, StoreError, StoreStatus

log = logging.getLogger(__name__)

INTERVAL_S = 1.0


class Vitals:
    """The last answer, and since when there is none."""

    def __init__(self, store: Store, clock: Clock, quota_bytes: int, admission_share: float) -> None:
        self.status: StoreStatus | None = None
        self.failing_since: float | None = None
        """Epoch seconds; None while it answers."""
        self._store = store
        self._clock = clock
        self._quota_bytes = quota_bytes
        self._share = admission_share

    @property
    def quota_bytes(self) -> int:
        """The store's own quota where it tells one, else the one of the settings."""
        return (self.status.quota_bytes if self.status else 0) or self._quota_bytes

    def objection(self) -> str | None:
        """Why no new jobs are taken; None when there is room for them and for the state of those that run."""
        if self.status is None:
            return None
        if self.status.has_nospace_alarm:
            return "the store is full (NOSPACE): raise its quota or delete finished jobs, then disarm the alarm"
        used = self.status.size_bytes / self.quota_bytes
        if used > self._share:
            return f"the store is {used:.0%} full, above {self._share:.0%}: it is kept for the jobs that run"
        return None

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.ask()
            await self._clock.sleep(INTERVAL_S)

    async def ask(self) -> None:
        """Ask once."""
        try:
            self.status = await self._store.status()
            self.failing_since = None
        except StoreError as error:
            if self.failing_since is None:
                log.warning("the store does not tell its status: %s", error)
                self.failing_since = self._clock.now()
