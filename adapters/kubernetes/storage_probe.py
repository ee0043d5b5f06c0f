"""Whether pods can write to the site's storage: only a pod can tell."""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
import uuid
from collections.abc import Mapping
from typing import Any

from adapters.base import Unreachable
from adapters.kubernetes.client import KubernetesClient, Said
from adapters.kubernetes.codec import CONTAINER, EVENTS, FEDERATION, PODS, volumes_of
from adapters.kubernetes.reports import is_over, stuck
from adapters.kubernetes.seen import Page, Part, Pod
from adapters.kubernetes.settings import KubernetesSettings, storage_mount
from adapters.kubernetes.watch import read
from topology.site import Site

log = logging.getLogger(__name__)

AGAIN_S = 600.0
"""How long a yes holds. A no is asked again with the next probe."""
LIFE_S = 120
"""The pod's own deadline, and how long it may take to be started."""
PAUSE_S = 0.2


class StorageFailing(Unreachable):
    """Pods cannot write there."""


class _Event(Part):
    reason: str = ""
    message: str = ""


class StorageProbe:
    """Starts a pod that asks for nothing, mounts the storage, writes a file and removes it."""

    def __init__(self, site: Site, settings: KubernetesSettings, federation: str, client: KubernetesClient) -> None:
        self._site, self._settings, self._federation, self._client = site, settings, federation, client
        self._asking: asyncio.Task[None] | None = None
        self._removals: set[asyncio.Task[None]] = set()
        self._good_until = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the next `ask` needs a pod."""
        return self._settings.image is not None and time.monotonic() >= self._good_until

    async def ask(self, timeout_s: float) -> str:
        """Words to go with a yes. A pod that has not come to an end in this time is waited for by the next probe. Raises
        Unreachable for a no, and what the client raises."""
        if self._settings.image is None:
            return "not asked: the site has no default image"
        if not self.is_due:
            return ""
        asking = self.begin()
        done, _ = await asyncio.wait([asking], timeout=timeout_s)
        if not done:
            return "not known yet: the pod that asks has not been started"
        self._asking = None
        asking.result()
        self._good_until = time.monotonic() + AGAIN_S
        return ""

    def begin(self) -> asyncio.Task[None]:
        """Start the pod, if none is under way."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._run(), name=f"storage of {self._site.name}")
        return self._asking

    async def close(self) -> None:
        """Remove the pod, if one is under way."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._removals:
            await asyncio.wait(self._removals)

    async def _run(self) -> None:
        name = f"{self._federation}-storage-{uuid.uuid4().hex[:8]}"
        path = PODS.path(self._settings.namespace, name)
        await self._client.ask("POST", PODS.path(self._settings.namespace), 10.0, body=self._pod(name))
        try:
            await self._ended(path, name)
        finally:
            removal = asyncio.create_task(self._remove(path), name=f"remove {name}")
            self._removals.add(removal)
            removal.add_done_callback(self._removals.discard)

    async def _remove(self, path: str) -> None:
        """A pod that cannot be removed ends by its own deadline, and takes no room."""
        try:
            await self._client.ask("DELETE", path, 10.0, body={"gracePeriodSeconds": 0})
        except (Unreachable, Said) as error:
            log.warning("%s: its storage probe is left behind: %s", self._site.name, error)

    async def _ended(self, path: str, name: str) -> None:
        until = time.monotonic() + LIFE_S
        while True:
            pod = read(Pod, await self._client.ask("GET", path, 10.0), path)
            if is_over(pod):
                break
            words = stuck(pod)[0] or await self._not_mounted(name)
            if words or time.monotonic() > until:
                raise StorageFailing(words or f"a pod that writes to it was not started within {LIFE_S} s")
            await asyncio.sleep(PAUSE_S)
        if pod.status.phase != "Succeeded":
            ended = [status.state.terminated for status in pod.status.container_statuses if status.state.terminated]
            why = ended[0].message if ended and ended[0].message else pod.status.message or pod.status.reason
            raise StorageFailing(f"pods cannot write to it: {why.strip() or 'no reason was given'}")

    async def _not_mounted(self, name: str) -> str:
        query = {"fieldSelector": f"involvedObject.name={name}", "limit": "50"}
        path = EVENTS.path(self._settings.namespace)
        try:
            page = read(Page, await self._client.ask("GET", path, 10.0, query), path)
        except (Unreachable, Said):
            return ""  # events are not ours to see: the pod's own deadline tells
        events = [read(_Event, raw, path) for raw in page.items]
        return next((f"pods cannot mount it: {each.message}" for each in events if each.reason == "FailedMount"), "")

    def _pod(self, name: str) -> Mapping[str, Any]:
        mount = storage_mount(self._site, self._settings)
        pool = self._settings.pool(self._site.pools[0].name)
        place = shlex.quote(f"{mount}/.fed")
        test = f'mkdir -p {place} && f={place}/probe.{name} && echo ok > "$f" && rm "$f"'
        settings = self._settings
        mounts, volumes = volumes_of(self._site, settings)
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "activeDeadlineSeconds": LIFE_S,
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": dict(pool.labels),
            "tolerations": [toleration.model_dump(exclude_none=True) for toleration in pool.tolerations],
            "imagePullSecrets": [{"name": secret} for secret in settings.image_pull_secrets],
            "containers": [
                {
                    "name": CONTAINER,
                    "image": settings.image,
                    "imagePullPolicy": settings.image_pull_policy,
                    "command": ["/bin/sh", "-c", f"exec 2> /dev/termination-log; {test}".replace("$", "$$")],
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        }
        if settings.run_as is not None:
            spec["securityContext"] = {"runAsUser": settings.run_as.user, "runAsGroup": settings.run_as.group}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": settings.namespace, "labels": {FEDERATION: self._federation}},
            "spec": spec,
        }
