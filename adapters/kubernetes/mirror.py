"""What a site's Kubernetes has, kept in memory by watches: our Jobs and their pods, and what the rooms of pools follow from."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adapters.base import Report, RunName, SiteState, Unreachable
from adapters.calls import seconds_left
from adapters.kubernetes.client import KubernetesClient, Said
from adapters.kubernetes.codec import FEDERATION, NODES, PODS, RUN
from adapters.kubernetes.queues import (
    CLUSTER_QUEUES,
    LOCAL_QUEUES,
    VOLCANO_QUEUES,
    WORKLOADS,
    ClusterQueue,
    LocalQueue,
    VolcanoQueue,
    Workload,
    model_of,
    queue_rooms,
    resource_of,
)
from adapters.kubernetes.reports import is_over, report_of, uid_of_job
from adapters.kubernetes.rooms import rooms_of
from adapters.kubernetes.seen import Job, Node, Page, Pod
from adapters.kubernetes.settings import Capacity, KubernetesSettings, Scheduler
from adapters.kubernetes.watch import PAGE, Watched, read
from topology.room import Room
from topology.site import Site


class Mirror:
    """One site's objects, for one federation. The first `ready` begins the watches; `close` ends them."""

    def __init__(self, site: Site, settings: KubernetesSettings, federation: str, client: KubernetesClient) -> None:
        self._site, self._settings, self._federation, self._client = site, settings, federation, client
        namespaces = settings.all_namespaces
        ours = {"labelSelector": f"{FEDERATION}={federation}"}
        self._resource = resource_of(settings)
        self._jobs = {name: Watched(client, self._resource.path(name), model_of(settings)) for name in namespaces}
        self._pods = {name: Watched(client, PODS.path(name), Pod, ours, keeps=True) for name in namespaces}
        self._workloads: list[Watched[Workload]] = []
        if settings.scheduler is Scheduler.KUEUE:
            self._workloads = [Watched(client, WORKLOADS.path(name), Workload) for name in namespaces]
        self._local: list[Watched[LocalQueue]] = []
        self._queues: Watched[VolcanoQueue] | Watched[ClusterQueue] | None = None
        if settings.capacity is Capacity.QUEUE and settings.scheduler is Scheduler.VOLCANO:
            self._queues = Watched(client, VOLCANO_QUEUES.path(None), VolcanoQueue)
        elif settings.capacity is Capacity.QUEUE:
            self._queues = Watched(client, CLUSTER_QUEUES.path(None), ClusterQueue)
            self._local = [Watched(client, LOCAL_QUEUES.path(settings.namespace), LocalQueue)]
        self._nodes: Watched[Node] | None = None
        self._others: Watched[Pod] | None = None
        if settings.capacity is Capacity.NODES:
            theirs = {
                "labelSelector": f"{FEDERATION}!={federation}",
                "fieldSelector": "status.phase!=Succeeded,status.phase!=Failed",
            }
            self._nodes = Watched(client, NODES.path(None), Node)
            self._others = Watched(client, PODS.path(None), Pod, theirs)

    async def ready(self, deadline: float) -> None:
        """Returns once every watch has what the server has. Raises Unreachable."""
        left = seconds_left(deadline)
        waiting = [watched.ready(left) for watched in self._watched() if not watched.is_fresh]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def list_again(self, deadline: float) -> None:
        """Bring what the watches do not have yet: a listing without a version is as new as the store."""
        for namespace, watched in self._jobs.items():
            query = {"labelSelector": f"{FEDERATION}={self._federation}", "limit": str(PAGE)}
            while True:
                try:
                    answer = await self._client.ask("GET", self._resource.path(namespace), seconds_left(deadline), query)
                except Said as said:
                    raise Unreachable(f"GET {self._resource.path(namespace)}: {said}") from said
                page = read(Page, answer, self._resource.path(namespace))
                for raw in page.items:
                    watched.put(raw)
                if not page.metadata.continue_:
                    break
                query["continue"] = page.metadata.continue_

    def put(self, namespace: str, raw: Mapping[str, Any]) -> None:
        """A Job of this namespace, as a call of ours was answered with it: it is known at once."""
        self._jobs[namespace].put(raw)

    def forget(self, job: Job) -> None:
        """A Job that we removed is gone at once."""
        self._jobs[job.metadata.namespace].forget(job.key, job.metadata.uid)

    def jobs(self) -> dict[RunName, Job]:
        """Those of this federation."""
        return {
            job.metadata.name: job for watched in self._jobs.values() for job in watched.objects.values() if self._is_ours(job)
        }

    def foreign(self) -> tuple[RunName, ...]:
        """Names of Jobs that look like ours and are not, in order."""
        prefix = f"{self._federation}-"
        found = {
            job.metadata.name
            for watched in self._jobs.values()
            for job in watched.objects.values()
            if job.metadata.name.startswith(prefix) and not self._is_ours(job)
        }
        return tuple(sorted(found))

    def pods_by_job(self) -> tuple[dict[str, list[Pod]], dict[str, list[Pod]]]:
        """Pods that are there, and those that are not any more, by the uid of their Job."""
        uids = {job.metadata.uid for watched in self._jobs.values() for job in watched.objects.values()}
        present: dict[str, list[Pod]] = defaultdict(list)
        departed: dict[str, list[Pod]] = defaultdict(list)
        for watched in self._pods.values():
            for pod in watched.objects.values():
                present[uid_of_job(pod)].append(pod)
            watched.departed = {uid: pod for uid, pod in watched.departed.items() if uid_of_job(pod) in uids}
            for pod in watched.departed.values():
                departed[uid_of_job(pod)].append(pod)
        return present, departed

    def workloads(self) -> list[Workload]:
        """What Kueue knows of Jobs; nothing where it is not the scheduler."""
        return [workload for watched in self._workloads for workload in watched.objects.values()]

    def reports(self, jobs: Mapping[RunName, Job]) -> dict[RunName, Report]:
        """What is to be said of each now."""
        pods, departed = self.pods_by_job()
        waits = {workload.job_uid: workload.waits for workload in self.workloads()}
        now = time.time()

        def report(job: Job) -> Report:
            uid = job.metadata.uid
            told = report_of(job, pods.get(uid, ()), departed.get(uid, ()), now)
            is_held = told.state is SiteState.QUEUED and not told.message and waits.get(uid)
            return replace(told, message=waits[uid]) if is_held else told

        return {name: report(job) for name, job in jobs.items()}

    def rooms(self) -> dict[str, Room]:
        """What nodes or queues have for us, or what the site declares, by pool. Raises Unreachable for what makes no sense."""
        pools, settings = self._site.pools, self._settings
        try:
            if self._queues is not None:
                queues: dict[str, VolcanoQueue | ClusterQueue] = {
                    queue.metadata.name: queue for queue in self._queues.objects.values()
                }
                local = {queue.metadata.name: queue.spec.cluster_queue for each in self._local for queue in each.objects.values()}
                if self._local:
                    queues = {name: queues[target] for name, target in local.items() if target in queues}
                ours = [pod for each in self._pods.values() for pod in each.objects.values() if not is_over(pod)]
                return queue_rooms(pools, settings, queues, ours)
            if self._nodes is None or self._others is None:
                return {pool.name: pool.empty for pool in pools}
            return rooms_of(pools, settings, self._nodes.objects.values(), self._others.objects.values())
        except ValueError as error:
            raise Unreachable(f"a node, a pod or a queue makes no sense: {error}") from error

    async def close(self) -> None:
        """End the watches."""
        await asyncio.gather(*(watched.close() for watched in self._watched()))

    def _is_ours(self, job: Job) -> bool:
        meta = job.metadata
        return meta.labels.get(FEDERATION) == self._federation and meta.annotations.get(RUN) == meta.name

    def _watched(self) -> list[Watched[Any]]:
        rooms = [watched for watched in (self._nodes, self._others, self._queues, *self._local) if watched is not None]
        return [*self._jobs.values(), *self._pods.values(), *self._workloads, *rooms]
