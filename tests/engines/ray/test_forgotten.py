"""A Ray head that forgets what it acknowledged, behind a real broker: nothing is lost, and nothing runs beside itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from broker.client import Client
from broker.demo.drive import Federation
from tests.contract.ray_kind import POOL_SETTINGS, RayKind, ray_cluster
from tests.engines.ray.cluster import AFTERLIFE_S, HEAD, RayCluster

MISSING = RayKind.missing()
pytestmark = [pytest.mark.engines, pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.timeout(900)]

JOBS, GANGS, RESTARTS = 20, 3, 2
OVER = ("succeeded", "failed", "cancelled")
PATIENCE_S = 400.0
STEPS = (20, 90)
"""Of tasks of even jobs and of odd ones, half a second each: the first may be done before their nodes end themselves, the others
are not."""


def a_job(number: int, journal: Path) -> dict[str, Any]:
    """Each task writes down that it began, every step, and last that it is done. The first are gangs; every fifth fails."""
    say = f'echo "{{}} $FED_JOB $FED_TASK $FED_ATTEMPT" >> {journal}'
    code = 3 if number % 5 == 4 else 0
    work = f"for step in $(seq {STEPS[number % 2]}); do sleep 0.5; {say.format('step')}; done"
    return {
        "name": f"job-{number}",
        "tasks": 2 if number < GANGS else 1,
        "resources": {"cpus": 1, "memory_gib": 0.2},
        "command": ["sh", "-c", f"{say.format('began')}; {work}; {say.format('done')}; exit {code}"],
        "retry": {"attempts": 10},
    }


def a_site(cluster: RayCluster, folder: Path) -> dict[str, Any]:
    """The cluster as a site of a federation, in the words of its document."""
    token = folder / "token"
    token.write_text(cluster.token)
    return {
        "kind": "Site",
        "name": "lab",
        "region": "us-east",
        "engine": {
            "kind": "ray",
            "url": cluster.url,
            "token": {"file": str(token)},
            "pools": {"cpu": POOL_SETTINGS["cpu"]},
            "afterlife_s": AFTERLIFE_S,
        },
        "pools": [{"name": "cpu", "nodes": 2, "per_node": {"cpus": 4, "memory_gib": 8}}],
        "storage": {"url": f"file://{folder}/sites/lab"},
    }


def journal_of(path: Path) -> Sequence[tuple[str, str, str, str]]:
    """What tasks wrote: word, job, task and attempt."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(word, job, task, attempt) for word, job, task, attempt in map(str.split, lines)]


async def until(holds: Callable[[], bool], what: str) -> None:
    """Returns once it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def restart_the_head(cluster: RayCluster, journal: Path) -> None:
    """While tasks are at work, and others wait for their place: killed, and started again. Its nodes are not touched."""
    before = len(journal_of(journal))
    await until(lambda: Counter(word for word, *_ in journal_of(journal)[before:])["began"] >= 4, "too little has begun")
    await asyncio.to_thread(cluster.kill, HEAD)
    await asyncio.to_thread(cluster.start)


async def ended(client: Client) -> Sequence[Mapping[str, Any]]:
    """All jobs with their attempts, once all are over."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        jobs = (await client.jobs(limit=500))["items"]
        if all(job["phase"] in OVER for job in jobs):
            return [await client.job(job["id"]) for job in jobs]
        assert time.monotonic() < deadline, [(job["name"], job["phase"], job["reason"]) for job in jobs]
        await asyncio.sleep(0.3)


async def test_what_a_head_forgot_is_run_again_and_never_beside_itself(tmp_path):
    cluster, journal = await asyncio.to_thread(ray_cluster), tmp_path / "journal"
    (tmp_path / "sites" / "lab").mkdir(parents=True)
    federation = tmp_path / "federation.json"
    federation.write_text(json.dumps(a_site(cluster, tmp_path)))
    fed = Federation(tmp_path)
    try:
        await fed.start_broker()
        await fed.fed("apply", "-f", federation)
        async with Client(fed.url, patience_s=60.0) as client:
            await client.submit([a_job(number, journal) for number in range(JOBS)], key="all")
            for _ in range(RESTARTS):
                await restart_the_head(cluster, journal)
            jobs = await ended(client)
    finally:
        left = await fed.stop()
    assert left == []
    assert "no record speaks" not in (tmp_path / "broker.log").read_text()  # of our own small jobs as if they were runs
    wrong = [job["name"] for job in jobs if (job["phase"], job["attempts"][-1]["exit_code"]) != expected(job)]
    assert (len(jobs), wrong) == (JOBS, [])
    lines = journal_of(journal)
    counts = Counter(line for line in lines if line[0] != "step")
    last = [(job["id"], str(task), str(job["attempts"][-1]["number"])) for job in jobs for task in range(tasks_of(job))]
    lost = Counter(attempt["ending"] for job in jobs for attempt in job["attempts"][:-1])
    again = sum(word == "done" for word, *_ in counts) - sum(map(tasks_of, jobs))
    print(f"{len(jobs)} jobs, {RESTARTS} restarts; ends of earlier attempts: {dict(lost)}; tasks done again: {again}")
    assert [task for task in last if not {("began", *task), ("done", *task)} <= counts.keys()] == []  # nothing is lost
    assert set(counts.values()) == {1}  # no attempt began twice
    assert beside_themselves(lines) == []
    assert set(lost) == {"vanished"}


def beside_themselves(lines: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Jobs of which an earlier attempt still wrote when a later one had begun."""
    latest: dict[str, int] = {}
    found = []
    for _, job, _, attempt in lines:
        if int(attempt) < latest.get(job, 0):
            found.append(job)
        latest[job] = max(int(attempt), latest.get(job, 0))
    return found


def tasks_of(job: Mapping[str, Any]) -> int:
    """As `a_job` asked."""
    return 2 if number_of(job) < GANGS else 1


def expected(job: Mapping[str, Any]) -> tuple[str, int]:
    """Phase and exit code that `a_job` leads to."""
    return ("failed", 3) if number_of(job) % 5 == 4 else ("succeeded", 0)


def number_of(job: Mapping[str, Any]) -> int:
    """The one in its name."""
    return int(str(job["name"]).rpartition("-")[2])
