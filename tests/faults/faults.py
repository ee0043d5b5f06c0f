"""What goes wrong in one simulated world, all drawn from its seed before it begins, so that it can be printed and replayed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.process import Blow, Strike


class Wrong(StrEnum):
    """What a fault does while it lasts. `chance` is per call, `seconds` how long things take."""

    STORE_AWAY = "store away"
    """Requests to the store wait `seconds` and fail, unsent."""
    STORE_SLOW = "store slow"
    """Requests to the store take up to `seconds` more."""
    STORE_REPLIES_LOST = "store replies lost"
    """A request is applied, and its sender never hears of it."""
    STORE_LATE = "store late"
    """A commit is applied up to `seconds` later; its sender has long given up."""
    STORE_FULL = "store full"
    """No value can be written."""
    COMPACTED = "compacted"
    """The store forgets its history again and again."""
    WATCH_LAGS = "watch lags"
    """News take up to `seconds` more."""
    WATCH_CUT = "watch cut"
    """The stream of news ends with an error."""
    SITE_AWAY = "site away"
    """The site does not answer: calls wait `seconds` and fail; its runs go on."""
    SITE_CUT = "site cut off"
    """As away, for one broker: the target is `<site>@<broker>`."""
    SITE_CROWDED = "site crowded"
    """At its begin, other people's work asks for all of the site, until the end."""
    SITE_SLOW = "site slow"
    """Calls to the site take up to `seconds` more, before or after they have their effect."""
    SITE_REPLIES_LOST = "site replies lost"
    """A call has its effect, and its caller gets no answer."""
    SITE_LATE = "site late"
    """A submit that was given up has its effect up to `seconds` later."""
    SITE_REFUSES = "site refuses"
    """New runs are refused for good."""
    SITE_RESTARTS = "site restarts"
    """At its begin, the engine starts anew; with `chance` it has forgotten what it had, and those runs are dead."""
    SITE_FORGETS = "site forgets"
    """Finished runs leave the engine's listing and history."""
    SITE_MISLAYS = "site mislays"
    """Listings that call themselves whole leave out what is queued; it may start all the same."""
    SITE_PARTIAL = "site partial"
    """Listings leave out runs, and say that they are not whole."""
    STORAGE_AWAY = "storage away"
    """Claims and outputs cannot be reached."""
    NODES_LOST = "nodes lost"
    """At its begin, running runs end with a lost node, each with `chance`."""
    COPY_FAILS = "copy fails"
    """Transfers to the site fail, each with `chance`."""
    SITE_CHANGED = "site changed"
    """At its begin, the admin gives the site's engine other settings."""
    CLOSED = "closed"
    """The admin lets the site take no new jobs."""


OF_STORE = (
    Wrong.STORE_AWAY,
    Wrong.STORE_SLOW,
    Wrong.STORE_REPLIES_LOST,
    Wrong.STORE_LATE,
    Wrong.STORE_FULL,
    Wrong.COMPACTED,
    Wrong.WATCH_LAGS,
    Wrong.WATCH_CUT,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong from `begin` until `end` (loop seconds) for `target`: a site, a broker, or all when empty."""

    wrong: Wrong
    target: str
    begin: float
    end: float
    chance: float = 1.0
    seconds: float = 0.0

    def __str__(self) -> str:
        extent = f" chance {self.chance:.2f}" if self.chance < 1 else ""
        extent += f" up to {self.seconds:.2f} s" if self.seconds else ""
        return f"{self.begin:6.2f} to {self.end:6.2f}: {self.wrong} {self.target or 'everywhere'}{extent}"


class Schedule:
    """All faults of a world, and dice for what happens within them."""

    def __init__(self, faults: Sequence[Fault], chance: random.Random) -> None:
        self.faults = tuple(faults)
        self.dice = chance
        self._by_wrong: dict[Wrong, list[Fault]] = {}
        for fault in faults:
            self._by_wrong.setdefault(fault.wrong, []).append(fault)

    @property
    def ends(self) -> float:
        """When the last of them is over."""
        return max((fault.end for fault in self.faults), default=0.0)

    def now(self, wrong: Wrong, target: str, now: float) -> Fault | None:
        """The fault of this kind that is on for `target`, if the dice say so."""
        for fault in self._by_wrong.get(wrong, ()):
            is_on = fault.begin <= now < fault.end and fault.target in ("", target)
            if is_on and (fault.chance >= 1 or self.dice.random() < fault.chance):
                return fault
        return None

    def takes(self, wrong: Wrong, target: str, now: float) -> float:
        """Seconds that a fault of this kind adds now."""
        fault = self.now(wrong, target, now)
        return self.dice.uniform(0, fault.seconds) if fault else 0.0


def drawn_strikes(chance: random.Random) -> tuple[Strike, ...]:
    """Blows for one life of a process."""
    strikes = []
    for _ in range(chance.choice((0, 1, 1, 2, 2))):
        blow = chance.choice((Blow.KILL, Blow.KILL, Blow.KILL, Blow.CANCEL, Blow.STOP, Blow.PAUSE))
        seconds = chance.choice((0.3, 1.5, 2.5, 4.0, 8.0)) * chance.uniform(0.7, 1.3) if blow is Blow.PAUSE else 0.0
        is_new = chance.random() < 0.6
        at = chance.choice((chance.randint(1, 60), chance.randint(50, 115))) if is_new else int(2000 ** chance.uniform(0.2, 1.0))
        strikes.append(Strike(blow, at, seconds, is_new))
    return tuple(strikes)
