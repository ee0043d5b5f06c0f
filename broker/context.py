"""What every loop of one broker process shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from broker.clock import Clock
from broker.config import Settings
from broker.metrics import Metrics
from broker.store.ledger import Ledger
from broker.tracing.tracer import OFF, Tracer
from broker.world import World


@dataclass(frozen=True, slots=True)
class Context:
    """Built once in `app.py`, handed to loops and handlers."""

    settings: Settings
    clock: Clock
    world: World
    ledger: Ledger
    metrics: Metrics
    tracer: Tracer = OFF
    order: Iterator[int] = field(default_factory=count)
    """Numbers what this process writes into the audit."""
