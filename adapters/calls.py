"""One call of the contract as many requests to an engine: some at a time, and all within the call's time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from adapters.base import Call, Outcome, Run, RunName, Unknown, Unreachable

R = TypeVar("R")
T = TypeVar("T")


def deadline_of(call: Call) -> float:
    """When the time of a call that begins now is over, by the monotonic clock in seconds."""
    return time.monotonic() + call.timeout_s


def seconds_left(deadline: float) -> float:
    """Seconds until then, more than none. Raises Unreachable when it has passed: nothing is sent any more."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise Unreachable("the call took too long")
    return left


async def each(act: Callable[[T], Awaitable[R]], things: Collection[T], at_once: int) -> list[R]:
    """What `act` gives for each, in their order; so many are at work at once. The first failure ends the others. Raises the first
    Unreachable."""
    results: dict[int, R] = {}
    left = iter(enumerate(things))

    async def work() -> None:
        for number, thing in left:
            results[number] = await act(thing)

    with unreachable_alone():
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(things))):
                group.create_task(work())
    return [results[number] for number in range(len(results))]


async def submit_each(send: Callable[[Run], Awaitable[Outcome]], runs: Sequence[Run], at_once: int) -> Mapping[RunName, Outcome]:
    """What comes of sending each of these; of one that was not answered it is unknown. Raises Unreachable when none was."""
    failures: list[Unreachable] = []

    async def outcome(run: Run) -> Outcome:
        try:
            return await send(run)
        except Unreachable as error:
            failures.append(error)
            return Unknown(str(error))

    outcomes = await each(outcome, runs, at_once)
    if failures and len(failures) == len(runs):
        raise failures[0]
    return {run.name: outcome for run, outcome in zip(runs, outcomes, strict=True)}


@contextmanager
def unreachable_alone() -> Iterator[None]:
    """Raises the first Unreachable of a task group in place of the group. A group that holds another error is raised as it is."""
    try:
        yield
    except BaseExceptionGroup as errors:
        known, others = errors.split(Unreachable)
        if known is None or others is not None:
            raise
        first: BaseException = known
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
