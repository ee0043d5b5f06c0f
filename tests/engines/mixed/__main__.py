"""Jobs of twelve shapes over a federation of real engines, through one endpoint: what must come of each, and how often it ran.

    python -m tests.engines.mixed --jobs 400 [--kills 30 --seed 1] [--keep DIR]

With `--kills` the broker is killed -9 at as many random moments while jobs are submitted and run, and started again.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from broker.client import Client
from broker.demo.drive import Federation
from broker.documents import parse_documents
from tests.engines.mixed.check import faults, shape_of, write_storage
from tests.engines.mixed.engines import Started, engines, missing

CONFIGS = Path(__file__).parents[3] / "configs" / "engines"
BULK = 50
PATIENCE_S = 60.0
ENDS_WITHIN_S = 1200.0
OVER = ("succeeded", "failed", "cancelled")


def say(began: float, text: str) -> None:
    """One line of progress."""
    print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)


async def play(root: Path, given: argparse.Namespace, sites: Mapping[str, Started], began: float) -> list[str]:
    """The whole story below `root`; what was wrong."""
    write_storage(root / "sites", sites)
    fed = Federation(root)
    try:
        await fed.start_broker()
        words = {"root": str(root)}
        for each in sites.values():
            words.update(each.words)
        federation = root / "federation.yaml"
        federation.write_text(_filled((CONFIGS / "federation.yaml").read_text(), words))
        await fed.fed("apply", "-f", federation)
        async with Client(fed.url, patience_s=PATIENCE_S) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(_kill(fed, given.kills, random.Random(given.seed)))
            count = await _submit(client, given.jobs)
            say(began, f"{count} jobs are submitted")
            await _cancel(client)
            jobs = await _ended(client, began)
        _show(jobs)
        return [*faults(jobs, count, root / "sites"), *(f"{site} ran nothing" for site in sites if not _ran(jobs, site))]
    finally:
        for line in await fed.stop():
            say(began, line)


def _filled(text: str, words: Mapping[str, str]) -> str:
    for name, word in words.items():
        text = text.replace(f"@{name}@", word)
    return text


async def _submit(client: Client, jobs: int) -> int:
    """As many jobs as asked for, the shapes in turn, in bulks that may be asked for again."""
    shapes = [document.plain for document in parse_documents((CONFIGS / "jobs.yaml").read_text(), default_kind="Job")]
    bodies = [{**shapes[number % len(shapes)]} for number in range(jobs)]
    for number, body in enumerate(bodies):
        body["name"] = f"{body['name']}-{number}"
    for first in range(0, jobs, BULK):
        await client.submit(bodies[first : first + BULK], key=f"mixed-{first}")
    return len(bodies)


async def _cancel(client: Client) -> None:
    for job in await _jobs(client):
        if shape_of(job) == "cancelled":
            await client.cancel(job["id"])


async def _kill(fed: Federation, kills: int, chance: random.Random) -> None:
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0.5, 4.0))
        await fed.kill_broker()
        await fed.start_broker()


async def _ended(client: Client, began: float) -> Sequence[Mapping[str, Any]]:
    """All jobs once they are over, each with its attempts; as they are when that takes too long."""
    told = 0.0
    while True:
        jobs = await _jobs(client)
        left = [job for job in jobs if job["phase"] not in OVER]
        if not left or time.monotonic() - began > ENDS_WITHIN_S:
            return [await client.job(job["id"]) for job in jobs]
        if time.monotonic() - told > 10:
            told = time.monotonic()
            say(began, f"{len(jobs) - len(left)} are over; {dict(Counter(job['phase'] for job in left))}")
        await asyncio.sleep(0.5)


async def _jobs(client: Client) -> list[Any]:
    found, cursor = [], None
    while True:
        page = await client.jobs(limit=500, cursor=cursor)
        found += page["items"]
        cursor = page["next"]
        if not cursor:
            return found


def _ran(jobs: Sequence[Mapping[str, Any]], site: str) -> list[Mapping[str, Any]]:
    return [job for job in jobs if job["attempts"] and job["attempts"][-1]["site"] == site]


def _show(jobs: Sequence[Mapping[str, Any]]) -> None:
    """A line for each site, and one for each shape."""
    for site in sorted({job["attempts"][-1]["site"] for job in jobs if job["attempts"]}):
        here = _ran(jobs, site)
        waits = [last["accepted_at"] - last["placed_at"] for job in here if (last := job["attempts"][-1])["accepted_at"]]
        again = sum(len(job["attempts"]) > 1 for job in here)
        took = f"placed to accepted {median(waits):.2f} s in the median" if waits else ""
        print(f"  {site}: {len(here)} jobs, {again} of them after an earlier attempt; {took}")
    for shape in sorted({shape_of(job) for job in jobs}):
        print(f"  {shape}: {dict(Counter(job['phase'] for job in jobs if shape_of(job) == shape))}")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.engines.mixed", description=__doc__)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all files there")
    given = parser.parse_args()
    lack = missing()
    if lack:
        parser.error(lack)
    root = (given.keep or Path(tempfile.mkdtemp(prefix="fed-mixed-"))).resolve()
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    began = time.monotonic()
    with engines(root / "engines") as sites:
        say(began, f"{', '.join(sites)} are up")
        wrong = asyncio.run(play(root, given, sites, began))
    for line in wrong:
        print("WRONG", line)
    if wrong:
        print(f"{len(wrong)} things are not right; all files are in {root}")
        return 1
    print("every job ended as it must, and every task ran once")
    if given.keep is None:
        shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
