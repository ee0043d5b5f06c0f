"""The Python SDK over the HTTP API: JSON objects in and out, errors as in `broker.errors`.

```python
async with Client("http://127.0.0.1:7777") as fed:
    job = await fed.submit({"name": "hello", "command": ["echo", "hello"]})
    job = await fed.wait(job["id"])
```
Every call may be repeated without harm (new jobs go under an idempotency key), so one that gets no answer is sent again for up
to `patience_s`: a broker that restarts is not noticed.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    InvalidURL,
    NonHttpUrlClientError,
    TCPConnector,
)

from broker.errors import Fault, FedError, Invalid, NoAnswer, NotFound, TooMany, Unavailable
from broker.packing import Parcel, packed_workdir, parcel_of
from broker.replies import cause_of, check_answer, server_sent

Json = dict[str, Any]
T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:7777"
PATIENCE_S = 15.0
ANSWER_S = 40.0
WHAT_IF_S = 150.0
"""Simulations take their time."""
QUIET_S = 45.0
"""Of a stream of events, which tells every 15 seconds that it lives: three of those."""
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 2.0
STAYS_S = 3600.0
"""A working directory that goes sooner is sent again."""
WORKDIR = "workdir"
"""The dataset whose versions are working directories."""
TERMINAL = ("succeeded", "failed", "cancelled")


class TimedOut(Exception):
    """What was waited for did not come in time."""


class Client:
    """A federation by one of its endpoints. Raises what `broker.errors` draws."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str | None = None,
        patience_s: float = PATIENCE_S,
        ca_file: str | None = None,
        on_wait: Callable[[FedError], None] = lambda error: None,
    ) -> None:
        """`url` may be several, with commas between: one that does not answer gives way to the next. `ca_file` holds the
        authority of their certificates, where the machine does not trust it by itself. `on_wait` is told why something is asked
        again."""
        self._ca_file = ca_file
        self._on_wait = on_wait
        self._urls = [each.strip().rstrip("/") for each in url.split(",")]
        self.url = self._urls[0]
        if token and not (token.isascii() and token.isprintable()):
            raise Invalid(faults=[Fault("token", "is no token: use what `fed token new` printed, without line ends")])
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._patience_s = patience_s
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = _trusting(self._ca_file) if self._ca_file else True
        connector = TCPConnector(ssl=context)
        self._session = ClientSession(headers=self._headers, timeout=ClientTimeout(total=ANSWER_S), connector=connector)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session:
            await self._session.close()

    async def submit(self, body: Json | Sequence[Json], key: str | None = None) -> Json:
        """Make one job, or several together: a job, or `{items, next}`. The same key makes the same jobs."""
        content: Json = body if isinstance(body, dict) else {"jobs": list(body)}
        return await self._call("POST", "/v1/jobs", content, headers={"Idempotency-Key": key or secrets.token_hex(16)})

    async def plan(self, body: Json) -> Json:
        """Where a job would go, and why; nothing is stored."""
        return await self._call("POST", "/v1/plan", body)

    async def what_if(self, body: Json) -> Json:
        """What would come of changes to the federation: `whole`, `tenants`, `classes` before and after, and `moved`."""
        return await self._call("POST", "/v1/whatif", body, timeout_s=WHAT_IF_S)

    async def job(self, job: str) -> Json:
        """One job by id, or by a name that only it has."""
        return await self._call("GET", f"/v1/jobs/{_part(job)}")

    async def jobs(self, /, limit: int = 100, cursor: str | None = None, **narrow: str | None) -> Json:
        """Jobs, newest first: `{items, next}`. `narrow` by phase, site, tenant, name, label or since; `cursor` is the `next` of
        the page before, with the same filters."""
        return await self._call("GET", "/v1/jobs", query={"limit": str(limit), "cursor": cursor, **narrow})

    async def cancel(self, job: str) -> Json:
        """Ask for a job's end."""
        return await self.wish(job, "cancel")

    async def wish(self, job: str, verb: str) -> Json:
        """`cancel`, `hold` or `release` a job: a held one is not placed."""
        return await self._call("POST", f"/v1/jobs/{_part(job)}/{verb}")

    async def unstick(self, job: str, why: str) -> Json:
        """End a job that a bug left; what may still run of it is stopped. `why` stays in the audit."""
        return await self._call("POST", f"/v1/jobs/{_part(job)}/unstick", query={"why": why})

    async def for_all(self, /, verb: str, **narrow: str | bool | None) -> Json:
        """`cancel`, `hold` or `release` for all unfinished jobs that the filters of `jobs` mean, or `all=True`: `{matched,
        changed, jobs}`."""
        return await self._call("POST", f"/v1/jobs/{verb}", {name: value for name, value in narrow.items() if value is not None})

    async def job_events(self, job: str) -> Json:
        """The last hundred things that happened to a job: `{items, next}`, the oldest first."""
        return await self._call("GET", f"/v1/jobs/{_part(job)}/events")

    async def events(self, /, last: int | None = None, **narrow: str | None) -> AsyncIterator[Json]:
        """Changes of jobs as they happen, for ever, over interruptions; from behind revision `last` on. `{"reset": true}` comes
        where some were missed: list the jobs anew."""
        while True:
            try:
                async for kind, data, at in server_sent(self._stream("/v1/events", narrow, _behind(last), QUIET_S)):
                    last = at if at is not None else last
                    if kind:
                        yield data if kind == "job" else {"reset": True}
            except NoAnswer:
                await asyncio.sleep(FIRST_DELAY_S)

    async def why(self, job: str) -> Json:
        """Why a job is where it is, or waits: a verdict on each site."""
        return await self._call("GET", f"/v1/jobs/{_part(job)}/why")

    async def wait(self, job: str, timeout_s: float | None = None) -> Json:
        """The job once it is over. Raises TimedOut."""
        return await self._once(job, _is_over, timeout_s)

    async def _once(self, job: str, is_so: Callable[[Json], bool], timeout_s: float | None = None) -> Json:
        """The job once it is so; looked at more and more seldom. Raises TimedOut."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        delay = FIRST_DELAY_S
        while not is_so(found := await self.job(job)):
            if until is not None and time.monotonic() + delay > until:
                raise TimedOut(f"job {job} is still {found['phase']} after {timeout_s:g} s")
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, LONGEST_DELAY_S)
        return found

    async def logs(
        self,
        job: str,
        task: int = 0,
        attempt: int | None = None,
        offset: int = 0,
        follow: bool = False,
        tail: int | None = None,
    ) -> AsyncIterator[bytes]:
        """Output of one task from byte `offset` on, or its last `tail` lines; with `follow` from when its site has it to its end,
        over interruptions."""
        if follow:
            handed_in = await self._once(job, _is_handed_in)
            attempt = attempt or handed_in["attempt"] or None  # the same one over interruptions: the offset is in its output
        while True:
            query = {"task": str(task), "attempt": _text(attempt), "tail": _text(tail), "follow": str(follow).lower()}
            try:
                async for chunk in self._stream(f"/v1/jobs/{_part(job)}/logs", {**query, "offset": str(offset)}):
                    offset += len(chunk)
                    yield chunk
                return
            except NoAnswer:
                if not follow:
                    raise

    def outputs(self, job: str) -> AsyncIterator[bytes]:
        """All outputs of a job that succeeded, as a tar archive."""
        return self._stream(f"/v1/jobs/{_part(job)}/outputs", {})

    def backup(self) -> AsyncIterator[bytes]:
        """All records of the federation, as `fed restore` takes them."""
        return self._stream("/v1/backup", {})

    async def put(self, kind: str, name: str, body: Json, etag: str | None = None) -> Json:
        """Declare a site, link, dataset or tenant. `kind` is the plural: sites, links, datasets, tenants. With `etag`, only if
        what is there is still what had it; raises Outdated."""
        return await self._call("PUT", f"/v1/{kind}/{_part(name)}", body, headers=_matching(etag))

    async def upload(
        self,
        name: str,
        path: str | Path,
        site: str | None = None,
        tenant: str | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
    ) -> Json:
        """Make a dataset of a file, or of all files of a directory, and keep it at a site: the largest that takes jobs where none
        is named. `name` or `name@version`; the version follows from the content where none is named. Content that is there is not
        sent again. `on_bytes` is told how many bytes were sent, and of how many. Raises Invalid for files that cannot be read or
        change meanwhile."""
        parcel = await asyncio.to_thread(parcel_of, Path(path))
        return await self._send(name, parcel, {"site": site, "tenant": tenant}, on_bytes)

    async def upload_workdir(
        self,
        path: str | Path,
        site: str | None = None,
        tenant: str | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
    ) -> str:
        """Send a directory that a job is to work in; what to say as the job's `workdir`. What its `.fedignore` names stays
        behind, in gitignore's syntax. It is removed some time after, once no unfinished job reads it."""
        with packed_workdir(Path(path)) as parcel:
            query = {"site": site, "tenant": tenant, "temporary": "true"}
            found = await self._send(WORKDIR, parcel, query, on_bytes)
        return f"{found['name']}@{found['version']}"

    async def _send(
        self, name: str, parcel: Parcel, query: Mapping[str, str | None], on_bytes: Callable[[int, int], None] | None
    ) -> Json:
        known = await self._sent_before(name, parcel, query)
        if known is not None:
            return known

        async def archive() -> AsyncIterator[bytes]:
            sent, chunks = 0, parcel.chunks()
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                yield chunk
                sent += len(chunk)
                if on_bytes:
                    on_bytes(min(sent, parcel.size_bytes), parcel.size_bytes)

        async def once() -> Json:
            url, given = f"{self.url}/v1/datasets/{_part(name)}/content", _given({**query, "checksum": parcel.checksum})
            timeout = ClientTimeout(total=None, sock_connect=ANSWER_S)
            headers = {"Content-Type": "application/x-tar"}
            async with self._open.put(url, data=archive(), params=given, headers=headers, timeout=timeout) as response:
                await check_answer(response)
                answer: Json = json.loads(await response.read())
                return answer

        return await self._patiently(once)

    async def _sent_before(self, name: str, parcel: Parcel, query: Mapping[str, str | None]) -> Json | None:
        """The dataset, where the same is at the site already, and will stay a while."""
        of = name if "@" in name else f"{name}@{parcel.version}"
        try:
            known = await self.get("datasets", of, tenant=query["tenant"])
        except NotFound:
            return None
        is_there = known["sites"] and query["site"] in (None, *known["sites"])
        stays = known["temporary_until"] is None or known["temporary_until"] > time.time() + STAYS_S
        return known if known["checksum"] == parcel.checksum and is_there and stays else None

    async def etag(self, kind: str, name: str) -> str:
        """Of what is declared now, for `put` and `delete`."""
        async with await self._patiently(lambda: self._begin(f"/v1/{kind}/{_part(name)}", {})) as response:
            await response.read()
            return response.headers.get("ETag", "")

    async def get(self, /, kind: str, name: str, **query: str | None) -> Json:
        """One of them."""
        return await self._call("GET", f"/v1/{kind}/{_part(name)}", query=query)

    async def list(self, /, kind: str, **query: str | None) -> Json:
        """All of a kind: `{items, next}`."""
        return await self._call("GET", f"/v1/{kind}", query=query)

    async def delete(self, /, kind: str, name: str, etag: str | None = None, **query: str | None) -> None:
        """Remove one that nothing uses any more. `etag` as in `put`."""
        await self._call("DELETE", f"/v1/{kind}/{_part(name)}", query=query, headers=_matching(etag))

    async def cordon(self, site: str, is_cordoned: bool = True) -> Json:
        """Let a site take no new jobs, or take them again."""
        return await self._call("POST", f"/v1/sites/{_part(site)}/{'cordon' if is_cordoned else 'uncordon'}")

    async def drain(self, site: str, finish: bool = False) -> Json:
        """Let a site take no new jobs and move away what is there; with `finish`, let what runs already come to its end."""
        return await self._call("POST", f"/v1/sites/{_part(site)}/drain", query={"finish": str(finish).lower()})

    async def forget(self, site: str, why: str) -> Json:
        """Take out a site that will never come back: `{name, jobs, links, datasets_lost}`. `why` stays in the audit."""
        return await self._call("POST", f"/v1/sites/{_part(site)}/forget", query={"why": why})

    async def test(self, site: str) -> Json:
        """Ask each layer of a site now: `{name, checks}`."""
        return await self._call("POST", f"/v1/sites/{_part(site)}/test")

    async def path(self, source: str, target: str) -> Json:
        """The quickest and the cheapest route of a transfer: `{from, to, routes}`."""
        return await self._call("GET", "/v1/topology/path", query={"from": source, "to": target})

    async def health(self) -> Json:
        """Sites, store and members."""
        return await self._call("GET", "/v1/health")

    async def pause(self, why: str = "") -> Json:
        """Let nothing be placed, anywhere; what is at a site goes on."""
        return await self._call("POST", "/v1/pause", query={"why": why})

    async def audit(self, /, limit: int = 100, cursor: str | None = None, **narrow: str | None) -> Json:
        """Who changed what, newest first: `{items, next}`. `narrow` by who, what, or the beginning of `record`."""
        return await self._call("GET", "/v1/audit", query={"limit": str(limit), "cursor": cursor, **narrow})

    async def resume(self) -> Json:
        """End a pause; after a restore of the broker's store, and a look at what it brought back: act again."""
        return await self._call("POST", "/v1/resume")

    async def _call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        query: Mapping[str, str | None] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Json:
        content = None if body is None else json.dumps(body).encode()
        limit = ClientTimeout(total=timeout_s)
        sent = {**(headers or {}), **({"Content-Type": "application/json"} if content is not None else {})}
        is_lost = False

        async def once() -> Json:
            nonlocal is_lost
            data, params = _body(content), _given(query)
            asked = self._open.request(method, self.url + path, data=data, params=params, headers=sent, timeout=limit)
            try:
                async with asked as response:
                    await check_answer(response)
                    answer: Json = json.loads(await response.read() or b"{}")
                    return answer
            except NotFound:
                if method == "DELETE" and is_lost:  # by us: its answer did not arrive
                    return {}
                raise
            except (ClientError, ConnectionError, TimeoutError):
                is_lost = True
                raise

        return await self._patiently(once)

    async def _stream(
        self,
        path: str,
        query: Mapping[str, str | None],
        headers: Mapping[str, str] | None = None,
        quiet_s: float | None = None,
    ) -> AsyncIterator[bytes]:
        """Chunks of an answer. Only its beginning is asked for again: what comes after could be twice the same. Silence of more
        than `quiet_s` is an interruption."""
        async with await self._patiently(lambda: self._begin(path, query, headers, quiet_s)) as response:
            try:
                async for chunk in response.content.iter_any():
                    yield chunk
            except (ClientError, ConnectionError, TimeoutError) as error:
                raise NoAnswer(f"{self.url} broke off: {error}") from error

    async def _begin(
        self,
        path: str,
        query: Mapping[str, str | None],
        headers: Mapping[str, str] | None = None,
        quiet_s: float | None = None,
    ) -> ClientResponse:
        timeout = ClientTimeout(total=None, sock_connect=ANSWER_S, sock_read=quiet_s)
        response = await self._open.get(self.url + path, params=_given(query), headers=headers, timeout=timeout)
        await check_answer(response)
        return response

    async def _patiently(self, once: Callable[[], Awaitable[T]]) -> T:
        """Call again, later and later, while there is no answer."""
        until = time.monotonic() + self._patience_s
        delay = FIRST_DELAY_S
        while True:
            failure: FedError
            try:
                return await once()
            except (Unavailable, TooMany) as error:
                failure = error
                if isinstance(error, TooMany):
                    delay = max(delay, error.after_s)
            except ClientSSLError as error:
                raise NoAnswer(f"{self.url}: not to be trusted ({error}): is FED_CA its authority?") from error
            except (InvalidURL, NonHttpUrlClientError) as error:
                raise Invalid(f"{self.url} is no endpoint's URL: give one such as {DEFAULT_URL}") from error
            except (ClientError, ConnectionError, TimeoutError, ValueError) as error:
                failure = NoAnswer(f"{self.url} does not answer ({cause_of(error)}): is `fed up` running, and FED_URL right?")
            if time.monotonic() + delay > until:
                raise failure
            if isinstance(failure, NoAnswer | Unavailable):
                self.url = self._urls[(self._urls.index(self.url) + 1) % len(self._urls)]
            self._on_wait(failure)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_S)

    @property
    def _open(self) -> ClientSession:
        if self._session is None:
            raise RuntimeError("use `async with Client(...)`")
        return self._session


