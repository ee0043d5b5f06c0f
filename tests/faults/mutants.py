"""Faults built into the broker on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.world import Setup


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is wrong with it, and how it is made."""

    why: str
    setup: Callable[[], Setup]


MUTANTS: dict[str, Mutant] = {}
