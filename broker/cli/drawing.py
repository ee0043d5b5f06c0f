"""The federation as a picture; pure. Text for Graphviz (https://graphviz.org/doc/info/lang.html), or SVG: sites on a circle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

SIDE, RADIUS, NODE = 800, 300, 44
COLOURS = {"up": "#2e7d32", "degraded": "#f9a825", "suspect": "#ef6c00", "down": "#c62828", "misconfigured": "#6a1b9a"}
OTHER_COLOUR = "#757575"

Item = Mapping[str, Any]


def dot_of(sites: Sequence[Item], links: Sequence[Item]) -> str:
    """A directed graph."""
    lines = ["digraph federation {"]
    lines += [f"  {_quoted(site['name'])} [color={_quoted(_colour(site))}];" for site in sites]
    lines += [f"  {_quoted(each['from'])} -> {_quoted(each['to'])} [label={_quoted(_words(each))}];" for each in links]
    return "\n".join([*lines, "}", ""])


def svg_of(sites: Sequence[Item], links: Sequence[Item]) -> str:
    """Sites by health, and a line where a link leads in either direction, as wide as its bandwidth."""
    places = {site["name"]: _place(number, len(sites)) for number, site in enumerate(sites)}
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" font-family="sans-serif" font-size="14">']
    for link in links:
        (x1, y1), (x2, y2) = places[link["from"]], places[link["to"]]
        width = 1 + math.log10(1 + link["bandwidth_gbps"])
        lines.append(
            f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="#90a4ae" stroke-width="{width:.1f}">'
            f"<title>{escape(link['name'])}: {escape(_words(link))}</title></line>"
        )
    for site in sites:
        x, y = places[site["name"]]
        lines.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{NODE}" fill="{_colour(site)}"/>')
        lines.append(f'<text x="{x:.0f}" y="{y:.0f}" fill="white" text-anchor="middle" dy="5">{escape(site["name"])}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _place(number: int, count: int) -> tuple[float, float]:
    angle = 2 * math.pi * number / count
    return SIDE / 2 + RADIUS * math.sin(angle), SIDE / 2 - RADIUS * math.cos(angle)


def _words(link: Item) -> str:
    return f"{link['bandwidth_gbps']:g} Gbps, {link['latency_ms']:g} ms, {link['price_per_gib']:g} per GiB"


def _colour(site: Item) -> str:
    return COLOURS.get(site["health"], OTHER_COLOUR)


def _quoted(text: str) -> str:
    return json.dumps(text)
