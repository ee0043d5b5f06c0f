"""Numbers as people read them, with their units."""

from __future__ import annotations


def span(hours: float) -> str:
    """A length of time: `1.5 h`, `12 min`, `30 s`."""
    if hours >= 0.995:
        return f"{hours:.1f} h"
    if hours * 60 >= 0.995:
        return f"{hours * 60:.0f} min"
    return f"{hours * 3600:.0f} s"


def amount(gib: float) -> str:
    """An amount of bytes: `3600 GiB`, `1.5 GiB`, `20 MiB`."""
    if gib >= 100:
        return f"{gib:.0f} GiB"
    if gib >= 0.1:
        return f"{gib:.1f} GiB"
    return f"{gib * 1024:.1f} MiB"


def number_of_money(money: float) -> str:
    """Two decimals, or more for less than a tenth: `1.20`, `0.0031`."""
    return f"{money:.2f}" if money >= 0.1 or money == 0 else f"{money:.2g}"


def sum_of_money(money: float, currency: str) -> str:
    """The same with the currency: `1.20 EUR`."""
    return f"{number_of_money(money)} {currency}"


def mass(kg: float) -> str:
    """Carbon: `1.2 kg CO2`, `35 g CO2`."""
    if kg >= 1:
        return f"{kg:.1f} kg CO2"
    return f"{kg * 1000:.0f} g CO2" if kg >= 0.01 else f"{kg * 1000:.2g} g CO2"


def listed(texts: list[str], most: int, joint: str = "; ") -> str:
    """The first `most` texts and how many more there are."""
    more = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return joint.join(texts[:most] + more)
