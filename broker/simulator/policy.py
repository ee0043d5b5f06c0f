"""Who decides in a simulation: the very planner, or a baseline with the same information."""

from __future__ import annotations

from typing import Protocol

from broker.placement.view import Plan, PlanInput


class Policy(Protocol):
    """Makes a plan whenever the queue or the federation has changed. A placement where there is no room waits in the site's own
    queue, first come first served with EASY backfill, as it would with the site's scheduler; one whose inputs are missing, and
    that brings no bookings, has them brought from the replica with the quickest route."""

    @property
    def name(self) -> str:
        """As tables show it."""

    def plan(self, given: PlanInput) -> Plan:
        """Which of the queue goes where now."""
