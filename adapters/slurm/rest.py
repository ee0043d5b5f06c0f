"""Slurm by its REST daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
from yarl import URL

from adapters.base import Layer, LoginFailed, Outcome, RunName, Unknown, Unreachable
from adapters.calls import each, parsed, whole_body, within
from adapters.probing import Answers
from adapters.secrets import SecretMissing
from adapters.slurm import rest_codec as codec
from adapters.slurm.batch import Submission
from adapters.slurm.codec import Job, Listing, lacking
from adapters.slurm.settings import RestSettings

MOST_REPLY_BYTES = 256 * 2**20
NAMES_PER_REQUEST = 50
PROMPT_S = 2.0
"""22.05 answers alike where it knows no token and where the controller is away: at once, and after its timeouts of seconds."""


class Rest:
    """One site's slurmrestd."""

    def __init__(self, settings: RestSettings, most_bytes: int = MOST_REPLY_BYTES) -> None:
        self._settings = settings
        self._most_bytes = most_bytes
        self._version: str | None = settings.version
        self._session: aiohttp.ClientSession | None = None
        self._gate = asyncio.Semaphore(settings.connections)

    async def submit(self, submissions: Sequence[Submission], timeout_s: float) -> Mapping[RunName, Outcome]:
        """One request each, a few at once. What was not sent for want of time is unknown as well: nobody sends it later."""
        outcomes: dict[RunName, Outcome] = {}
        try:
            async with within(timeout_s):
                await self._known_version()
                async with asyncio.TaskGroup() as group:
                    for submission in submissions:
                        group.create_task(self._submit(submission, outcomes))
        except Unreachable as error:
            unheard = Unknown(str(error))
            return {submission.name: outcomes.get(submission.name, unheard) for submission in submissions}
        return outcomes

    async def listing(self, prefix: str, timeout_s: float) -> Listing:
        """Three requests: the controller's clock, nodes, jobs. Raises Unreachable."""
        async with within(timeout_s, "slurmrestd"):
            diag = await self._get("diag")
            nodes = await self._get("nodes")
            jobs = await self._get("jobs")
        found = codec.listing_from_json(nodes, jobs, diag)
        return replace(found, jobs=codec.ours_of(found.jobs, self._settings.user))

    async def cancel(self, jobs: Collection[Job], timeout_s: float) -> None:
        """One request each, a few at once. Raises Unreachable."""
        async with within(timeout_s, "slurmrestd"):
            await each(self._cancel, jobs, self._settings.connections)

    async def history(self, names: Collection[RunName], timeout_s: float) -> Sequence[Job]:
        """What accounting says of these names, many in each request. Raises Unreachable."""
        ordered, jobs = list(names), list[Job]()
        async with within(timeout_s, "slurmrestd"):
            for at in range(0, len(ordered), NAMES_PER_REQUEST):
                jobs += await self._past(ordered[at : at + NAMES_PER_REQUEST])
        return jobs

    async def probe(self, partitions: Collection[str], timeout_s: float) -> Answers:
        """REACH, LOGIN and SCHEDULER, as far as they go."""
        answers = Answers()
        try:
            async with within(timeout_s, "slurmrestd"):
                await self._known_version()
                answers.answered(Layer.REACH)
                if message := self._token_objection():
                    answers.failed(message, is_misconfigured=True)
                    return answers
                is_up = codec.is_up(await self._get("ping"))
                # of a token that it does not take, 24.11 says so here, and in a ping that the controller is down
                there = codec.partitions_of(await self._get("partitions"))
                answers.answered(Layer.LOGIN)
                message = lacking(sorted(set(partitions) - there)) if is_up else "no controller answers slurmrestd"
                answers.answered(Layer.SCHEDULER, message, is_misconfigured=is_up and bool(message))
        except LoginFailed as error:
            answers.denied(str(error))
        except Unreachable as error:
            if len(answers.checks) == 1:
                answers.answered(Layer.LOGIN)  # of a login that it does not take it says so
            answers.failed(str(error))
        return answers

    async def close(self) -> None:
        """Give back connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _submit(self, submission: Submission, outcomes: dict[RunName, Outcome]) -> None:
        try:
            status, reply = await self._ask(
                "POST", lambda version: f"/slurm/{version}/job/submit", lambda version: codec.job_body(submission, version)
            )
            self._admitted(status, reply, 0.0)
            outcomes[submission.name] = codec.submit_outcome(status, reply)
        except Unreachable as error:
            outcomes[submission.name] = Unknown(str(error))

    async def _past(self, names: Sequence[RunName]) -> Sequence[Job]:
        status, reply = await self._ask("GET", lambda version: codec.history_path(version, names, time.time()))
        return [] if codec.error_of(reply)[0] == codec.NOTHING_FOUND else codec.history_from_json(self._sound(status, reply))

    async def _cancel(self, job: Job) -> None:
        status, reply = await self._ask("DELETE", lambda version: f"/slurm/{version}/job/{job.id}")
        number, _ = codec.error_of(reply)
        if number not in (codec.NO_SUCH_JOB, codec.ENDED_ALREADY):
            self._sound(status, reply)

    async def _get(self, what: str) -> Any:
        began = time.monotonic()
        status, reply = await self._ask("GET", lambda version: f"/slurm/{version}/{what}")
        self._admitted(status, reply, time.monotonic() - began)
        return self._sound(status, reply)

    async def _known_version(self) -> str:
        """The newest dialect that it speaks, asked for once, and again when it speaks that one no more."""
        if self._version is None:
            for version in codec.VERSIONS:
                status, _ = await self._ask_once("GET", f"/slurm/{version}/ping")
                if status != 404:
                    self._version = version
                    break
            else:
                raise Unreachable(f"{self._settings.url} speaks none of {', '.join(codec.VERSIONS)}: is it slurmrestd?")
        return self._version

    async def _ask(
        self, method: str, path: Callable[[str], str], body: Callable[[str], Any] = lambda version: None
    ) -> tuple[int, Any]:
        """Status and JSON of a request, whose path and body depend on the dialect. What is not there in the dialect that we know,
        as after an upgrade, is asked for in the one that is spoken now. Raises Unreachable for anything else."""
        version = await self._known_version()
        answer = await self._ask_once(method, path(version), body(version))
        if answer[0] == 404 and self._settings.version is None:
            if self._version == version:
                self._version = None
            if (now := await self._known_version()) != version:
                return await self._ask_once(method, path(now), body(now))
        return answer

    async def _ask_once(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON. Raises Unreachable for anything else."""
        url = self._settings.url.rstrip("/") + path
        async with self._gate:
            try:
                async with self._client().request(method, URL(url, encoded=True), json=body, headers=self._headers()) as response:
                    content = await whole_body(response, self._most_bytes)
                    if response.status == 404:
                        return 404, None
                    return response.status, self._read(response, content)
            except SecretMissing as error:
                raise LoginFailed(f"the token is missing: {error}") from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise Unreachable(f"{method} {path}: {type(error).__name__}: {error}") from error

    def _read(self, response: aiohttp.ClientResponse, content: bytes) -> Any:
        """The reply as JSON; what it means where it is none. Raises Unreachable."""
        if response.status == 401:
            raise LoginFailed("slurmrestd does not take our token (401): check rest.user and rest.token")
        if response.status in (403, 511):
            raise LoginFailed(f"slurmrestd does not let us in ({response.status}): renew the token with `scontrol token`")
        if response.status == 429 or response.status == 503:
            again = response.headers.get("Retry-After", "a while")
            raise Unreachable(f"slurmrestd is asked too much ({response.status}): to be asked again after {again}")
        return parsed(f"slurmrestd answered {response.status}", content, "is rest.url a slurmrestd?")

    def _admitted(self, status: int, reply: Any, took_s: float) -> None:
        """Raises LoginFailed for what 22.05 says at once of a token that the controller does not take."""
        number, words = codec.error_of(reply)
        if status == 500 and number == codec.UNSPECIFIED and took_s < PROMPT_S:
            expired = self._token_objection()
            raise LoginFailed(expired or f"the controller does not take our token: renew it with `scontrol token` ({words})")

    def _sound(self, status: int, reply: Any) -> Any:
        """A reply without errors. Raises Unreachable for any other."""
        number, words = codec.error_of(reply)
        if status != 200 or number:
            raise Unreachable(f"slurmrestd answered {status}: {words or 'nothing of use'} ({number})")
        return reply

    def _headers(self) -> dict[str, str]:
        return {"X-SLURM-USER-NAME": self._settings.user, "X-SLURM-USER-TOKEN": self._settings.token.read()}

    def _token_objection(self) -> str:
        """Why our token cannot be good, by its own words."""
        try:
            ends = codec.expires_at(self._settings.token.read())
        except SecretMissing as error:
            return f"the token is missing: {error}"
        if ends is not None and ends < time.time():
            return f"the token expired at {_moment(ends)}: renew it with `scontrol token`, or see that our clock is right"
        return ""

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._settings.connections)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self._session


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
