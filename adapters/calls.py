"""One call of the contract as many requests to an engine: some at a time, all within the call's time, and none without an end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import aiohttp

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


@asynccontextmanager
async def within(timeout_s: float, what: str = "") -> AsyncIterator[None]:
    """A block that ends in this time. Raises Unreachable when it takes longer; `what` was asked then."""
    try:
        async with asyncio.timeout(timeout_s) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Unreachable(f"{what}{what and ': '}no answer within {max(round(timeout_s, 1), 0.1):g} s") from error


async def whole_body(reply: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """A reply, read to its end. Raises Unreachable for one that is longer, and what aiohttp does when the connection is cut."""
    content = bytearray()
    async for part in reply.content.iter_any():
        content += part
        if len(content) > most_bytes:
            raise Unreachable(f"{reply.url.path}: a reply of more than {most_bytes / 2**20:g} MiB")
    return bytes(content)


def parsed(what: str, body: bytes, cure: str) -> Any:
    """JSON. Raises Unreachable for anything else, with its beginning; `cure` says what may be wrong then."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreachable(f"{what}: no JSON in the answer, which begins {body[:80]!r}; {cure}") from error


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
