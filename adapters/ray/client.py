"""Requests to the head of a Ray cluster: bounded in time and in bytes, with the token as it is at that moment."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from adapters.base import LoginFailed, Misconfigured, Unreachable
from adapters.calls import parsed, whole_body, within
from adapters.clocks import ServerClock
from adapters.ray.settings import RaySettings
from adapters.secrets import SecretMissing

MOST_BYTES = 64 * 2**20
"""Of a list of jobs: ten thousand are in so many."""
MOST_OTHER_BYTES = 12 * 2**20
"""Of any other answer: a node takes 1 kB, a task that is placed 0.3."""
MOST_TEXT_BYTES = 2**20
MOST_WORDS_BYTES = 2**16
"""Of an answer that says no."""
WORDS_S = 5.0


class Said(Exception):
    """The head's own no: the HTTP status, and its text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


_LOST = (aiohttp.ClientError, OSError, TimeoutError)


class RayClient:
    """One head. Nothing is opened before the first request."""

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self.clock = ServerClock()
        """The head's."""
        self._is_closed = False

    async def ask(
        self,
        method: str,
        path: str,
        timeout_s: float,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        most_bytes: int = MOST_OTHER_BYTES,
    ) -> Any:
        """The JSON that it answers. Raises Said for its no, LoginFailed where it does not let us, Unreachable for all else."""
        raw = await self._read(method, path, timeout_s, most_bytes, query, body)
        return parsed(f"{method} {path}", raw, "is url the head's own address?")

    async def text(self, path: str, timeout_s: float, query: Mapping[str, str]) -> str:
        """The text that it answers, `MOST_TEXT_BYTES` at most. Raises as `ask`."""
        return (await self._read("GET", path, timeout_s, MOST_TEXT_BYTES, query)).decode(errors="replace")

    @asynccontextmanager
    async def reply(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A reply that says yes, to be read by the caller, who sets the time it may take. Raises as `ask`, but for what happens
        while it is read."""
        what, url = f"{method} {path}", self._settings.url.rstrip("/")
        try:
            response = await self._opened().request(
                method, url + path, params=query, json=body, headers=self._login(), allow_redirects=False
            )
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
            raise Misconfigured(f"{what}: the head's certificate is not to be trusted, see ca_file: {error}") from error
        except aiohttp.InvalidURL as error:
            raise Misconfigured(f"url: {url} is no address of a head") from error
        except _LOST as error:
            raise Unreachable(f"{what}: {error or repr(error)}") from error
        self.clock.heard(response.headers)
        async with response:
            if response.status >= 300:
                raise await _no(what, response)
            yield response

    async def close(self) -> None:
        """Give back connections."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    async def _read(
        self, method: str, path: str, timeout_s: float, most_bytes: int, query: Mapping[str, str] | None = None, body: Any = None
    ) -> bytes:
        what = f"{method} {path}"
        try:
            async with within(timeout_s, what), self.reply(method, path, query, body) as reply:
                return await whole_body(reply, most_bytes)
        except _LOST as error:
            raise Unreachable(f"{what}: the connection was cut: {error!r}") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise Unreachable("the adapter was closed")
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=None)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=self._trust(), limit=32))
        return self._session

    def _trust(self) -> ssl.SSLContext | bool:
        if self._settings.ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=self._settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(f"ca_file: {self._settings.ca_file} cannot be read: {error}") from error

    def _login(self) -> dict[str, str]:
        if self._settings.token is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._settings.token.read()}"}
        except SecretMissing as error:
            raise Misconfigured(f"the token: {error}") from error


async def _no(what: str, response: aiohttp.ClientResponse) -> Exception:
    """What a reply that is no yes comes to."""
    code = response.status
    if code == 401:
        return LoginFailed(f"{what}: it asks for a token (401): name one in the setting `token`")
    if code == 403:
        return LoginFailed(f"{what}: it does not take our token (403): renew it")
    if code == 429:
        after = response.headers.get("Retry-After", "")[:40]
        return Unreachable(f"{what}: it has too much to do (429){f', ask again in {after} s' if after else ''}")
    if code < 400:
        return Misconfigured(f"{what}: it sends us elsewhere ({code}): is url the head's own address?")
    message = ""
    try:
        async with asyncio.timeout(WORDS_S):
            message = (await response.content.read(MOST_WORDS_BYTES)).decode(errors="replace")
    except _LOST as error:
        message = f"its words were cut: {error!r}"
    if code in (502, 503, 504) or "<html" in message[:500].lower():
        return Unreachable(f"{what}: status {code}, and no words of Ray's: {' '.join(message.split())[:200]!r}")
    return Said(code, message)
