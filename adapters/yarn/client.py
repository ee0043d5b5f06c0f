"""Requests to resource managers and node managers, with every way in which they may go wrong told apart."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from adapters.base import LoginFailed, Unreachable
from adapters.calls import parsed, whole_body
from adapters.clocks import ServerClock
from adapters.secrets import SecretMissing
from adapters.yarn.settings import YarnSettings

MOST_BYTES = 64 << 20
"""Of one reply: ten thousand applications are some 20 MiB."""
MOST_WORDS = 300


class Answer:
    """A reply that was read to its end."""

    def __init__(self, url: str, status: int, body: bytes) -> None:
        self.url = url
        self.status = status
        self.body = body

    @property
    def json(self) -> Any:
        """Raises Unreachable for what is not JSON."""
        return parsed(self.url, self.body, "is this YARN's web address?")

    @property
    def words(self) -> str:
        """The message of an exception of theirs, or how the body begins."""
        try:
            return str(json.loads(self.body)["RemoteException"]["message"])[:MOST_WORDS]
        except (ValueError, KeyError, TypeError, RecursionError):
            return self.body[:MOST_WORDS].decode("utf-8", "replace").strip()


class Opened:
    """A reply that is being read."""

    def __init__(self, url: str, reply: aiohttp.ClientResponse) -> None:
        self.url = url
        self.status = reply.status
        self._reply = reply

    @property
    def is_ok(self) -> bool:
        """Whether the body is what was asked for."""
        return self.status == 200

    def header(self, name: str) -> str:
        """A header of it; empty where it is absent."""
        return self._reply.headers.get(name, "")

    async def whole(self) -> bytes:
        """All of the body. Raises Unreachable for one of more than `MOST_BYTES`."""
        return await whole_body(self._reply, MOST_BYTES)

    async def read(self) -> bytes:
        """Some of the body; nothing at its end."""
        return await self._reply.content.readany()


class Web:
    """YARN's web services, as one user. Connections are opened at the first request."""

    def __init__(self, settings: YarnSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._managers = list(settings.resource_manager)
        self.clock = ServerClock()
        """The resource manager's."""

    async def manager(self, method: str, path: str, body: Any = None, **query: str) -> Answer:
        """A reply of the resource manager that was last seen to be active, whatever its status but those that mean: later, or not
        you. Raises Unreachable."""
        return await self.ask(method, f"{self._managers[0]}/ws/v1/cluster{path}", body, **query)

    async def listing(self, path: str, **query: str) -> Any:
        """What it lists there. Raises Unreachable."""
        answer = await self.manager("GET", path, **query)
        if answer.status != 200:
            raise Unreachable(f"{path}: {answer.status}: {answer.words}")
        told = answer.json
        if not isinstance(told, dict):
            raise Unreachable(f"{path}: {answer.words[:80]!r} is nothing that YARN says")
        return told

    async def active(self) -> Mapping[str, Any]:
        """What the active resource manager says of itself. One that has just started answers before it has read what it knows:
        it is not active until then. Raises Unreachable when there is none."""
        seen = []
        for _ in range(len(self._managers)):
            try:
                told = (await self.listing("/info")).get("clusterInfo")
                if not isinstance(told, dict):
                    raise Unreachable("/info: what answers is no resource manager")
                if told.get("haState") == "ACTIVE":
                    return dict(told)
                seen.append(f"{self._managers[0]} is {told.get('haState', 'in no known state')}")
            except LoginFailed:
                raise
            except Unreachable as error:
                seen.append(str(error))
            self._managers.append(self._managers.pop(0))
        raise Unreachable("no resource manager is active: " + "; ".join(seen))

    async def reach(self) -> None:
        """See that one of the resource managers answers. Raises Unreachable, and LoginFailed."""
        for number, manager in enumerate(self._managers, 1):
            try:
                answer = await self.ask("GET", f"{manager}/ws/v1/cluster/info")
                if answer.status != 200:
                    raise Unreachable(f"{manager}: {answer.status}: {answer.words}")
                if not isinstance(answer.json, dict):
                    raise Unreachable(f"{manager}: {answer.words[:80]!r} is nothing that YARN says")
                return
            except LoginFailed:
                raise
            except Unreachable:
                if number == len(self._managers):
                    raise

    async def ask(self, method: str, url: str, body: Any = None, accept: str = "application/json", **query: str) -> Answer:
        """Any reply but those that mean: later, or not you. Raises Unreachable, and LoginFailed."""
        async with self.opened(method, url, body, accept, **query) as reply:
            answer = Answer(url, reply.status, await reply.whole())
            if url.startswith(tuple(self._managers)):
                self.clock.heard({name: reply.header(name) for name in ("Date", "Age") if reply.header(name)})
        if answer.status in (401, 403):
            raise LoginFailed(f"{url}: {answer.status}: {answer.words}; check user, password and token of this site")
        if answer.status in (429, 503):
            after = reply.header("Retry-After")
            when = f", and to come back after {after} s" if after else ""
            raise Unreachable(f"{url}: {answer.status}: it has too much to do{when}: {answer.words}")
        if answer.status // 100 == 3:
            raise Unreachable(f"{url}: it sends us elsewhere: a standby resource manager, or not YARN's web address")
        return answer

    @asynccontextmanager
    async def opened(
        self, method: str, url: str, body: Any = None, accept: str = "application/json", **query: str
    ) -> AsyncIterator[Opened]:
        """A reply whose body is still to be read. Raises Unreachable, and LoginFailed for a secret that is missing."""
        params = {"user.name": self._settings.user, **query}
        try:
            headers = {"Accept": accept, "X-XSRF-Header": "fedbroker", **self._login()}
            request = self._opened().request(method, url, json=body, headers=headers, params=params, allow_redirects=False)
            async with request as reply:
                yield Opened(url, reply)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"{url}: {str(error) or type(error).__name__}") from error
        except SecretMissing as error:
            raise LoginFailed(f"{url}: {error}") from error

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _login(self) -> Mapping[str, str]:
        """Read at each request: what was renewed is seen."""
        if self._settings.token:
            return {"Authorization": f"Bearer {self._settings.token.read()}"}
        if self._settings.password:
            return {"Authorization": aiohttp.BasicAuth(self._settings.user, self._settings.password.read()).encode()}
        return {}

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = ssl.create_default_context(cafile=self._settings.ca_file) if self._settings.ca_file else True
            connector = aiohttp.TCPConnector(ssl=context, limit=4 * self._settings.concurrency)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self._session
