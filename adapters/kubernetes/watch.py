"""Objects of one kind, listed once and then kept by a watch that resumes where it was cut, or lists anew.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from adapters.base import Misconfigured, Unreachable
from adapters.calls import parsed
from adapters.kubernetes.client import CURE, KubernetesClient, Query, Said, lines
from adapters.kubernetes.seen import Page, Thing

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Thing)
M = TypeVar("M", bound=BaseModel)
PAGE = 250
LIST_S = 60.0
WATCH_S = 300
SILENCE_S = 150.0
"""A watch that brings nothing for so long is cut: bookmarks come about once a minute."""
BACKOFF_S = (0.1, 5.0)
SOUND_S = 5.0
"""A watch that ends after so long is resumed at once; one that ends sooner, however well, after a pause that grows."""
_GONE = 410


class Watched(Generic[T]):
    """The objects at one path. The first `ready` begins; `close` ends.

    `objects` is by `namespace/name`. `departed` keeps how objects were last seen before they were removed, for whom it matters;
    its owner clears it."""

    def __init__(
        self, client: KubernetesClient, path: str, kind: type[T], query: Query | None = None, keeps: bool = False
    ) -> None:
        self._client, self._path, self._kind, self._query, self._keeps = client, path, kind, dict(query or {}), keeps
        self.objects: dict[str, T] = {}
        self.departed: dict[str, T] = {}
        self._forgotten: dict[str, str] = {}
        self._version = ""
        self._task: asyncio.Task[None] | None = None
        self._is_fresh = asyncio.Event()
        self._is_denied = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: Unreachable | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether the watch stands."""
        return self._is_fresh.is_set() and self._task is not None and not self._task.done()

    async def ready(self, timeout_s: float) -> None:
        """Returns once the objects are what the server has, but for what is on its way. Raises Unreachable."""
        if self._task is not None and self._task.done():
            ended, self._task = self._task, None
            ended.result()
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name=f"watch {self._path}")
        if self.is_fresh:
            return
        self._failure = None
        self._is_denied.clear()
        self._hurry.set()
        fresh, denied = asyncio.create_task(self._is_fresh.wait()), asyncio.create_task(self._is_denied.wait())
        done, _ = await asyncio.wait([fresh, denied, self._task], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        fresh.cancel()
        denied.cancel()
        if self._task in done:
            self._task.result()
        if fresh not in done:  # it may have ended since: it had what the server has
            raise self._failure or Unreachable(f"GET {self._path}: no answer within {timeout_s:g} s")

    def put(self, raw: Mapping[str, Any]) -> None:
        """What a call of ours was answered with is known at once."""
        self._apply("MODIFIED", raw)

    def forget(self, key: str, uid: str) -> None:
        """What we removed is gone at once, whatever the watch still brings of it."""
        if key in self.objects and self.objects[key].metadata.uid == uid:
            del self.objects[key]
            self._forgotten[uid] = key

    async def close(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Unreachable):
                await self._task

    async def _keep(self) -> None:
        """List and watch until cancelled."""
        pause, now = BACKOFF_S[0], asyncio.get_running_loop().time
        while True:
            failure: Unreachable | None = None
            watched_from = math.inf
            try:
                if not self._version:
                    await self._list()
                watched_from = now()
                await self._watch()
            except Said as error:
                if error.code == _GONE:
                    self._version = ""
                else:
                    failure = Unreachable(f"GET {self._path}: {error}")
            except Unreachable as error:
                failure = error
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failure = Unreachable(f"GET {self._path}: the watch was cut: {error!r}")
            if now() - watched_from >= SOUND_S:
                pause = BACKOFF_S[0]
                if failure is None:
                    continue
            self._is_fresh.clear()
            if failure is not None:
                self._failure = failure
                log.debug("%s", failure)
            if isinstance(failure, Misconfigured):
                self._is_denied.set()  # trying again soon would not help
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):  # `wait_for` loses a cancellation that comes with the event
                    await self._hurry.wait()
            self._hurry.clear()
            await asyncio.sleep(BACKOFF_S[0])
            pause = min(2 * pause, BACKOFF_S[1])

    async def _list(self) -> None:
        found: dict[str, T] = {}
        query = {**self._query, "limit": str(PAGE)}
        while True:
            page = read(Page, await self._client.ask("GET", self._path, LIST_S, query), self._path)
            for raw in page.items:
                thing = read(self._kind, raw, self._path)
                found[thing.key] = thing
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        for key, thing in self.objects.items():
            if self._keeps and (key not in found or found[key].metadata.uid != thing.metadata.uid):
                self.departed[thing.metadata.uid] = thing
        uids = {thing.metadata.uid for thing in found.values()}
        self._forgotten = {uid: key for uid, key in self._forgotten.items() if uid in uids}
        self.objects = {key: thing for key, thing in found.items() if thing.metadata.uid not in self._forgotten}
        self._version = page.metadata.resource_version
        self._is_fresh.set()

    async def _watch(self) -> None:
        query = {
            **self._query, "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": self._version,
            "timeoutSeconds": str(WATCH_S),
        }  # fmt: skip
        async with asyncio.timeout(LIST_S) as limit, self._client.reply("GET", self._path, query) as reply:
            self._is_fresh.set()
            self._hurry.clear()
            limit.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
            async for line in lines(reply):
                limit.reschedule(asyncio.get_running_loop().time() + SILENCE_S)
                event = parsed(self._path, line, CURE)
                try:
                    kind, raw = event["type"], event["object"]
                    if kind == "ERROR":
                        raise Said(int(raw.get("code", 0)), str(raw.get("reason", "")), str(raw.get("message", "")))
                    self._version = raw["metadata"]["resourceVersion"]
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise Unreachable(f"{self._path}: an event makes no sense: {error!r}") from error
                if kind != "BOOKMARK":
                    self._apply(kind, raw)

    def _apply(self, kind: str, raw: Mapping[str, Any]) -> None:
        thing = read(self._kind, raw, self._path)
        uid = thing.metadata.uid
        before = self.objects.get(thing.key)
        if kind == "DELETED":
            self._forgotten.pop(uid, None)
            if self._keeps:
                self.departed[uid] = thing
            if before is not None and before.metadata.uid == uid:
                del self.objects[thing.key]
        elif uid not in self._forgotten and (before is None or not _is_newer(before, thing)):
            self.objects[thing.key] = thing


def _is_newer(one: Thing, other: Thing) -> bool:
    """Whether `one` is a later state of the same object: resource versions of one kind are numbers that grow."""
    a, b = one.metadata.resource_version, other.metadata.resource_version
    return one.metadata.uid == other.metadata.uid and a.isdigit() and b.isdigit() and int(a) > int(b)


def read(kind: type[M], raw: object, what: str) -> M:
    """An answer as what it should be. Raises Unreachable for one that makes no sense."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise Unreachable(f"{what}: the answer makes no sense: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
