"""Each layer of a Kubernetes site, asked apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from adapters.base import Check, Layer, LoginFailed, Misconfigured, Unreachable
from adapters.kubernetes.client import KubernetesClient, Said
from adapters.kubernetes.codec import NAMESPACES, NODES
from adapters.kubernetes.queues import resource_of
from adapters.kubernetes.rooms import is_of
from adapters.kubernetes.seen import Node, Page, Part, Time
from adapters.kubernetes.settings import Capacity, KubernetesSettings
from adapters.kubernetes.storage_probe import StorageProbe
from adapters.kubernetes.watch import PAGE, read
from adapters.probing import Answers
from topology.site import Site

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
"""https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access"""
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
SERVANTS = {"kube-scheduler": "no pod is given a node", "kube-controller-manager": "no Job gets its pods"}
"""Who must be alive for a Job to run, by the lease that it renews, and what is so without it."""
STALE_S = 60.0
NEEDS = (
    *((verb, "", "pods", "") for verb in ("create", "delete", "list", "watch", "patch")),
    ("get", "", "pods", "log"),
)
"""What our login must be allowed in each namespace over creating, patching and deleting jobs: verb, API group, resource,
subresource."""
CLUSTER_NEEDS = (("list", "", "pods", ""), ("watch", "", "pods", ""), ("list", "", "nodes", ""), ("watch", "", "nodes", ""))
"""And in the whole cluster, to know the room that is left."""
MINOR = 29
"""The first 1.x that ends one task of a Job without the others: https://kubernetes.io/docs/concepts/workloads/controllers/job/"""


class _LeaseSpec(Part):
    renew_time: Time | None = None


class _Lease(Part):
    spec: _LeaseSpec = _LeaseSpec()


class Failing(Exception):
    """A layer's answer to the probe is no."""

    def __init__(self, message: str, is_misconfigured: bool = False) -> None:
        super().__init__(message)
        self.is_misconfigured = is_misconfigured


class Probe:
    """What `SiteAdapter.probe` asks."""

    def __init__(self, site: Site, settings: KubernetesSettings, federation: str, client: KubernetesClient) -> None:
        self._site, self._settings, self._client = site, settings, client
        self._allowed_at: float | None = None
        self._storage = StorageProbe(site, settings, federation, client)

    async def ask(self, timeout_s: float) -> Sequence[Check]:
        """One check per layer, up to the first that fails."""
        deadline = time.monotonic() + timeout_s
        asks: tuple[tuple[Layer, Callable[[float], Awaitable[str]]], ...] = (
            (Layer.REACH, self._reach),
            (Layer.LOGIN, self._login),
            (Layer.SCHEDULER, self._scheduler),
            (Layer.STORAGE, self._storage.ask),
        )
        answers = Answers()
        for layer, ask in asks:
            try:
                answers.answered(layer, words=await ask(max(deadline - time.monotonic(), 0.001)))
                if layer is Layer.REACH and self._storage.is_due:
                    self._storage.begin()  # a pod takes a while: the other layers are asked meanwhile
                continue
            except Failing as failing:
                answers.failed(str(failing), failing.is_misconfigured)
            except Unreachable as error:
                answers.failed(str(error), isinstance(error, Misconfigured))
            except Said as said:
                answers.failed(str(said), said.code in (403, 404))
            break
        return self._client.clock.judged(answers.checks)

    async def close(self) -> None:
        """Leave nothing of ours behind."""
        await self._storage.close()

    async def _reach(self, timeout_s: float) -> str:
        """The server answers, and is new enough. Who is not known to it is told so by the next layer."""
        try:
            version = await self._client.ask("GET", "/version", timeout_s)
        except LoginFailed:
            return ""
        minor = "".join(filter(str.isdigit, str(version.get("minor", "")))) if isinstance(version, dict) else ""
        if not minor:
            raise Failing("what answers at this address is no Kubernetes", is_misconfigured=True)
        if int(minor) < MINOR:
            raise Failing(f"it is Kubernetes 1.{minor}: runs need 1.{MINOR} or later", is_misconfigured=True)
        return ""

    async def _login(self, timeout_s: float) -> str:
        """We are known, and may do what we must: asked once, then only whether we are still known."""
        group = resource_of(self._settings).api.split("/")[2]
        jobs = tuple((verb, group, "jobs", "") for verb in ("create", "patch", "delete"))
        needs = [(namespace, need) for namespace in self._settings.all_namespaces for need in (*jobs, *NEEDS)]
        if self._settings.capacity is Capacity.NODES:
            needs += [("", need) for need in CLUSTER_NEEDS]
        if self._allowed_at is not None and time.monotonic() - self._allowed_at < 300:
            needs = needs[:1]
        answers = await asyncio.gather(*(self._may(namespace, need, timeout_s) for namespace, need in needs))
        missing = [words for words in answers if words]
        if missing:
            raise Failing(f"our login may not {', '.join(missing)}: give it a role that allows it", is_misconfigured=True)
        self._allowed_at = time.monotonic()
        return ""

    async def _may(self, namespace: str, need: tuple[str, str, str, str], timeout_s: float) -> str:
        verb, group, resource, sub = need
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": sub}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {name: value for name, value in attributes.items() if value}},
        }
        answer = await self._client.ask("POST", REVIEWS, timeout_s, body=body)
        try:
            if answer["status"]["allowed"] is True:
                return ""
        except (KeyError, TypeError) as error:
            raise Unreachable(f"POST {REVIEWS}: the answer makes no sense: {error!r}") from error
        return f"{verb} {resource}{'/' if sub else ''}{sub} in {f'namespace {namespace}' if namespace else 'the whole cluster'}"

    async def _scheduler(self, timeout_s: float) -> str:
        """Namespaces and nodes of every pool are there, and who starts pods is alive, as far as we may see it."""
        for namespace in self._settings.all_namespaces:
            try:
                await self._client.ask("GET", NAMESPACES.path(None, namespace), timeout_s)
            except LoginFailed:
                await self._client.ask("GET", resource_of(self._settings).path(namespace), timeout_s, {"limit": "1"})
            except Said as said:
                raise Failing(f"namespace {namespace}: {said.message}", is_misconfigured=said.code == 404) from said
        await self._servants(timeout_s)
        if self._settings.capacity is Capacity.NODES:
            await self._pools(timeout_s)
        return ""

    async def _servants(self, timeout_s: float) -> None:
        for name, so in SERVANTS.items():
            try:
                lease = await self._client.ask("GET", f"{LEASES}/{name}", timeout_s)
            except (LoginFailed, Said):
                return  # not ours to see here, or run without a lease
            renewed = read(_Lease, lease, LEASES).spec.renew_time
            if renewed is not None and time.time() + self._client.clock.ahead_s - renewed > STALE_S:
                since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(renewed))
                raise Failing(f"{name} has not been heard of since {since}: {so}")

    async def _pools(self, timeout_s: float) -> None:
        page = read(Page, await self._client.ask("GET", NODES.path(None), timeout_s, {"limit": str(PAGE)}), NODES.path(None))
        nodes = [read(Node, raw, NODES.path(None)) for raw in page.items]
        for pool in self._site.pools:
            settings = self._settings.pool(pool.name)
            if not page.metadata.continue_ and not any(is_of(settings, node) for node in nodes):
                labels = ", ".join(f"{name}={value}" for name, value in settings.labels.items())
                raise Failing(f"pool {pool.name}: no node has the labels {labels or '(any)'}", is_misconfigured=True)
