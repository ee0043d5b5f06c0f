"""The adapter to a process engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.base import (
    Call,
    Capabilities,
    Check,
    Layer,
    LoginFailed,
    NativeId,
    Observation,
    Outcome,
    Run,
    RunName,
    RunRef,
    Unreachable,
)
from adapters.probing import Answers
from adapters.process.client import EngineClient, gone, read_answer, read_frames
from adapters.process.codec import (
    MAX_LINE_BYTES,
    config_from_json,
    outcome_from_json,
    pools_to_json,
    report_from_json,
    rooms_from_json,
    run_to_json,
)
from adapters.process.settings import ProcessSettings, config_of
from topology.site import Site

MOST_REQUEST_BYTES = MAX_LINE_BYTES // 4
SHUTDOWN_S = 30.0
LOGS_BEGIN_S = 10.0


class ProcessAdapter:
    """A site's process engine, for one federation."""

    capabilities = Capabilities(unique_names=True, refuses_stale_epochs=True, settling_s=0.0)

    def __init__(self, client: EngineClient, federation: str) -> None:
        self._client = client
        self._federation = federation

    async def reserve(self, names: Collection[RunName], call: Call) -> Mapping[RunName, NativeId]:
        """See `SiteAdapter.reserve`: ids are handed out on acceptance."""
        return {}

    async def submit(self, runs: Sequence[Run], call: Call) -> Mapping[RunName, Outcome]:
        """See `SiteAdapter.submit`. One request, or a few where the scripts are long."""
        answers: dict[str, Any] = {}
        for part in _parts([run_to_json(run) for run in runs]):
            answers.update(await self._ask("submit", call, runs=part))
        return {run.name: outcome_from_json(answers.get(run.name)) for run in runs}

    async def observe(self, known: Collection[RunRef], call: Call) -> Observation:
        """See `SiteAdapter.observe`: one request. There is no history: what was forgotten is gone."""
        began = time.time()
        seen = await self._ask("observe", call)
        try:
            reports = {report.name: report for report in map(report_from_json, seen["runs"])}
            return Observation(began, True, seen["life"], reports, rooms_from_json(seen["rooms"]), tuple(seen["foreign"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Unreachable(f"observe: the engine's answer makes no sense: {error!r}") from error

    async def cancel(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.cancel`."""
        await self._ask("cancel", call, names=[run.name for run in runs])

    async def forget(self, runs: Collection[RunRef], call: Call) -> None:
        """See `SiteAdapter.forget`: output stays for a while, the name is never taken again."""
        await self._ask("forget", call, names=[run.name for run in runs])

    async def logs(self, run: RunRef, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        """See `SiteAdapter.logs`."""
        fields = {"name": run.name, "task": task, "offset": offset, "follow": follow}
        async with self._client.connection("logs", fields, LOGS_BEGIN_S) as (reader, _):
            await read_answer("logs", reader, LOGS_BEGIN_S)
            async for chunk in read_frames(reader):
                yield chunk

    async def probe(self, timeout_s: float) -> Sequence[Check]:
        """See `SiteAdapter.probe`. An engine that was started for other pools is started anew where we may; its runs go on."""
        answers, client = Answers(), self._client
        try:
            engine = await client.ask("ping", timeout_s)
            answers.answered(Layer.REACH)
            answers.answered(Layer.LOGIN)
            if not self._has_our_pools(engine) and client.autostart:
                await client.ask("stop", timeout_s)
                await client.start()
                engine = await client.ask("ping", timeout_s)
            if not self._has_our_pools(engine):
                answers.answered(Layer.SCHEDULER, "the engine was started for other pools: start it anew", is_misconfigured=True)
                return answers.checks
            answers.answered(Layer.SCHEDULER)
            answers.answered(Layer.STORAGE, await client.ask("storage", timeout_s))
        except LoginFailed as error:
            answers.denied(str(error))
        except Unreachable as error:
            answers.failed(str(error))
        return answers.checks

    async def close(self) -> None:
        """See `SiteAdapter.close`. The engine goes on as well."""
        await self._client.close()

    async def _ask(self, op: str, call: Call, **fields: Any) -> Any:
        return await self._client.ask(op, call.timeout_s, federation=self._federation, epoch=call.epoch, **fields)

    def _has_our_pools(self, engine: Any) -> bool:
        return bool(engine["pools"] == json.loads(json.dumps(pools_to_json(self._client.config.pools))))


def open_process(site: Site, settings: ProcessSettings, federation: str) -> ProcessAdapter:
    """The adapter of a process site; nothing is called yet. Raises ValueError for storage that is not a local directory."""
    return ProcessAdapter(EngineClient(config_of(site, settings), settings.autostart), federation)


async def shut_down(state_dir: Path) -> None:
    """End every run of the engine that lives in `state_dir`, and the engine; where it was killed, what it left is ended as well.
    A directory without an engine is not an error. Raises Unreachable."""
    try:
        config = config_from_json(json.loads((state_dir / "site.json").read_text()))
    except FileNotFoundError:
        return
    client = EngineClient(config, autostart=True)
    try:
        async with asyncio.timeout(SHUTDOWN_S):
            await client.ask("shutdown", SHUTDOWN_S)
            await gone(state_dir)
    except TimeoutError as error:
        raise Unreachable(f"the engine in {state_dir} does not end") from error
    finally:
        await client.close()


def _parts(runs: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The runs in as many requests as their size asks for."""
    part: list[dict[str, Any]] = []
    size = 0
    for run in runs:
        length = len(run.get("script") or "") * 2 + sum(map(len, run["command"])) * 2 + 2000
        if part and size + length > MOST_REQUEST_BYTES:
            yield part
            part, size = [], 0
        part.append(run)
        size += length
    if part:
        yield part
