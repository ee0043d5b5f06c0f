"""The conclusion from several probes of a site. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from adapters.base import Check, Layer
from broker.records import Health, SiteStatus

FLIPS = 4
"""So many changes between answering and failing within `FLIP_WINDOW_S` make a site degraded: twice gone and back."""
FLIP_WINDOW_S = 600.0
FAILING_STEP_S = 5.0
"""`failing_s` is stored in steps of at least this, so that a lost site costs few writes."""


@dataclass(frozen=True, slots=True)
class Probing:
    """What one broker remembers of its own probes of a site. Times in epoch seconds."""

    failures: int = 0
    """In a row."""
    failed_at: float | None = None
    """The last probe, if that failed."""
    is_ok: bool | None = None
    flips: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """`down_after` failures in a row make a site down, `lost_after_s` of failing a lost one. Of the time between two failed
    probes at most `longest_gap_s` counts, so that a broker that was suspended does not lose sites. Slower than `slow_ms` is
    degraded."""

    down_after: int
    lost_after_s: float
    longest_gap_s: float
    slow_ms: float


def conclude(
    status: SiteStatus, probing: Probing, checks: Sequence[Check], now: float, rules: Rules
) -> tuple[SiteStatus, Probing]:
    """Status and memory after one more probe. No checks at all count as no answer.

    A site that answers and says that our settings are wrong, or whose storage alone fails, takes no jobs; but it is there, so
    it is on no way to being lost.
    """
    failed = [check for check in checks if not check.is_ok]
    is_ok = bool(checks) and not failed
    is_misconfigured = any(check.is_misconfigured for check in failed)
    is_there = is_ok or is_misconfigured or (bool(failed) and all(check.layer is Layer.STORAGE for check in failed))
    after = Probing(
        failures=0 if is_ok else probing.failures + 1,
        failed_at=None if is_there else now,
        is_ok=is_ok,
        flips=_flips(probing, is_ok, now),
    )
    gap = 0.0 if is_there or probing.failed_at is None else min(max(now - probing.failed_at, 0.0), rules.longest_gap_s)
    failing_s = 0.0 if is_there else status.failing_s + gap
    health, reason = _health(status.health, after, checks, is_misconfigured, rules)
    new = replace(
        status,
        health=health,
        reason=reason,
        since=status.since if health is status.health else now,
        failing_s=failing_s,
        is_lost=failing_s >= rules.lost_after_s,
        checks=tuple(checks),
    )
    return new, after


def _flips(probing: Probing, is_ok: bool, now: float) -> tuple[float, ...]:
    flips = tuple(at for at in probing.flips if at > now - FLIP_WINDOW_S)
    has_flipped = probing.is_ok is not None and probing.is_ok != is_ok
    return (*flips, now) if has_flipped else flips


def _health(
    before: Health, probing: Probing, checks: Sequence[Check], is_misconfigured: bool, rules: Rules
) -> tuple[Health, str]:
    """Health and the reason for it, in words that do not change from probe to probe."""
    if probing.is_ok:
        if len(probing.flips) >= FLIPS:
            return Health.DEGRADED, "it answers and fails by turns"
        warning = next((check for check in checks if check.is_warning), None)
        if warning:
            return Health.DEGRADED, f"{warning.layer}: {warning.message}"
        slow = next((check for check in checks if check.latency_ms > rules.slow_ms), None)
        return (Health.DEGRADED, f"{slow.layer}: slower than {rules.slow_ms:.0f} ms") if slow else (Health.UP, "")
    worst = next((check for check in checks if not check.is_ok and check.is_misconfigured == is_misconfigured), None)
    reason = f"{worst.layer}: {worst.message}" if worst else "no answer"
    if is_misconfigured:
        return Health.MISCONFIGURED, reason
    is_down = probing.failures >= rules.down_after or before is Health.DOWN
    return (Health.DOWN if is_down else Health.SUSPECT), reason


def is_worth_writing(stored: SiteStatus, new: SiteStatus) -> bool:
    """Whether others must hear of it: latencies and the time of the last look alone are no news."""
    has_changed = (stored.health, stored.reason, stored.is_lost, stored.rooms, stored.life) != (
        new.health,
        new.reason,
        new.is_lost,
        new.rooms,
        new.life,
    )
    is_over = stored.failing_s > 0 and new.failing_s == 0
    return has_changed or is_over or new.failing_s >= stored.failing_s + FAILING_STEP_S


def is_our_fault(statuses: Iterable[SiteStatus], sites: int, share: float) -> bool:
    """Whether so many of `sites` fail at once (two at least, and more than `share` of all) that the fault may be ours: then
    nothing is evicted."""
    failing = sum(status.health in (Health.SUSPECT, Health.DOWN) for status in statuses)
    return failing >= 2 and failing > share * sites
