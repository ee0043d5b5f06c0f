"""What the broker adds to a job at a real engine, and how soon an engine has a job.

    python -m tests.bench.engines slurm|kubernetes [--jobs 200] [--pairs 5] [--singles 100] [--every 0.5]

Each pair sends the same one-second jobs twice to one cluster, in turns first and second: straight to the engine's API, by as many
requests at once as the broker's adapter makes, and in one bulk to a broker (a process of its own, with its own etcd). Both sides
count from their first request until a listing of the engine, asked for every half second (the broker's default; `--every` says
otherwise for both), tells that the last job has ended: there our own listing, here the broker's, by the last `finished_at` it
stored. A direct job is a bare `sleep 1`; through the broker it has its claim, its directories and its output kept, since that is
what a user gets. The broker also removes what is over while others run; what direct jobs leave is removed outside of the time.

An acknowledgement counts when all runs that were sent with it are answered: the broker stores `accepted_at` for them together.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Self

from aiohttp import ClientSession
from kubernetes_asyncio import client as kube
from kubernetes_asyncio import config as kube_config

from adapters.calls import each
from adapters.kubernetes.adapter import IN_FLIGHT
from adapters.slurm.settings import RestSettings
from broker.client import Client
from broker.documents import parse_documents
from tests.engines.mixed.engines import WAYS, Started
from tests.running import Up

CONFIGS = Path(__file__).parents[2] / "configs" / "engines"
UP_S = 60.0
LOOK_S = 0.5
"""How often we ask the broker whether all is over; what counts is what it stored."""
SEEN = 5
"""Listings until the broker surely knows that direct jobs are gone: it lists an idle site four times less often."""
OVER = ("succeeded", "failed", "cancelled")


class Direct(ABC):
    """The engine's own API, without us."""

    async def __aenter__(self) -> Self:
        return self

    @abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Give connections back."""

    @abstractmethod
    async def send(self, name: str) -> None:
        """One job."""

    @abstractmethod
    async def ended(self, batch: str) -> int:
        """How many jobs whose name begins so have ended well, by one listing."""

    async def clear(self) -> None:
        """Remove what is over, as far as the engine does not do so by itself."""
        return

    @property
    @abstractmethod
    def at_once(self) -> int:
        """Requests that the broker's adapter makes at a time."""


class DirectSlurm(Direct):
    """slurmrestd, v0.0.38."""

    at_once = RestSettings.model_fields["connections"].default

    def __init__(self, words: Mapping[str, str]) -> None:
        token = Path(words["slurm_token"]).read_text().strip()
        self._url = f"{words['slurm_url']}/slurm/v0.0.38"
        self._session = ClientSession(headers={"X-SLURM-USER-NAME": words["slurm_user"], "X-SLURM-USER-TOKEN": token})

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, name: str) -> None:
        environment = {"PATH": "/usr/bin:/bin"}
        quiet = {f"standard_{each}": "/dev/null" for each in ("input", "output", "error")}
        job = {"name": name, "partition": "cpu", "tasks": 1, "memory_per_node": 64, "current_working_directory": "/"}
        body = {"job": {**job, **quiet, "environment": environment}, "script": "#!/bin/sh\nsleep 1\n"}
        async with self._session.post(f"{self._url}/job/submit", json=body) as response:
            response.raise_for_status()

    async def ended(self, batch: str) -> int:
        async with self._session.get(f"{self._url}/jobs") as response:
            jobs = (await response.json())["jobs"]
        return sum(job["name"].startswith(batch) and "COMPLETED" in job["job_state"] for job in jobs)


