"""The adapter to a Ray cluster."""

from __future__ import annotations

import asyncio
import importlib.resources
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from adapters.base import (
    Accepted,
    Call,
    Capabilities,
    Check,
    NativeId,
    Observation,
    Outcome,
    Refused,
    Report,
    Run,
    RunName,
    RunRef,
    Unknown,
    Unreachable,
)
from adapters.calls import deadline_of, each, seconds_left, submit_each, unreachable_alone
from adapters.ray.client import MOST_BYTES, MOST_OTHER_BYTES, RayClient, Said
from adapters.ray.codec import (
    FEDERATION,
    SPEC,
    Job,
    PlacementGroup,
    groups_of,
    head_age_s,
    job_of,
    jobs_of,
    names_like_ours,
    nodes_of,
    refusal,
    request_of,
    spec_hash,
    tasks_of,
    usage_of,
    version_of,
)
from adapters.ray.errands import Errands
from adapters.ray.logs import BEGIN_S, follow_log
from adapters.ray.probe import probe
from adapters.ray.reports import Told, is_worth_reading, report_of, told_in, was_taken_too_soon
from adapters.ray.rooms import Use, rooms_of
from adapters.ray.settings import RaySettings, check, storage_mount
from topology.site import Site

IN_FLIGHT = 16
ALL = {"limit": "10000", "detail": "1"}
"""Of the state API: https://docs.ray.io/en/latest/ray-observability/reference/api.html"""
HELD = {"filter_keys": "state", "filter_predicates": "!=", "filter_values": "REMOVED"}
NODES, GROUPS, JOBS, USAGE = "/api/v0/nodes", "/api/v0/placement_groups", "/api/jobs/", "/api/cluster_status"
LOG = "/api/v0/logs/file"
DONE_S = 2.5
"""How long after a job's end Ray may still take what it sees of its supervisor for the end of the next job of that name: it looks
once a second."""
LAST_LINES = "200"


