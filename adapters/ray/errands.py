"""What only a process inside the cluster can do for us, sent there as small jobs of our own: end a job that waits for its place,
and see whether nodes can write to the site's storage."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
import uuid
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from adapters.base import RunName, Unreachable
from adapters.ray.client import RayClient, Said
from adapters.ray.codec import FEDERATION, SHARE, Job, asked, job_of, python_command
from adapters.ray.settings import RaySettings

PREFIX = "fed_errand_"
"""Their names are like no run's, which begin with their federation's name and a hyphen."""
PAUSE_S = 0.3
AGAIN_S = 600.0
"""How long a yes of the storage holds. A no is asked again with the next probe."""
KILL_AGAIN_S = 20.0
"""How long an errand may take before it is sent again."""

KILLER = """
import json, sys, ray
names = json.loads(zlib.decompress(base64.b64decode(sys.argv[1])))
ray.init(address="auto", log_to_driver=False, logging_level="error")
for name in names:
    try:
        ray.kill(ray.get_actor("_ray_internal_job_actor_" + name, namespace="SUPERVISOR_ACTOR_RAY_NAMESPACE"))
    except ValueError:
        continue
"""
"""`POST /api/jobs/{id}/stop` is heard by a job's supervisor, which starts when the job has its place: until then nobody
listens. The names are Ray's: https://github.com/ray-project/ray/blob/master/python/ray/dashboard/modules/job/common.py"""


class StorageFailing(Unreachable):
    """Nodes cannot write there."""


class Errands:
    """Small jobs of one federation at one cluster."""

    def __init__(self, settings: RaySettings, federation: str, mount: PurePosixPath, pool: str, client: RayClient) -> None:
        self._settings, self._federation, self._mount, self._client = settings, federation, mount, client
        self._pool = settings.pool(pool)
        self._killing: dict[RunName, float] = {}
        self._storage: str | None = None
        self._good_until = 0.0

    async def end_waiting(self, names: Collection[RunName], timeout_s: float) -> None:
        """Have the supervisors of these jobs ended. Raises Unreachable."""
        now = time.monotonic()
        self._killing = {name: at for name, at in self._killing.items() if now - at < KILL_AGAIN_S}
        due = sorted(set(names) - self._killing.keys())
        if due:
            await self._send("kill", python_command(self._settings.python, KILLER, json.dumps(due)), {}, {}, timeout_s)
            self._killing.update(dict.fromkeys(due, now))

    async def storage(self, timeout_s: float) -> str:
        """Words to go with a yes. Raises StorageFailing for a no."""
        if time.monotonic() < self._good_until:
            return ""
        deadline = time.monotonic() + timeout_s * 0.9
        if self._storage is None:
            file = shlex.quote(str(self._mount / f".fed-{uuid.uuid4().hex}"))
            place = shlex.quote(str(self._mount))
            script = f"if [ -d {place} ] && : > {file}; then rm -f {file}; else echo cannot be written; exit 1; fi"
            resources = {self._pool.resource: SHARE} if self._pool.resource else {}
            self._storage = await self._send("storage", script, resources, self._pool.labels, timeout_s)
        while not (job := await self._job(self._storage, deadline)).is_over:
            if time.monotonic() + PAUSE_S >= deadline:
                return "not known yet: the job that asks has not been started"
            await asyncio.sleep(PAUSE_S)
        self._storage = None
        if job.status != "SUCCEEDED":
            why = "it cannot be written there" if job.driver_exit_code else " ".join((job.message or "").split())[-200:]
            raise StorageFailing(f"{self._mount} on a node: {why}: is it mounted, and the setting `mount` right?")
        self._good_until = time.monotonic() + AGAIN_S
        return ""

    async def clear(self, jobs: Collection[Job], timeout_s: float) -> None:
        """Remove errands that are over. What cannot be removed now is so with the next call."""
        for job in jobs:
            ours = job.name.startswith(PREFIX) and job.said(FEDERATION) == self._federation
            if ours and job.is_over and job.name != self._storage:
                try:
                    await self._client.ask("DELETE", f"/api/jobs/{job.name}", timeout_s)
                except Said:
                    continue

    async def _send(
        self, what: str, entrypoint: str, resources: Mapping[str, float], labels: Mapping[str, str], timeout_s: float
    ) -> RunName:
        name = f"{PREFIX}{what}_{uuid.uuid4().hex}"
        body = {"entrypoint": entrypoint, "submission_id": name, "metadata": {FEDERATION: self._federation}}
        try:
            await self._client.ask("POST", "/api/jobs/", timeout_s, body=body | asked(resources, labels))
        except Said as said:
            raise Unreachable(f"a job of our own was not taken: {said}") from said
        return name

    async def _job(self, name: RunName, deadline: float) -> Job:
        try:
            return job_of(await self._client.ask("GET", f"/api/jobs/{name}", max(deadline - time.monotonic(), 0.1)))
        except Said as said:
            self._storage = None
            raise Unreachable(f"the job that asks for the storage is gone: {said}") from said
