"""Requests to an API server: our login, bounded replies, and one kind of error for each kind of failure."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.client.rest import RESTClientObject
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

from adapters.base import LoginFailed, Misconfigured, Unreachable
from adapters.calls import parsed, whole_body, within
from adapters.clocks import ServerClock
from adapters.kubernetes.settings import KubernetesSettings
from adapters.secrets import SecretMissing

MOST_BYTES = 16 * 2**20
"""Of one reply: a page of 250 objects is a few MiB."""
MOST_LINE_BYTES = 8 * 2**20
MOST_WORDS_BYTES = 2**20
"""Of a reply that says no."""
MERGE_PATCH = "application/merge-patch+json"
CURE = "is this the address of an API server?"
Query = Mapping[str, str]


class Said(Exception):
    """The server's own no. `code` is the HTTP status, `reason` its word for it, `message` its text."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason, self.message = code, reason, message


@dataclass
class _Login:
    """Connections under one login, and how many requests use them now."""

    session: RESTClientObject
    configuration: Configuration
    uses: int = 0

    async def close_unused(self) -> None:
        """Give the connections back, unless somebody still uses them."""
        if not self.uses:
            await self.session.close()


class KubernetesClient:
    """One API server. It logs in with the first request, and again, once, when it is told that its login is no longer good."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self.requests = 0
        """How many were sent so far."""
        self._login: _Login | None = None
        self._opening = asyncio.Lock()
        self.clock = ServerClock()
        self._is_closed = False

    async def ask(
        self, method: str, path: str, timeout_s: float, query: Query | None = None, body: Any = None, patch: bool = False
    ) -> Any:
        """The JSON that it answers. Raises Said for its no, LoginFailed where it does not let us, Unreachable for all else."""
        what = f"{method} {path}"
        try:
            async with within(timeout_s, what), self.reply(method, path, query, body, patch) as reply:
                raw = await whole_body(reply, MOST_BYTES)
        except _LOST as error:
            raise Unreachable(f"{what}: the connection was cut: {error!r}") from error
        return parsed(what, raw, CURE)

    @asynccontextmanager
    async def reply(
        self, method: str, path: str, query: Query | None = None, body: Any = None, patch: bool = False
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A reply that says yes, to be read by the caller, who sets the time it may take. Raises as `ask`, but for what happens
        while it is read."""
        what = f"{method} {path}"
        async with AsyncExitStack() as logins:
            login = await logins.enter_async_context(self._logged_in())
            response = await self._send(login, method, path, query, body, patch)
            if response.status == 401:
                # tokens and certificates expire: perhaps a newer one is where the last one was
                response.close()
                self._retire(login)
                login = await logins.enter_async_context(self._logged_in())
                response = await self._send(login, method, path, query, body, patch)
            async with response:
                if response.status >= 300:
                    await _raise_no(what, response)
                yield response

    async def close(self) -> None:
        """Give back connections."""
        self._is_closed = True
        async with self._opening:
            login, self._login = self._login, None
        if login is not None:
            await login.close_unused()

    async def _send(
        self, login: _Login, method: str, path: str, query: Query | None, body: Any, patch: bool
    ) -> aiohttp.ClientResponse:
        """One request. Where the proof of what failed is, see `adapters/kubernetes/README.md`."""
        what = f"{method} {path}"
        session, configuration = login.session, login.configuration
        headers = {"Accept": "application/json", "Content-Type": MERGE_PATCH if patch else "application/json"}
        token = (await configuration.auth_settings()).get("BearerToken", {}).get("value")
        if token:
            headers["Authorization"] = token
        self.requests += 1
        no_limit = aiohttp.ClientTimeout(total=None, sock_connect=None)
        try:
            response = await session.request(
                method, f"{configuration.host}{path}", query_params=dict(query or {}), headers=headers, body=body,
                _preload_content=False, _request_timeout=no_limit,
            )  # fmt: skip
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
            raise Misconfigured(f"{what}: the server's certificate is not to be trusted, see ca_file: {error}") from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise Misconfigured(f"{configuration.host} is no address of an API server") from error
        except _LOST as error:
            raise Unreachable(f"{what}: {error or repr(error)}") from error
        assert isinstance(response, aiohttp.ClientResponse)
        self.clock.heard(response.headers)
        return response

    @asynccontextmanager
    async def _logged_in(self) -> AsyncIterator[_Login]:
        """The login that all requests share. One that was retired is closed by the last that uses it."""
        async with self._opening:
            if self._is_closed:
                raise Unreachable("the adapter was closed")
            if self._login is None:
                configuration = await self._configuration()
                try:
                    self._login = _Login(RESTClientObject(configuration), configuration)
                except (OSError, ssl.SSLError) as error:
                    raise Misconfigured(f"our certificate or the server's cannot be read: {error}") from error
            login = self._login
            login.uses += 1
        try:
            yield login
        finally:
            login.uses -= 1
            if login is not self._login:
                await login.close_unused()

    def _retire(self, login: _Login) -> None:
        """The server knows it no more: who comes next reads the settings anew."""
        if self._login is login:
            self._login = None

    async def _configuration(self) -> Configuration:
        """Address and login as they are now where the settings point to."""
        configuration, settings = Configuration(), self._settings
        try:
            if settings.kubeconfig is not None:
                await load_kube_config(settings.kubeconfig, settings.context, configuration, persist_config=False)
            elif settings.in_cluster:
                load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            elif settings.server is not None:
                configuration.host = settings.server.url.rstrip("/")
                configuration.ssl_ca_cert = settings.server.ca_file
                configuration.api_key["BearerToken"] = f"Bearer {settings.server.token.read()}"
        except SecretMissing as error:
            raise Misconfigured(f"the token: {error}") from error
        except (ConfigException, OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            where = settings.kubeconfig or "this pod's service account"
            raise Misconfigured(f"{where} does not say how to log in: {error or repr(error)}") from error
        return configuration


_LOST = (aiohttp.ClientError, OSError, TimeoutError)


async def lines(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Each line as it comes. Raises Unreachable for one that does not end."""
    rest = bytearray()
    async for part in reply.content.iter_any():
        rest += part
        while (end := rest.find(b"\n")) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            if line.strip():
                yield line
        if len(rest) > MOST_LINE_BYTES:
            raise Unreachable(f"{reply.url.path}: a line has more than {MOST_LINE_BYTES} bytes")


async def _raise_no(what: str, response: aiohttp.ClientResponse) -> None:
    """Raises what the reply says."""
    try:
        async with asyncio.timeout(5):
            raw = await whole_body(response, MOST_WORDS_BYTES)
    except _LOST:
        raw = b""
    try:
        status = json.loads(raw)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
        is_status = status.get("kind") == "Status"
    except (ValueError, AttributeError, RecursionError):
        is_status, reason, message = False, response.reason or "", raw[:200].decode(errors="replace")
    code = response.status
    if code == 401:
        raise LoginFailed(f"{what}: it does not know our login (401): renew the token or certificate")
    if code == 403 and (not is_status or " cannot " in message):
        raise LoginFailed(f"{what}: our login may not do this (403): {message}")
    if code == 429:
        after = response.headers.get("Retry-After", "")
        wait = f", ask again in {after} s" if after else ""
        raise Unreachable(f"{what}: it has too much to do (429){wait}: {message}")
    if not is_status:
        raise Unreachable(f"{what}: status {code} and no words of an API server: {message!r}")
    raise Said(code, reason, message)
