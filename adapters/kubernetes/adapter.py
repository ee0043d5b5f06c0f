"""The adapter to a Kubernetes cluster."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from adapters.base import (
    Accepted,
    Call,
    Capabilities,
    Check,
    EndReason,
    LoginFailed,
    NativeId,
    Observation,
    Outcome,
    Refused,
    Report,
    Run,
    RunName,
    RunRef,
    SiteState,
    Unknown,
    Unreachable,
)
from adapters.calls import deadline_of, each, seconds_left, submit_each
from adapters.kubernetes.client import KubernetesClient, Said
from adapters.kubernetes.codec import (
    CANCELLED,
    FEDERATION,
    GIVEN_UP,
    KUEUE_QUEUE,
    NAMESPACES,
    PODS,
    SPEC,
    refusal,
    spec_hash,
)
from adapters.kubernetes.logs import follow_log
from adapters.kubernetes.mirror import Mirror
from adapters.kubernetes.probe import Probe
from adapters.kubernetes.queues import VOLCANO_COMMANDS, abort_of, model_of, object_of, resource_of
from adapters.kubernetes.reports import is_lost, is_over, report_of, started_at, stuck
from adapters.kubernetes.seen import Job, Pod, Thing
from adapters.kubernetes.settings import KubernetesSettings, Scheduler, check
from adapters.kubernetes.watch import read
from topology.site import Site

IN_FLIGHT = 16
"""Requests at once: an API server shares its time fairly, and makes those wait who ask for more."""
REFUSALS = (400, 403, 404, 413, 422)
"""The object was looked at and turned away: https://kubernetes.io/docs/reference/using-api/api-concepts/"""
LOGS_BEGIN_S = 10.0