def run(
    url: str,
    token: str | None,
    action: Callable[[Client], Awaitable[T]],
    patience_s: float = PATIENCE_S,
    ca_file: str | None = None,
    on_wait: Callable[[FedError], None] = lambda error: None,
) -> T:
    """`action` with a client, for callers without a loop."""

    async def main() -> T:
        async with Client(url, token, patience_s, ca_file, on_wait) as client:
            return await action(client)

    return asyncio.run(main())


def _is_over(job: Json) -> bool:
    return job["phase"] in TERMINAL


def _is_handed_in(job: Json) -> bool:
    """Whether a site has had it, or never will. One that is placed may wait long for its inputs, and has no output to follow
    until then."""
    return _is_over(job) or (bool(job["attempts"]) and job["phase"] not in ("staging", "placed"))


def _matching(etag: str | None) -> dict[str, str]:
    return {"If-Match": etag} if etag else {}


def _behind(last: int | None) -> dict[str, str]:
    return {} if last is None else {"Last-Event-ID": str(last)}


def _body(content: bytes | None) -> io.BytesIO | None:
    """Sent in pieces, so that a large one does not hold the loop."""
    return None if content is None else io.BytesIO(content)


def _trusting(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"{ca_file}: holds no certificate of an authority: {error}") from error


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _part(name: str) -> str:
    return quote(name, safe="@:")


def _given(query: Mapping[str, str | None] | None) -> dict[str, str]:
    return {name: value for name, value in (query or {}).items() if value is not None}