class DirectKubernetes(Direct):
    """The API server: a Job of one pod each, in the image and on the nodes that the broker's jobs have."""

    at_once = IN_FLIGHT

    def __init__(self, words: Mapping[str, str]) -> None:
        self._kubeconfig, self._image = words["kubeconfig"], words["image"]

    async def __aenter__(self) -> Self:
        self._api = await kube_config.new_client_from_config(self._kubeconfig)
        self._batch, self._core = kube.BatchV1Api(self._api), kube.CoreV1Api(self._api)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    async def send(self, name: str) -> None:
        container = {
            "name": "task",
            "image": self._image,
            "imagePullPolicy": "Never",
            "command": ["sleep", "1"],
            "resources": {"requests": {"cpu": "500m", "memory": "64Mi"}},
            "volumeMounts": [{"name": "usr", "mountPath": "/usr", "readOnly": True}],
        }
        pod = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"pool": "cpu"},
            "containers": [container],
            "volumes": [{"name": "usr", "hostPath": {"path": "/usr"}}],
        }
        labels = {"batch": name.rpartition("-")[0]}
        spec = {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}}
        await self._batch.create_namespaced_job("default", {"metadata": {"name": name, "labels": labels}, "spec": spec})

    async def ended(self, batch: str) -> int:
        found = await self._batch.list_namespaced_job("default", label_selector=f"batch={batch}", _preload_content=False)
        return sum(bool(job["status"].get("succeeded")) for job in (await found.json())["items"])

    async def clear(self) -> None:
        """Ours are removed here; the broker removes its own."""
        await self._batch.delete_collection_namespaced_job("default", label_selector="batch", propagation_policy="Background")
        while (await self._core.list_namespaced_pod("default", limit=1)).items:
            await asyncio.sleep(0.2)


KINDS: Mapping[str, tuple[str, type[DirectSlurm] | type[DirectKubernetes]]] = {
    "slurm": ("hpc", DirectSlurm),
    "kubernetes": ("cloud", DirectKubernetes),
}
"""The site of the mixed federation that is measured, and its engine's own API."""


async def straight(direct: Direct, jobs: int, every_s: float) -> float:
    """Seconds for these jobs without a broker."""
    batch = f"bare{secrets.token_hex(3)}"
    began = time.monotonic()
    await each(direct.send, [f"{batch}-{number}" for number in range(jobs)], direct.at_once)
    while await direct.ended(batch) < jobs:
        await asyncio.sleep(every_s)
    return time.monotonic() - began


async def brokered(client: Client, jobs: int) -> tuple[float, Sequence[Mapping[str, Any]]]:
    """Seconds for these jobs through the broker, and the jobs. Each must end well at its first attempt."""
    began_at = time.time()
    made = await client.submit([a_job() for _ in range(jobs)])
    ids = {job["id"] for job in made["items"]}
    found = await _of(client, ids)
    while not all(job["phase"] in OVER for job in found):
        await asyncio.sleep(LOOK_S)
        found = await _of(client, ids)
    wrong = [f"{job['id']}: {job['phase']} {job['reason']}" for job in found if job["phase"] != "succeeded"]
    assert not wrong, wrong[:3]
    assert all(len(job["attempts"]) == 1 for job in found)
    return max(job["finished_at"] for job in found) - began_at, [{**job, "posted_at": began_at} for job in found]


async def _of(client: Client, ids: Collection[str]) -> Sequence[Mapping[str, Any]]:
    """These jobs, the newest of all."""
    found = [job for job in (await client.jobs(limit=len(ids)))["items"] if job["id"] in ids]
    assert len(found) == len(ids)
    return found


def acknowledged(jobs: Sequence[Mapping[str, Any]], since: str) -> Sequence[float]:
    """For each the seconds from its `posted_at`, or from its attempt's `placed_at`, to the engine's acknowledgement."""
    return [(last := job["attempts"][-1])["accepted_at"] - {**job, **last}[since] for job in jobs]


def a_job() -> dict[str, Any]:
    """One second of nothing."""
    return {"name": "nap", "command": ["sleep", "1"], "resources": {"cpus": 1, "memory_gib": 0.0625}, "run_time": 1}


async def singles(client: Client, count: int) -> Sequence[Mapping[str, Any]]:
    """So many jobs, one after the other, at a site with nothing else to do."""
    jobs = []
    for _ in range(count):
        began_at = time.time()
        job = await client.wait((await client.submit(a_job()))["id"])
        jobs.append({**job, "posted_at": began_at})
    return jobs


