"""Waiting for news of a topic: a kind of record changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class Signals:
    """Marks gather while a batch is applied; `wake` then sets every event of a marked topic."""

    def __init__(self) -> None:
        self._marked: set[str] = set()
        self._events: dict[str, list[asyncio.Event]] = defaultdict(list)

    def mark(self, topic: str) -> None:
        """Something of this topic changed."""
        self._marked.add(topic)

    def wake(self) -> None:
        """Set the events of all marked topics."""
        for topic in self._marked:
            for event in self._events[topic]:
                event.set()
        self._marked.clear()

    def subscribe(self, *topics: str) -> asyncio.Event:
        """An event that is set at each change of one of these kinds; the subscriber clears it. Begins set."""
        event = asyncio.Event()
        event.set()
        for topic in topics:
            self._events[topic].append(event)
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Stop setting this event."""
        for events in self._events.values():
            if event in events:
                events.remove(event)
