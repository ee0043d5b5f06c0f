"""The adapter to YARN, by the REST interface of its resource manager."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from adapters.base import (
    Accepted,
    Call,
    Capabilities,
    Check,
    NativeId,
    Observation,
    Outcome,
    Refused,
    Run,
    RunName,
    RunRef,
    Unknown,
    Unreachable,
)
from adapters.calls import each, within
from adapters.threads import SiteThreads
from adapters.yarn.carried import master_zip
from adapters.yarn.client import Answer, Web
from adapters.yarn.codec import OURS, objection, order_of, spec_of, submission, too_long
from adapters.yarn.listing import UNSAVED, App, apps_of, chosen, foreign, nodes_of, report_of, rooms_of
from adapters.yarn.logs import output
from adapters.yarn.probe import checks
from adapters.yarn.settings import YarnSettings, storage_of
from topology.site import Site

LOOK_S = 0.05
MOST_FORGOTTEN = 100_000
_OMITTED = "resourceRequests,timeouts,appNodeLabelExpression,amNodeLabelExpression,resourceInfo"
"""Fields of an application that we do not read."""


class YarnAdapter:
    """A site's YARN, for one federation. What is forgotten is kept in memory: YARN goes on listing what ended."""

    capabilities = Capabilities(reserves=True, settling_s=0.0)

    def __init__(self, site: Site, settings: YarnSettings, federation: str, web: Web) -> None:
        self._site = site
        self._settings = settings
        self._federation = federation
        self._web = web
        self._storage = storage_of(site, settings)
        self._threads = SiteThreads(site.name)
        self._forgotten: dict[NativeId, None] = {}

    async def reserve(self, names: Collection[RunName], call: Call) -> Mapping[RunName, NativeId]:
        """See `SiteAdapter.reserve`: an application id each. One that is not used leaves nothing behind."""

        async def new(name: RunName) -> NativeId:
            answer = await self._web.manager("POST", "/apps/new-application")
            try:
                return str(answer.json["application-id"])
            except (KeyError, TypeError) as error:
                raise Unreachable(f"no application id: {answer.status}: {answer.words}") from error

        async with within(call.timeout_s):
            if names:
                await self._web.active()
            return dict(zip(names, await each(new, names, self._settings.concurrency), strict=True))

    async def submit(self, runs: Sequence[Run], call: Call) -> Mapping[RunName, Outcome]:
        """See `SiteAdapter.submit`. What is listed is not sent again; what was sent is accepted once it is listed as ours, and on
        the resource manager's disk. Answers what it knows when time is up."""
        outcomes: dict[RunName, Outcome] = {}
        sent: list[Run] = []
        try:
            async with within(call.timeout_s):
                await self._submit(runs, outcomes, sent)
        except Unreachable as error:
            if not sent:
                raise
            outcomes.update((run.name, Unknown(str(error))) for run in sent if run.name not in outcomes)
            outcomes.update((run.name, Unknown("not sent")) for run in runs if run.name not in outcomes)
        return outcomes

    async def observe(self, known: Collection[RunRef], call: Call) -> Observation:
        """See `SiteAdapter.observe`: three requests. There is no history."""
        began = time.time()
        async with within(call.timeout_s):
            life = str((await self._web.active()).get("startedOn", ""))
            nodes = nodes_of(await self._web.listing("/nodes"))
            apps = await self._apps()
        current = self._current(apps)
        reports = {name: report_of(app, self._site) for name, app in current.items()}
        ours = [app for app in apps if app.is_of(self._federation)]
        rooms = rooms_of(nodes, ours, self._site, self._settings)
        return Observation(began, True, life, reports, rooms, foreign(apps, self._federation))

    async def cancel(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.cancel`. Every application of the name is ended."""
        names = {run.name for run in runs}

        async def kill(app: App) -> None:
            answer = await self._web.manager("PUT", f"/apps/{app.id}/state", {"state": "KILLED", "diagnostics": "cancelled"})
            if answer.status not in (200, 202, 404):
                raise Unreachable(f"cancel {app.id}: {answer.status}: {answer.words}")

        if not names:
            return
        async with within(call.timeout_s):
            await self._web.active()
            named = [app for app in await self._apps() if app.name in names and app.is_of(self._federation)]
            live = [app for app in named if not report_of(app, self._site).state.is_over]
            await each(kill, live, self._settings.concurrency)

    async def forget(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.forget`: they are told of no more, by this adapter."""
        names = {run.name for run in runs}
        if not names:
            return
        async with within(call.timeout_s):
            await self._web.active()
            apps = await self._apps()
        for app in apps:
            if app.name in names and app.is_of(self._federation) and report_of(app, self._site).state.is_over:
                self._forgotten[app.id] = None
        while len(self._forgotten) > MOST_FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]

    async def logs(self, run: RunRef, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        """See `SiteAdapter.logs`: from the node manager that has, or had, the task's container."""

        async def find() -> App | None:
            await self._web.active()
            return self._current(await self._apps()).get(run.name)

        async for chunk in output(self._web, find, task, offset, follow):
            yield chunk

    async def probe(self, timeout_s: float) -> Sequence[Check]:
        """See `SiteAdapter.probe`."""
        return await checks(self._web, self._threads, self._site, self._settings, timeout_s)

    async def close(self) -> None:
        """See `SiteAdapter.close`."""
        self._threads.close()
        await self._web.close()

    async def _submit(self, runs: Sequence[Run], outcomes: dict[RunName, Outcome], sent: list[Run]) -> None:
        if not runs:
            return
        await self._web.active()
        listed = self._current(await self._apps())
        outcomes.update((run.name, _listed_as(run, listed[run.name])) for run in runs if run.name in listed)
        bodies: dict[RunName, Mapping[str, Any]] = {}
        for run in runs:
            if run.name not in outcomes:
                order = order_of(run, self._storage, self._settings)
                refusal = _unreserved(run) or objection(run, self._site, self._storage, self._settings) or too_long(order)
                if refusal:
                    outcomes[run.name] = Refused(refusal)
                else:
                    bodies[run.name] = submission(run, order, self._settings, master_zip())
        sent += [run for run in runs if run.name in bodies]
        answers = await each(self._send, list(bodies.values()), self._settings.concurrency)
        for run, answer in zip(sent, answers, strict=True):
            if isinstance(answer, Unknown):
                outcomes[run.name] = answer
            elif answer.status == 400 and "duplicate" not in answer.words and "already present" not in answer.words:
                outcomes[run.name] = Refused(answer.words)
            elif answer.status >= 400 and answer.status != 400:
                outcomes[run.name] = Unknown(f"{answer.status}: {answer.words}")
        waiting = [run for run in sent if run.name not in outcomes]
        while waiting:
            by_id = {app.id: app for app in await self._apps()}
            for run in waiting:
                outcome = await self._read_back(run, by_id.get(run.native_id or ""))
                if outcome is not None:
                    outcomes[run.name] = outcome
            waiting = [run for run in waiting if run.name not in outcomes]
            if waiting:
                await asyncio.sleep(LOOK_S)

    async def _send(self, body: Mapping[str, Any]) -> Answer | Unknown:
        """The answer to one submission. Sent again with the same id it has no effect."""
        try:
            return await self._web.manager("POST", "/apps", body)
        except Unreachable as error:
            return Unknown(str(error))

    async def _read_back(self, run: Run, app: App | None) -> Outcome | None:
        """What became of a submission that was answered with 202; None while it is not yet on disk. The same answer is given for
        an id that is another application's."""
        assert run.native_id
        if app is None:
            answer = await self._web.manager("GET", f"/apps/{run.native_id}")
            if answer.status == 200:
                return Refused(f"{run.native_id} is another application's")
            return Unknown(f"{run.native_id} was taken and is not listed")
        if app.state in UNSAVED:
            return None
        if not app.is_of(self._federation) or app.name != run.name:
            return Refused(f"{run.native_id} is the application of {app.name}")
        if app.state == "FAILED" and not app.launched_ms:  # such as an unknown queue, which is found after the acknowledgement
            return Refused(app.diagnostics.strip())
        return _listed_as(run, app)

    def _current(self, apps: Sequence[App]) -> Mapping[RunName, App]:
        """Name to application, without what is forgotten."""
        return chosen((app for app in apps if app.id not in self._forgotten), self._federation)

    async def _apps(self) -> Sequence[App]:
        """Every application of any federation."""
        return apps_of(await self._web.listing("/apps", applicationTags=OURS, deSelects=_OMITTED))


def open_yarn(site: Site, settings: YarnSettings, federation: str) -> YarnAdapter:
    """The adapter of a YARN site; nothing is called yet. Raises ValueError where nothing says how tasks see its storage."""
    return YarnAdapter(site, settings, federation, Web(settings))


def _unreserved(run: Run) -> str | None:
    return None if run.native_id else "no application id was reserved for it"


def _listed_as(run: Run, app: App) -> Outcome:
    """A run that is listed under the name: this one or, with another digest, not."""
    return Accepted(app.id) if app.spec == spec_of(run) else Refused(f"{app.id} is another run of this name")
