"""The loops of one site: each takes turns for ever, whatever a turn raises, and all end together."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adapters.base import StaleEpoch, Unreachable
from broker.sites.calls import Backoff, Rights
from broker.sites.owned import OwnedSite
from broker.storage import StorageError
from broker.store.base import Fenced, StoreError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds until the next turn: `least` even if there is news, `most` without."""

    least: float
    most: float


class Loops:
    """Runs turns until told to end. A turn that was begun is brought to its end, since its calls have deadlines."""

    def __init__(self, site: OwnedSite, rights: Rights, chance: random.Random) -> None:
        self._site = site
        self._rights = rights
        self._chance = chance
        self._ending = asyncio.Event()
        self._news: list[asyncio.Event] = []

    @property
    def is_ending(self) -> bool:
        """Whether no new turn begins."""
        return self._ending.is_set()

    def end(self) -> None:
        """Begin no new turn."""
        self._ending.set()
        for news in self._news:
            news.set()

    async def repeat(self, name: str, turn: Callable[[], Awaitable[Pause]], news: asyncio.Event) -> None:
        """Take turns. No answer: pause and try again, conclude nothing. Ownership lost: end all loops. Our bug: log it, pause."""
        backoff = Backoff(self._chance)
        self._news.append(news)
        where = f"{self._site.name}: {name}"
        while not self.is_ending:
            news.clear()
            try:
                pause = await turn()
                backoff.succeeded()
            except (StaleEpoch, Fenced) as error:
                log.warning("%s: the site is another's: %s", where, error)
                self._rights.report_loss(self._site.right)
                self.end()
                return
            except (Unreachable, StorageError, StoreError) as error:
                log.warning("%s: %s", where, error)
                pause = _only(backoff.failed())
            except Exception:  # noqa: BLE001 - counted and logged with its traceback by bug()
                self._site.bug(name)
                pause = _only(backoff.failed())
            await self._wait(self._ending, pause.least)
            if not self.is_ending and pause.most > pause.least:
                await self._wait(news, pause.most - pause.least)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return


def _only(seconds: float) -> Pause:
    return Pause(seconds, seconds)
