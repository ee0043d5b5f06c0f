"""What the broker adds to a job at a real engine, and how soon an engine has a job.

    python -m tests.bench.engines slurm|kubernetes [--jobs 200] [--pairs 5] [--singles 50]

Each pair sends the same one-second jobs twice to one cluster, in turns first and second: straight to the engine's API, by as many
requests at once as the broker's adapter makes, and in one bulk to a broker (a process of its own, with its own etcd). Both sides
count from their first request until a listing, asked for every half second, says that the last job has ended: the engine's own
listing there, the broker's here. A direct job is a bare `sleep 1`; through the broker it has its claim, its directories and its
output kept, since that is what a user gets.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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
from broker.demo.drive import Federation
from broker.documents import parse_documents
from tests.engines.mixed.engines import WAYS, Started

CONFIGS = Path(__file__).parents[2] / "configs" / "engines"
POLL_S = 0.5
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
        self._batch = kube.BatchV1Api(self._api)
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
        found = await self._batch.list_namespaced_job("default", label_selector=f"batch={batch}")
        return sum(bool(job.status.succeeded) for job in found.items)


KINDS: Mapping[str, tuple[str, type[DirectSlurm] | type[DirectKubernetes]]] = {
    "slurm": ("hpc", DirectSlurm),
    "kubernetes": ("cloud", DirectKubernetes),
}
"""The site of the mixed federation that is measured, and its engine's own API."""


async def straight(direct: Direct, jobs: int) -> float:
    """Seconds for these jobs without a broker."""
    batch = f"bare{secrets.token_hex(3)}"
    began = time.monotonic()
    await each(direct.send, [f"{batch}-{number}" for number in range(jobs)], direct.at_once)
    while await direct.ended(batch) < jobs:
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began


async def brokered(client: Client, jobs: int) -> tuple[float, Sequence[float]]:
    """Seconds for these jobs through the broker, and for each the seconds from the POST to the engine's acknowledgement."""
    began, began_at = time.monotonic(), time.time()
    made = await client.submit([a_job() for _ in range(jobs)])
    ids = {job["id"] for job in made["items"]}
    while True:
        found = [job for job in (await client.jobs(limit=jobs))["items"] if job["id"] in ids]
        if all(job["phase"] in OVER for job in found):
            break
        await asyncio.sleep(POLL_S)
    seconds = time.monotonic() - began
    wrong = [f"{job['id']}: {job['phase']} {job['reason']}" for job in found if job["phase"] != "succeeded"]
    assert not wrong, wrong[:3]
    assert len(found) == jobs
    return seconds, [job["attempts"][-1]["accepted_at"] - began_at for job in found]


def a_job() -> dict[str, Any]:
    """One second of nothing."""
    return {"name": "nap", "command": ["sleep", "1"], "resources": {"cpus": 1, "memory_gib": 0.0625}, "run_time": 1}


async def singles(client: Client, count: int) -> Sequence[float]:
    """One job after the other at a site with nothing else to do: seconds from the POST to the engine's acknowledgement."""
    waits = []
    for _ in range(count):
        began_at = time.time()
        job = await client.wait((await client.submit(a_job()))["id"])
        waits.append(job["attempts"][-1]["accepted_at"] - began_at)
    return waits


async def measure(site: str, started: Started, connect: Callable[[], Direct], given: argparse.Namespace, root: Path) -> None:
    """Print all figures."""
    fed = Federation(root)
    try:
        await fed.start_broker()
        async with Client(fed.url) as client, connect() as direct:
            await client.put("sites", site, the_site(site, {**started.words, "root": str(root)}))
            while (await client.health())["sites"][0]["health"] != "up":
                await asyncio.sleep(POLL_S)
            await brokered(client, 8)  # both are warm: programs are in memory, connections open
            await straight(direct, 8)
            alone = await singles(client, given.singles)
            print(f"POST to acknowledged, one at a time, {given.singles} jobs: {spread(alone)}", flush=True)
            ratios, added, waits = [], [], []
            for number in range(given.pairs):
                if number % 2:
                    ours, acknowledged = await brokered(client, given.jobs)
                    bare = await straight(direct, given.jobs)
                else:
                    bare = await straight(direct, given.jobs)
                    ours, acknowledged = await brokered(client, given.jobs)
                ratios.append(ours / bare)
                added.append((ours - bare) / given.jobs * 1e3)
                waits += acknowledged
                print(f"pair {number + 1}: direct {bare:.1f} s, broker {ours:.1f} s, ratio {ratios[-1]:.3f}", flush=True)
    finally:
        await fed.stop()
    print(f"ratio: median {median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    print(f"added per job: median {median(added):.1f} ms, {min(added):.1f} to {max(added):.1f}")
    print(f"POST to acknowledged, in bulks of {given.jobs}: {spread(waits)}")


def the_site(site: str, words: Mapping[str, str]) -> dict[str, Any]:
    """Its document in the mixed federation, for these engines; its storage is made."""
    documents = (CONFIGS / "federation.yaml").read_text().split("\n---\n")
    text = next(each for each in documents if f"\nname: {site} " in each)
    for name, word in words.items():
        text = text.replace(f"@{name}@", word)
    found = dict(parse_documents(text)[0].plain)
    found["pools"] = [pool for pool in found["pools"] if pool["name"] == "cpu"]  # the direct jobs go nowhere else
    Path(found["storage"]["url"].removeprefix("file://")).mkdir(parents=True)
    return found


def spread(seconds: Sequence[float]) -> str:
    """Median and 99th percentile."""
    return f"p50 {median(seconds) * 1e3:.0f} ms, p99 {quantiles(seconds, n=100)[98] * 1e3:.0f} ms"


def main() -> None:
    """Start the engine, measure, end it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engines", description=__doc__)
    parser.add_argument("engine", choices=sorted(KINDS))
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--singles", type=int, default=50)
    given = parser.parse_args()
    site, direct = KINDS[given.engine]
    way = WAYS[site]
    if lack := way.missing():
        parser.error(lack)
    root = Path(tempfile.mkdtemp(prefix="fed-bench-"))
    root.chmod(0o755)
    started = way.start(root / "engine")
    try:
        asyncio.run(measure(site, started, lambda: direct(started.words), given, root))
    finally:
        started.engine.stop()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
