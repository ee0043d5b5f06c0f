"""Log lines on stderr: `time level where message`, then ids as `name=value`, one line for each but a bug's traceback."""

from __future__ import annotations

import json
import logging
import sys
import time

IDS = ("job", "site", "attempt", "member")
"""What callers pass as `extra` and readers search for."""


class Lines(logging.Formatter):
    """One line for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """See the module."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        message = json.dumps(record.getMessage(), ensure_ascii=False)
        parts = [f"{at}.{int(record.msecs):03d}Z", record.levelname.lower(), record.name, message]
        parts += [f"{name}={getattr(record, name)}" for name in IDS if hasattr(record, name)]
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def log_to_stderr(level: str) -> None:
    """Begin to log; what other libraries say only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in ("broker", "adapters", "topology"):
        logging.getLogger(package).setLevel(level.upper())