async def measure(site: str, started: Started, connect: Callable[[], Direct], given: argparse.Namespace, up: Up) -> None:
    """Print all figures."""
    running = asyncio.current_task()
    assert running
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)  # so that all that was started is ended
    async with Client(up.url) as client, connect() as direct:
        await client.put("sites", site, the_site(site, {**started.words, "root": str(up.folder)}))
        await until_up(client)
        await brokered(client, 8)  # both are warm: programs are in memory, connections open
        await straight(direct, 8, given.every)
        await settled(direct, given.every)
        alone = await singles(client, given.singles)
        waits = acknowledged(alone, "posted_at")
        print(f"POST to acknowledged, one at a time, {given.singles} jobs: {spread(waits)}", flush=True)
        ratios, added, bulks = [], [], list[Mapping[str, Any]]()
        for number in range(given.pairs):
            took: dict[str, float] = {}
            for side in ("direct", "broker") if number % 2 == 0 else ("broker", "direct"):
                await settled(direct, given.every)
                if side == "direct":
                    took[side] = await straight(direct, given.jobs, given.every)
                else:
                    took[side], jobs = await brokered(client, given.jobs)
                    bulks += jobs
            ratios.append(took["broker"] / took["direct"])
            added.append((took["broker"] - took["direct"]) / given.jobs * 1e3)
            told = ", ".join(f"{side} {seconds:.1f} s" for side, seconds in took.items())
            print(f"pair {number + 1}: {told}; ratio {ratios[-1]:.3f}, added per job {added[-1]:.1f} ms", flush=True)
    print(f"ratio: median {median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    print(f"added per job: median {median(added):.1f} ms, {min(added):.1f} to {max(added):.1f}")
    print(f"POST to acknowledged, in bulks of {given.jobs} that wait for room: {spread(acknowledged(bulks, 'posted_at'))}")
    print(f"of it from placed to acknowledged: {spread(acknowledged(bulks, 'placed_at'))}")


async def settled(direct: Direct, every_s: float) -> None:
    """What is over is removed, and the broker has seen that the site is empty."""
    await direct.clear()
    await asyncio.sleep(SEEN * every_s)


async def until_up(client: Client) -> None:
    """Raises TimeoutError with the site's own reason."""
    deadline = time.monotonic() + UP_S
    while (site := (await client.health())["sites"][0])["health"] != "up":
        if time.monotonic() > deadline:
            raise TimeoutError(f"site {site['name']} is {site['health']} after {UP_S:.0f} s: {site['reason']}")
        await asyncio.sleep(LOOK_S)


def the_site(site: str, words: Mapping[str, str]) -> dict[str, Any]:
    """Its document in the mixed federation, for these engines; its storage is made."""
    documents = (CONFIGS / "federation.yaml").read_text().split("\n---\n")
    text = next(each for each in documents if f"\nname: {site} " in each)
    for name, word in words.items():
        text = text.replace(f"@{name}@", word)
    found = dict(parse_documents(text)[0].plain)
    found["pools"] = [pool for pool in found["pools"] if pool["name"] == "cpu"]  # the direct jobs go nowhere else
    engine = found["engine"]
    if "pools" in engine:
        found["engine"] = {**engine, "pools": {"cpu": engine["pools"]["cpu"]}}
    Path(found["storage"]["url"].removeprefix("file://")).mkdir(parents=True)
    return found


def spread(seconds: Sequence[float]) -> str:
    """Median and 99th percentile."""
    return f"p50 {median(seconds) * 1e3:.0f} ms, p99 {quantiles(seconds, n=100, method='inclusive')[98] * 1e3:.0f} ms"


def main() -> None:
    """Start the engine, measure, end it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engines", description=__doc__)
    parser.add_argument("engine", choices=sorted(KINDS))
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--singles", type=int, default=100)
    parser.add_argument("--every", type=float, default=0.5, metavar="S", help="seconds between listings, of both sides")
    given = parser.parse_args()
    site, direct = KINDS[given.engine]
    way = WAYS[site]
    if lack := way.missing():
        parser.error(lack)
    root = Path(tempfile.mkdtemp(prefix="fed-bench-"))
    root.chmod(0o755)
    up = Up(root, observe_interval_s=given.every, probe_interval_s=5.0)
    started = way.start(root / "engine")
    try:
        up.start()
        asyncio.run(measure(site, started, lambda: direct(started.words), given, up))
    finally:
        up.stop()
        started.engine.stop()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
