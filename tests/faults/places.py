"""Every place where the broker may wait, read from its source: where blows should fall."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

SIMULATED = (
    "broker/duties.py",
    "broker/housekeeping.py",
    "broker/members.py",
    "broker/planner.py",
    "broker/submission.py",
    "broker/api/changes.py",
    "broker/sites",
    "broker/store/ledger.py",
    "broker/store/memory.py",
    "broker/store/mirror.py",
    "broker/store/transactions.py",
    "broker/store/vitals.py",
)
"""What runs in the simulation, and of which every await is to be hit; `mover` has a twin of its own there."""

LEFT_OUT = ("broker/sites/mover.py",)


def places() -> list[str]:
    """`file:line ` of every `await`, `async with` and `async for`, in order."""
    found = []
    for name in SIMULATED:
        path = ROOT / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            relative = str(file.relative_to(ROOT))
            if relative not in LEFT_OUT:
                found += [f"{relative}:{line} " for line in sorted(set(_lines(ast.parse(file.read_text()))))]
    return found


def _lines(tree: ast.Module) -> Iterator[int]:
    """A frame that waits stands at the line where the awaited call is written. `asyncio.timeout` itself never waits."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Await | ast.AsyncFor):
            yield node.lineno
        elif isinstance(node, ast.AsyncWith):
            yield from (item.context_expr.lineno for item in node.items if "timeout" not in ast.unparse(item.context_expr))