class KubernetesAdapter:
    """A site's Kubernetes, for one federation."""

    capabilities = Capabilities(settling_s=0.0)

    def __init__(self, site: Site, settings: KubernetesSettings, federation: str, client: KubernetesClient) -> None:
        self._site, self._settings, self._federation = site, settings, federation
        self.client = client
        self._resource, self._model = resource_of(settings), model_of(settings)
        self._mirror = Mirror(site, settings, federation, client)
        self._probe = Probe(site, settings, federation, client)
        self._may_see_namespace = True

    async def reserve(self, names: Collection[RunName], call: Call) -> Mapping[RunName, NativeId]:
        """See `SiteAdapter.reserve`: an object's name is ours to give, its uid is handed out on acceptance."""
        return {}

    async def submit(self, runs: Sequence[Run], call: Call) -> Mapping[RunName, Outcome]:
        """See `SiteAdapter.submit`: one request per run, some at a time."""
        deadline = deadline_of(call)
        return await submit_each(lambda run: self._create(run, deadline), runs, IN_FLIGHT)

    async def observe(self, known: Collection[RunRef], call: Call) -> Observation:
        """See `SiteAdapter.observe`. One small request, which shows that the server answers; all else is kept by watches. Runs
        that are known and not there cost a listing, so that they are not taken for gone because a watch is late."""
        deadline = deadline_of(call)
        await self._mirror.ready(deadline)
        life = await self._reach(deadline)
        began = time.time()
        if not {ref.name for ref in known} <= self._mirror.jobs().keys():
            await self._mirror.list_again(deadline)
        jobs = self._mirror.jobs()
        reports = self._mirror.reports(jobs)
        await self._give_up(jobs, reports, deadline)
        return Observation(began, True, life, reports, self._mirror.rooms(), self._mirror.foreign())

    async def cancel(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.cancel`. What has not started is suspended; what runs ends by a deadline of its pods, so that its
        output stays to be read."""
        deadline = deadline_of(call)
        await self._mirror.ready(deadline)
        jobs = self._mirror.jobs()
        reports = self._mirror.reports(jobs)
        due = [jobs[ref.name] for ref in runs if ref.name in jobs and not reports[ref.name].state.is_over]
        await each(lambda job: self._stop(job, CANCELLED, "asked to stop", deadline), due, IN_FLIGHT)
        if not due:
            await self._reach(deadline)

    async def forget(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.forget`: the Job and its pods, with their output, are removed."""
        deadline = deadline_of(call)
        await self._mirror.ready(deadline)
        jobs = self._mirror.jobs()
        reports = self._mirror.reports(jobs)

        async def remove(job: Job) -> None:
            meta = job.metadata
            body = {"propagationPolicy": "Background", "preconditions": {"uid": meta.uid}}
            await self._unless_gone("DELETE", self._resource.path(meta.namespace, meta.name), deadline, body)
            self._mirror.forget(job)

        due = [jobs[ref.name] for ref in runs if ref.name in jobs and reports[ref.name].state.is_over]
        await each(remove, due, IN_FLIGHT)

    async def logs(self, run: RunRef, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        """See `SiteAdapter.logs`. Kubernetes counts no bytes: what comes before `offset` is read and thrown away."""
        await self._mirror.ready(time.monotonic() + LOGS_BEGIN_S)

        def state() -> tuple[Report, Sequence[Pod]] | None:
            job = self._mirror.jobs().get(run.name)
            if job is None:
                return None
            pods, departed = self._mirror.pods_by_job()
            of_job = pods.get(job.metadata.uid, [])
            return report_of(job, of_job, departed.get(job.metadata.uid, []), time.time()), of_job

        async for chunk in follow_log(self.client, state, task, offset, follow):
            yield chunk

    async def probe(self, timeout_s: float) -> Sequence[Check]:
        """See `SiteAdapter.probe`."""
        return await self._probe.ask(timeout_s)

    async def close(self) -> None:
        """See `SiteAdapter.close`."""
        await self._probe.close()
        await self._mirror.close()
        await self.client.close()

    async def _create(self, run: Run, deadline: float) -> Outcome:
        """One run's object, or that which has its name."""
        refused = refusal(run, self._site, self._settings)
        if refused is not None:
            return refused
        namespace = self._settings.namespace_of(run.tenant)
        try:
            thing = object_of(run, self._site, self._settings, secrets.token_hex(8))
            raw = await self.client.ask("POST", self._resource.path(namespace), seconds_left(deadline), body=thing)
        except Said as said:
            if said.code == 409:
                return await self._adopt(run, namespace, deadline)
            if said.code in REFUSALS:
                return Refused(f"namespace {namespace}: {said.message or said}")
            return Unknown(str(said))
        self._mirror.put(namespace, raw)
        return Accepted(read(self._model, raw, "POST").metadata.uid)

    async def _adopt(self, run: Run, namespace: str, deadline: float) -> Outcome:
        """The object that has the run's name, if it is the run's own."""
        path = self._resource.path(namespace, run.name)
        try:
            raw = await self.client.ask("GET", path, seconds_left(deadline))
        except Said as said:
            return Unknown(f"its name was taken a moment ago, and now: {said}")
        job = read(self._model, raw, path)
        if job.metadata.labels.get(FEDERATION) != run.federation:
            return Refused(f"the name {run.name} is taken by a Job that is not ours")
        if job.metadata.annotations.get(SPEC) != spec_hash(run):
            return Refused(f"the name {run.name} is taken by another run of ours")
        if job.metadata.deletion_timestamp is not None:
            return Unknown(f"a Job {run.name} is being removed")
        self._mirror.put(namespace, raw)
        return Accepted(job.metadata.uid)

    async def _stop(self, job: Job, annotation: str, words: str, deadline: float) -> None:
        """Ask a Job's pods to end, and write down why."""
        meta = job.metadata
        alive = [pod for pod in self._mirror.pods_by_job()[0].get(meta.uid, []) if not is_over(pod)]
        change: dict[str, object] = {"metadata": {"annotations": {annotation: words}, "uid": meta.uid}}
        has_started = any(started_at(pod) for pod in alive)
        if not has_started and self._settings.scheduler is not Scheduler.VOLCANO:
            change["spec"] = {"suspend": True}
        if not has_started and self._settings.scheduler is Scheduler.KUEUE:
            # Kueue lets no Job go that names no queue
            change["metadata"] = {"annotations": {annotation: words}, "uid": meta.uid, "labels": {KUEUE_QUEUE: None}}
        raw = await self._unless_gone("PATCH", self._resource.path(meta.namespace, meta.name), deadline, change)
        if raw is not None:
            self._mirror.put(meta.namespace, raw)
        if not has_started:
            if self._settings.scheduler is Scheduler.VOLCANO:
                await self._unless_gone("POST", VOLCANO_COMMANDS.path(meta.namespace), deadline, abort_of(job))
            return
        for pod in alive:
            path = PODS.path(pod.metadata.namespace, pod.metadata.name)
            if started_at(pod):
                await self._unless_gone("PATCH", path, deadline, {"spec": {"activeDeadlineSeconds": 1}})
            else:
                await self._unless_gone("DELETE", path, deadline, {"preconditions": {"uid": pod.metadata.uid}})

    async def _unless_gone(self, method: str, path: str, deadline: float, body: object) -> Mapping[str, object] | None:
        """The answer; None where the object is gone, or is another one of that name by now. Raises Unreachable."""
        try:
            answer: Mapping[str, object] = await self.client.ask(
                method, path, seconds_left(deadline), body=body, patch=method == "PATCH"
            )
            return answer
        except Said as said:
            if said.code in (404, 409):
                return None
            raise Unreachable(f"{method} {path}: {said}") from said

    async def _give_up(self, jobs: Mapping[RunName, Job], reports: Mapping[RunName, Report], deadline: float) -> None:
        """Stop what Kubernetes would wait for without end, images that cannot be had and gangs of which a node is lost, and what
        Kueue would start again."""
        pods, _ = self._mirror.pods_by_job()
        evicted = {workload.job_uid: workload.evicted for workload in self._mirror.workloads() if workload.evicted}
        now = time.time()
        due: list[tuple[Job, str]] = []
        for name, report in reports.items():
            job = jobs[name]
            if report.state.is_over or {CANCELLED, GIVEN_UP} & job.metadata.annotations.keys():
                continue
            lost = [pod for pod in pods.get(job.metadata.uid, []) if is_lost(pod, now)]
            if lost:
                due.append((job, f"{EndReason.NODE_LOST} node {lost[0].spec.node_name} is lost, and a task with it"))
            elif job.metadata.uid in evicted:
                due.append((job, f"{EndReason.PREEMPTED} {evicted[job.metadata.uid]}"))
            elif report.state is SiteState.QUEUED:
                due += [
                    (job, f"{EndReason.START_FAILED} {words}")
                    for pod in pods.get(job.metadata.uid, [])
                    for words, is_for_ever in [stuck(pod)]
                    if words and (is_for_ever or now - (pod.metadata.creation_timestamp or now) > self._settings.start_patience_s)
                ][:1]
        await each(lambda one: self._stop(one[0], GIVEN_UP, one[1], deadline), due, IN_FLIGHT)

    async def _reach(self, deadline: float) -> str:
        """A question that the server must read from its store. The life: a namespace that was made anew has forgotten all."""
        path = NAMESPACES.path(None, self._settings.namespace)
        try:
            if self._may_see_namespace:
                return read(Thing, await self.client.ask("GET", path, seconds_left(deadline)), path).metadata.uid
        except LoginFailed:
            self._may_see_namespace = False
        except Said as said:
            raise Unreachable(f"namespace {self._settings.namespace}: {said}") from said
        query = {"labelSelector": f"{FEDERATION}={self._federation}", "limit": "1"}
        try:
            await self.client.ask("GET", self._resource.path(self._settings.namespace), seconds_left(deadline), query)
        except Said as said:
            raise Unreachable(f"namespace {self._settings.namespace}: {said}") from said
        return ""


def open_kubernetes(site: Site, settings: KubernetesSettings, federation: str) -> KubernetesAdapter:
    """The adapter of a Kubernetes site; nothing is called yet. Raises ValueError for settings that do not fit the site."""
    check(site, settings)
    return KubernetesAdapter(site, settings, federation, KubernetesClient(settings))
