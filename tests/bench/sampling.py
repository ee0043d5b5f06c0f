"""Where a process' main thread spends its CPU: samples by a timer that counts CPU time, each as heavy as the time since the last.

Time in C (grpc, pydantic, json) counts for the line of ours that called it, and for the package that was called from no line of
ours.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

EVERY_S = 0.002
ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / top) for top in ("broker", "adapters", "topology"))


class Sampler:
    """One for a process, made and used in its main thread."""

    def __init__(self) -> None:
        self._modules: defaultdict[str, float] = defaultdict(float)
        self._functions: defaultdict[str, float] = defaultdict(float)
        self._within: defaultdict[str, float] = defaultdict(float)
        self._last = 0.0

    def start(self) -> None:
        """Sample from now on."""
        signal.signal(signal.SIGPROF, self._sample)
        self._last = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def stop(self) -> None:
        """No more."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def found(self) -> dict[str, dict[str, float]]:
        """Seconds by our innermost module, by our innermost function, and by each of our functions with all that it called."""
        named = {"modules": self._modules, "functions": self._functions, "within": self._within}
        return {name: most(counted, 40) for name, counted in named.items()}

    def _sample(self, number: int, frame: FrameType | None) -> None:
        now = time.thread_time()
        weight, self._last = now - self._last, now
        ours: list[str] = []
        outer = ""
        while frame is not None:
            code = frame.f_code
            if code.co_filename.startswith(OURS):
                ours.append(f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_qualname}")
            elif not outer:
                outer = _package(code.co_filename)
            frame = frame.f_back
        inner = ours[0] if ours else outer or "loop"
        self._modules[inner.partition(":")[0]] += weight
        self._functions[inner] += weight
        for name in set(ours):
            self._within[name] += weight


def most(seconds: Mapping[str, float], count: int) -> dict[str, float]:
    """The largest of them, the largest first."""
    return dict(sorted(seconds.items(), key=lambda item: -item[1])[:count])


def _package(path: str) -> str:
    """The installed package that a file is of, or the module of Python's own."""
    _, is_installed, rest = path.partition("site-packages/")
    return rest.partition("/")[0] if is_installed else Path(path).parent.name
