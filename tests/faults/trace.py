"""Who did what when, kept only when somebody will read it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tests.faults.process import current

OURS = ("broker", "adapters", "mutated_")


class Trace:
    """Lines with their time; nothing is kept unless `is_on`."""

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on
        self.lines: list[str] = []

    def add(self, what: str, who: str = "") -> None:
        """One line, now."""
        if self.is_on:
            now = asyncio.get_running_loop().time()
            self.lines.append(f"{now:9.4f} {who or current() or 'world':8} {what}")


class LogWatch(logging.Handler):
    """What the broker logs goes into the trace; what it logs as an error is told to `on_error`."""

    def __init__(self, trace: Trace, on_error: Callable[[str], None]) -> None:
        super().__init__(logging.DEBUG if trace.is_on else logging.ERROR)
        self._trace = trace
        self._on_error = on_error
        self._level_before = logging.WARNING

    def emit(self, record: logging.LogRecord) -> None:
        """One record of the broker."""
        if not record.name.startswith(OURS):
            return
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            if record.exc_info:
                text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
            self._on_error(text)
        self._trace.add(f"log: {text}")

    def __enter__(self) -> LogWatch:
        root = logging.getLogger()
        root.addHandler(self)
        self._level_before = root.level
        root.setLevel(self.level)
        return self

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._level_before)
