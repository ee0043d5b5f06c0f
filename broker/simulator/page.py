"""Results as a page of its own: what came of it in a sentence, the table, plots, and what was composed of what."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from itertools import cycle
from statistics import fmean

from broker.simulator.figures import Figures, figures_of, mean_of
from broker.simulator.plots import COLOURS, Shown, svgs
from broker.simulator.policies import Ours
from broker.simulator.report import BOUND, COLUMNS, HEADS, MOST_IS_BEST, Bounds, by_policy, cell, rows
from broker.simulator.sweep import Result
from broker.simulator.verdict import verdict

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;background:#f5f6f8;margin:0}
main{max-width:90rem;margin:0 auto;padding:2rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .6rem}
.sub{color:#5b6775;margin:.2rem 0 1.2rem}
section,figure{background:#fff;border:1px solid #e2e6ea;border-radius:8px}
section{padding:1rem 1.2rem}section p{margin:0 0 .4rem}
ul{margin:0;padding-left:1.2rem}
.table{overflow-x:auto;padding:.4rem .6rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.8rem}
td,th{padding:.3rem .35rem;text-align:right;border-bottom:1px solid #eceff2;white-space:nowrap}
th{color:#5b6775;font-weight:600}
td:first-child,th:first-child{text-align:left}
tr.ours td{background:#eef5fc;font-weight:600}tr.bound td{color:#5b6775;font-style:italic}
td.best{color:#1b7837;font-weight:700}
.range{display:block;color:#8a95a1;font-size:.72rem;font-weight:400}
.dot{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.5em}
.legend span.key{margin-right:1.4rem;white-space:nowrap}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(26rem,1fr));gap:1rem}
figure{margin:0;padding:.6rem}figure svg{width:100%;height:auto}
"""


def as_html(results: Sequence[Result], bounds: Bounds) -> str:
    """The page: means over seeds, with the least and the most where there are several. Raises Invalid where matplotlib is
    missing."""
    policies = by_policy(results)
    colours, bound = cycle(COLOURS), fmean(each.mean_weighed for each in bounds.values())
    shown = [
        Shown(name, next(colours), [each.outcome for each in some], [figures_of(each.outcome) for each in some], bound)
        for name, some in policies.items()
    ]
    seeds = list(dict.fromkeys(result.run.seed for result in results))
    first = results[0].outcome
    subject = first.scenario.rpartition("-")[0]
    words = f"{subject}: {len(first.jobs):,} jobs, {len(shown)} policies, {_seeds(seeds)}"
    parts = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>fed simulate: {html.escape(subject)}</title>",
        f"<style>{STYLE}</style><main><h1>Simulation</h1><p class=sub>{html.escape(words)}</p>",
        _said(shown),
        f"<h2>Figures</h2><section class=table>{_table(shown, results, bounds)}</section>",
        f"<h2>Plots</h2><p class=legend>{''.join(_key(each) for each in shown)}</p>",
        f"<div class=plots>{''.join(f'<figure>{svg}</figure>' for svg in svgs(shown))}</div>",
        f"<h2>What was simulated</h2><section>{_list([result.notes for result in results])}</section></main></html>",
    )
    return "".join(parts)


def _said(shown: Sequence[Shown]) -> str:
    """The planner beside the others, where both are there."""
    means = {each.name: mean_of(each.figures) for each in shown}
    ours = means.pop(Ours.name, None)
    if ours is None or not means:
        return ""
    lines = [f"{line[0].upper()}{line[1:]}." for line in verdict(ours, means)]
    return f"<section><p>The planner ({Ours.name}) beside the others:</p>{_list(lines)}</section>"


def _list(lines: Iterable[str]) -> str:
    """Each of them once."""
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in dict.fromkeys(lines))}</ul>"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of {len(seeds)} seeds with the least and the most"


def _key(each: Shown) -> str:
    return f"<span class=key>{_dot(each.colour)}{html.escape(each.name)}</span>"


def _dot(colour: str) -> str:
    return f'<span class=dot style="background:{colour}"></span>'


def _table(shown: Sequence[Shown], results: Sequence[Result], bounds: Bounds) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEADS)
    means = [mean_of(each.figures) for each in shown]
    best = {name: _best(name, means) for name in COLUMNS if len({COLUMNS[name](mean) for mean in means}) > 1}
    colours = {each.name: each.colour for each in shown}
    figures = {each.name: each.figures for each in shown}
    body = []
    for name, *values in rows(results, bounds):
        kind = "bound" if name == BOUND else "ours" if name == Ours.name else ""
        dot = _dot(colours[str(name)]) if name in colours else ""
        cells = [f"<td>{dot}{_named(str(name))}</td>"]
        for head_of, value in zip(HEADS[1:], values, strict=True):
            is_best = kind != "bound" and head_of in best and value == best[head_of]
            told = html.escape(cell(value)) + _range(head_of, figures.get(str(name), ()))
            cells.append(f"<td{' class=best' if is_best else ''}>{told}</td>")
        body.append(f"<tr class={kind or 'other'}>{''.join(cells)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _named(policy: str) -> str:
    """A policy with its parameters below."""
    name, _, parameters = policy.partition(" (")
    return html.escape(name) + (f"<span class=range>{html.escape(parameters.rstrip(')'))}</span>" if parameters else "")


def _best(name: str, means: Sequence[Figures]) -> float:
    values = [COLUMNS[name](mean) for mean in means]
    return max(values) if name in MOST_IS_BEST else min(values)


def _range(name: str, figures: Sequence[Figures]) -> str:
    """The least and the most over several seeds, where they differ."""
    values = [COLUMNS[name](each) for each in figures] if name in COLUMNS else []
    least, most = cell(min(values, default=0)), cell(max(values, default=0))
    return f"<span class=range>{least}–{most}</span>" if least != most else ""