class RayAdapter:
    """A site's Ray cluster, for one federation."""

    capabilities = Capabilities(settling_s=0.0)

    def __init__(self, site: Site, settings: RaySettings, federation: str, client: RayClient) -> None:
        self._site, self._settings, self._federation, self._client = site, settings, federation, client
        self._mount = storage_mount(site, settings)
        self._runner = importlib.resources.files("adapters.ray").joinpath("runner.py").read_text()
        self._errands = Errands(settings, federation, self._mount, site.pools[0].name, client)
        self._told: dict[tuple[RunName, float | None], Told] = {}
        self._life, self._life_since = "", 0.0

    async def reserve(self, names: Collection[RunName], call: Call) -> Mapping[RunName, NativeId]:
        """See `SiteAdapter.reserve`: submission ids are ours to give."""
        return {}

    async def submit(self, runs: Sequence[Run], call: Call) -> Mapping[RunName, Outcome]:
        """See `SiteAdapter.submit`: one request per run, some at a time."""
        deadline = deadline_of(call)
        return await submit_each(lambda run: self._send(run, deadline), runs, IN_FLIGHT)

    async def observe(self, known: Collection[RunRef], call: Call) -> Observation:
        """See `SiteAdapter.observe`. Five requests; besides, one or two in a run's life, for when its program began and how it
        ended. There is no history: what was forgotten is gone. A young head does not know what nodes of the one before it
        still run: until it is `afterlife_s` old the listing is not whole."""
        deadline = deadline_of(call)
        began = time.time()
        with unreachable_alone():
            async with asyncio.TaskGroup() as group:
                version = group.create_task(self._ask("/api/version", deadline))
                jobs_asked = group.create_task(self._jobs(deadline))
                nodes = group.create_task(self._ask(NODES, deadline, ALL))
                groups = group.create_task(self._ask(GROUPS, deadline, ALL | HELD))
                usage = group.create_task(self._ask(USAGE, deadline, {"format": "0"}))
        jobs, places = jobs_asked.result(), groups_of(groups.result())
        ours = [job for job in jobs if self._is_ours(job)]
        await self._listen(ours, places, deadline)
        await self._errands.clear(jobs, seconds_left(deadline))
        at = {job.name: told.at for job in ours if (told := self._told.get(_key(job))) is not None}
        use, alive = Use(jobs, places, at, usage_of(usage.result())), nodes_of(nodes.result())
        rooms = rooms_of(self._site, self._settings, self._federation, alive, use, began)
        life = version_of(version.result()).session_name
        knows_all = max(head_age_s(alive, usage.result()), self._known_for(life)) >= self._settings.afterlife_s
        reports = {job.name: report_of(job, self._told.get(_key(job), Told())) for job in ours}
        foreign = names_like_ours(self._federation, jobs)
        return Observation(began, knows_all, life, reports, rooms, foreign)

    async def cancel(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.cancel`. Jobs that wait for their place hear nothing: a small job of ours ends them."""
        deadline = deadline_of(call)
        names = {run.name for run in runs}
        due = [job for job in await self._jobs(deadline) if job.name in names and self._is_ours(job) and not job.is_over]
        await each(lambda job: self._unless_gone("POST", f"{JOBS}{job.name}/stop", deadline), due, IN_FLIGHT)
        await self._errands.end_waiting([job.name for job in due if job.status == "PENDING"], seconds_left(deadline))

    async def forget(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.forget`: Ray drops what it knows of it. Output stays on its node as long as Ray's own logs."""
        deadline = deadline_of(call)
        names = {run.name for run in runs}
        jobs = await self._jobs(deadline)
        due = [job for job in jobs if job.name in names and self._is_ours(job) and job.is_over]
        echoes = [job for job in jobs if job.is_echo and job.name.startswith(f"{self._federation}-")]
        if any(abs(time.time() - (job.end_time or 0) / 1000) < DONE_S for job in due):
            await asyncio.sleep(min(DONE_S, seconds_left(deadline) / 2))
        await self._errands.end_waiting([job.name for job in due if was_taken_too_soon(job)], seconds_left(deadline))
        await each(lambda job: self._unless_gone("DELETE", f"{JOBS}{job.name}", deadline), [*due, *echoes], IN_FLIGHT)

    async def logs(self, run: RunRef, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        """See `SiteAdapter.logs`."""

        async def where() -> tuple[Report, str | None] | None:
            deadline = time.monotonic() + BEGIN_S
            try:
                job = job_of(await self._client.ask("GET", f"{JOBS}{run.name}", BEGIN_S))
            except Said as said:
                if said.code == 404:
                    return None
                raise Unreachable(f"{run.name}: {said}") from said
            if not self._is_ours(job):
                return None
            told = self._told.get(_key(job), Told())
            if job.driver_node_id is not None and told.end is None:
                told = await self._listen_to(job, deadline)
            if tasks_of(job) == 1:
                return report_of(job, told), job.driver_node_id
            return report_of(job, told), told.at[task] if task < len(told.at) else None

        async for chunk in follow_log(self._client, where, run.name, task, offset, follow):
            yield chunk

    async def probe(self, timeout_s: float) -> Sequence[Check]:
        """See `SiteAdapter.probe`."""
        return await probe(self._site, self._settings, self._client, self._errands, timeout_s)

    async def close(self) -> None:
        """See `SiteAdapter.close`."""
        await self._client.close()

    def _known_for(self, life: str) -> float:
        """Seconds since we first heard of this head."""
        if life != self._life:
            self._life, self._life_since = life, time.monotonic()
        return time.monotonic() - self._life_since

    async def _send(self, run: Run, deadline: float) -> Outcome:
        why = refusal(run, self._site)
        if why is not None:
            return Refused(why)
        body = request_of(run, self._site, self._settings, self._mount, self._runner)
        if isinstance(body, str):
            return Refused(body)
        try:
            answer = await self._client.ask("POST", JOBS, seconds_left(deadline), body=body)
        except Said as said:
            if "already exists" in said.message:
                return await self._found(run, deadline)
            words = " ".join(said.message.split())[-300:]
            if said.code in (400, 413, 422):
                return Refused(f"Ray takes no such job: {words}")
            return Unknown(f"Ray answers {said.code}: {words}")
        if not isinstance(answer, dict) or answer.get("submission_id") != run.name:
            raise Unreachable(f"the answer to a submit does not name the run: {str(answer)[:100]}")
        return Accepted(run.name)

    async def _found(self, run: Run, deadline: float) -> Outcome:
        """What comes of a name that is there already."""
        try:
            job = job_of(await self._client.ask("GET", f"{JOBS}{run.name}", seconds_left(deadline)))
        except Said as said:
            return Unknown(f"{run.name} was there, and is not to be read: {said.code}")
        if not self._is_ours(job):
            return Refused("somebody else has a job of this name")
        if job.said(SPEC) != spec_hash(run):
            return Refused("another run has this name")
        return Accepted(run.name)

    async def _jobs(self, deadline: float) -> list[Job]:
        return jobs_of(await self._ask(JOBS, deadline, most_bytes=MOST_BYTES))

    async def _listen(self, jobs: Sequence[Job], groups: Sequence[PlacementGroup], deadline: float) -> None:
        """Read what runners told, where there may be news of it; drop what was told of jobs that are no more."""
        self._told = {_key(job): self._told[_key(job)] for job in jobs if _key(job) in self._told}
        placed = {group.name for group in groups if group.holds}

        def is_due(job: Job) -> bool:
            waits = tasks_of(job) > 1 and not job.is_over and job.name not in placed
            return is_worth_reading(job, self._told.get(_key(job)), waits)

        await each(lambda job: self._listen_to(job, deadline), [job for job in jobs if is_due(job)], IN_FLIGHT)

    async def _listen_to(self, job: Job, deadline: float) -> Told:
        query = {"node_id": job.driver_node_id or "", "filename": f"job-driver-{job.name}.log", "lines": LAST_LINES}
        try:
            told = told_in(await self._client.text(LOG, seconds_left(deadline), query))
        except Said:
            told = Told()  # its node is gone, and its log with it
        if job.is_over and told.end is None:
            told = Told(told.began, told.at, {})  # nothing more will be told
        self._told[_key(job)] = told
        return told

    async def _ask(
        self, path: str, deadline: float, query: Mapping[str, str] | None = None, most_bytes: int = MOST_OTHER_BYTES
    ) -> Any:
        try:
            return await self._client.ask("GET", path, seconds_left(deadline), query, most_bytes=most_bytes)
        except Said as said:
            raise Unreachable(f"GET {path}: {said.code}: {' '.join(said.message.split())[-300:]}") from said

    async def _unless_gone(self, method: str, path: str, deadline: float) -> None:
        try:
            await self._client.ask(method, path, seconds_left(deadline))
        except Said as said:
            if said.code != 404 and "does not exist" not in said.message and "non-terminal" not in said.message:
                raise Unreachable(f"{method} {path}: {said.code}: {' '.join(said.message.split())[-300:]}") from said

    def _is_ours(self, job: Job) -> bool:
        return job.said(FEDERATION) == self._federation and job.name.startswith(f"{self._federation}-")


def open_ray(site: Site, settings: RaySettings, federation: str) -> RayAdapter:
    """The adapter of a Ray site; nothing is called yet. Raises ValueError for settings that do not fit the site."""
    check(site, settings)
    return RayAdapter(site, settings, federation, RayClient(settings))


def _key(job: Job) -> tuple[RunName, float | None]:
    """Of one submission: a name may be used again when it was forgotten."""
    return job.name, job.start_time
