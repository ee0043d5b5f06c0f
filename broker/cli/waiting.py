"""Waiting for jobs with something to look at, and what a process says by its exit code."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from broker.cli.exits import Exit
from broker.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.client import Client, Json

PAGE = 1_000
FIRST_LOOK_S, LONGEST_PAUSE_S = 0.2, 2.0
MOST_CODE = 125
"""Shells keep the exit codes above for themselves."""


def wait_for_all(session: Session, jobs: Sequence[str]) -> list[Json]:
    """The jobs once all are over; on a terminal with a bar of how far they are."""
    return session.run(lambda client: _all_over(client, jobs))


def follow_to_its_end(session: Session, job: str) -> Json:
    """Print what the first task writes, of each attempt, as it comes; the job once it is over."""
    return session.run(lambda client: _followed(client, job))


def exit_code_of(jobs: Sequence[Mapping[str, Any]]) -> int:
    """0 where all succeeded; of a single one that failed its own exit code, if it has one that a shell hands on; else 1."""
    if all(job["phase"] == "succeeded" for job in jobs):
        return 0
    code = jobs[0].get("exit_code") if len(jobs) == 1 else None
    return code if code and 0 < code <= MOST_CODE else Exit.FAILED


async def _followed(client: Client, job: str) -> Json:
    from broker.client import TERMINAL

    told, delay = 0, FIRST_LOOK_S
    while (found := await client.job(job))["phase"] not in TERMINAL or found["attempt"] > told:
        if found["attempt"] == told:
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, LONGEST_PAUSE_S)
            continue
        told, delay = found["attempt"], FIRST_LOOK_S
        await copy_logs(client.logs(job, attempt=told, follow=True))
    return found


async def copy_logs(chunks: AsyncIterator[bytes]) -> None:
    """Onto standard output, each as it comes."""
    async for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


async def _all_over(client: Client, ids: Sequence[str]) -> list[Json]:
    from broker.client import TERMINAL

    over: dict[str, Json] = {}
    delay = FIRST_LOOK_S
    with _bar(len(ids)) as tell:
        while True:
            left = [job for job in ids if job not in over]
            found = await _found(client, left)
            over.update({job["id"]: job for job in found if job["phase"] in TERMINAL})
            known = {**over, **{job["id"]: job for job in found}}
            tell(len(over), Counter(job["phase"] for job in known.values()))
            if len(over) == len(ids):
                return [over[job] for job in ids]
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, LONGEST_PAUSE_S)


async def _found(client: Client, ids: Collection[str]) -> list[Json]:
    """These jobs: one by one where they are few, else by pages of the list, which has the newest first."""
    if len(ids) <= 10:
        return [await client.job(job) for job in ids]
    wanted, found, cursor = set(ids), [], None
    while wanted:
        page = await client.jobs(PAGE, cursor)
        here = [job for job in page["items"] if job["id"] in wanted]
        found += here
        wanted -= {job["id"] for job in here}
        cursor = page["next"]
        if not cursor:
            break
    return found


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int, Mapping[str, int]], None]]:
    """What tells how many are over, and how many are in each phase. Nothing is shown where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda done, phases: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)

        def tell(done: int, phases: Mapping[str, int]) -> None:
            words = ", ".join(f"{number} {phase}" for phase, number in sorted(phases.items()))
            progress.update(task, completed=done, description=words)

        yield tell
