"""How an adapter answers a probe, layer after layer."""

from __future__ import annotations

import time

from adapters.base import Check, Layer


class Answers:
    """What one probe has found so far. Each layer took the time since the one before it was answered."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self._began = time.monotonic()

    @property
    def is_ok(self) -> bool:
        """Whether all that was asked so far is well."""
        return all(check.is_ok for check in self.checks)

    def answered(self, layer: Layer, objection: str = "", is_misconfigured: bool = False, words: str = "") -> None:
        """This layer is well where there is no objection, and `words` go with that."""
        self._add(layer, not objection, objection or words, is_misconfigured)

    def failed(self, why: str, is_misconfigured: bool = False) -> None:
        """The first layer that was not answered yet fails."""
        self._add(list(Layer)[len(self.checks)], False, why, is_misconfigured)

    def denied(self, why: str) -> None:
        """Whoever says that our login is no good was reached at least."""
        if not self.checks:
            self.answered(Layer.REACH)
        self.failed(why, is_misconfigured=True)

    def refuted(self, layer: Layer, why: str, is_misconfigured: bool = False) -> None:
        """A layer behind this one has shown that this one fails, whatever it answered itself."""
        del self.checks[list(Layer).index(layer) :]
        self.failed(why, is_misconfigured)

    def _add(self, layer: Layer, is_ok: bool, message: str, is_misconfigured: bool) -> None:
        now = time.monotonic()
        self.checks.append(Check(layer, is_ok, 1000 * (now - self._began), message, is_misconfigured))
        self._began = now
