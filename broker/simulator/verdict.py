"""One policy beside others, in words: how much sooner, how much cheaper, and what the other of the two is then."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker.simulator.figures import Figures

LIKE = 0.02
"""Up to this part more counts as equal."""

Value = Callable[[Figures], float]


def verdict(ours: Figures, others: Mapping[str, Figures]) -> list[str]:
    """Against the soonest, the cheapest and the least weighed of the others; then against the soonest of those that cost no more,
    and the cheapest of those that complete no later. Those that left more jobs unfinished than ours are not compared with."""
    whole = {name: each for name, each in others.items() if each.unfinished <= ours.unfinished}
    if not whole:
        return ["no other policy finished as many jobs"]
    none = "no other costs as little", "no other completes as soon"
    within_money = {name: each for name, each in whole.items() if each.money <= ours.money * (1 + LIKE)}
    within_time = {name: each for name, each in whole.items() if _completion(each) <= _completion(ours) * (1 + LIKE)}
    lightest = _least(whole, lambda each: each.mean_weighed)
    return [
        f"completion {_beside(ours, whole, _completion)}, at money {_at(ours, whole, _completion, _money)}",
        f"money {_beside(ours, whole, _money)}, at completion {_at(ours, whole, _money, _completion)}",
        f"weighed cost {_apart(ours.mean_weighed, whole[lightest].mean_weighed)} {lightest}, which weighs least of the others",
        f"at equal or less money completion {_beside(ours, within_money, _completion)}" if within_money else none[0],
        f"at equal or less completion money {_beside(ours, within_time, _money)}" if within_time else none[1],
    ]


def _completion(figures: Figures) -> float:
    return figures.mean_completion_h


def _money(figures: Figures) -> float:
    return figures.money


def _least(figures: Mapping[str, Figures], value: Value) -> str:
    return min(figures, key=lambda name: value(figures[name]))


def _beside(ours: Figures, others: Mapping[str, Figures], value: Value) -> str:
    name = _least(others, value)
    return f"{_apart(value(ours), value(others[name]))} {name}, the best of the others"


def _at(ours: Figures, others: Mapping[str, Figures], least: Value, value: Value) -> str:
    return f"{_apart(value(ours), value(others[_least(others, least)]))} its"


def _apart(ours: float, theirs: float) -> str:
    """How far ours is below or above theirs, as a part of theirs."""
    if ours == theirs:
        return "equal to"
    part = abs(ours / theirs - 1) if theirs else float("inf")
    return f"{part:.1%} {'below' if ours < theirs else 'above'}"
