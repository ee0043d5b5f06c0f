"""The question whether a YARN site works, layer by layer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from adapters.base import Check, Layer, LoginFailed, Unreachable
from adapters.calls import within
from adapters.probing import Answers
from adapters.threads import SiteThreads
from adapters.yarn.client import Web
from adapters.yarn.listing import elements_of, label_of, nodes_of
from adapters.yarn.master.staging import Place
from adapters.yarn.settings import HDFS_PORT, YarnSettings, storage_of
from topology.site import Site


async def checks(web: Web, threads: SiteThreads, site: Site, settings: YarnSettings, timeout_s: float) -> Sequence[Check]:
    """Reach: the address answers. Login: it takes our words for who we are. Scheduler: a resource manager is active, and has our
    queues, and our pools' labels on nodes that run. Storage: its place, where the broker sees it, can be written to."""
    answers = Answers()
    try:
        async with within(timeout_s):
            try:
                await web.reach()
            except LoginFailed as error:
                answers.denied(str(error))
                return answers.checks
            answers.answered(Layer.REACH)
            answers.answered(Layer.LOGIN)
            await web.active()
            wrong = _missing_queues(await web.listing("/scheduler"), settings) or _missing_pools(
                nodes_of(await web.listing("/nodes")), site, settings
            )
            answers.answered(Layer.SCHEDULER, wrong, is_misconfigured=bool(wrong))
            if not wrong:
                place = storage_of(site, settings)
                answers.answered(
                    Layer.STORAGE,
                    await _unwritable_hdfs(place, site.storage.url, settings)
                    if isinstance(place, Place)
                    else await threads.run(lambda: _unwritable(site.storage.url), timeout_s),
                )
    except Unreachable as error:
        answers.failed(str(error))
    return web.clock.judged(answers.checks)


def _missing_queues(listing: Any, settings: YarnSettings) -> str:
    """What is wrong with the queues that are named in our settings. A scheduler of another kind than CapacityScheduler tells its
    queues in another way, and is believed."""
    told = (listing or {}).get("scheduler", {}).get("schedulerInfo", {})
    if told.get("type") != "capacityScheduler":
        return ""
    states = dict(_queues(told))
    for name in sorted({settings.queue, *settings.queues.values()}):
        if name not in states:
            return f"there is no queue {name} to submit to: this site has {', '.join(sorted(states))}"
        if states[name] not in ("RUNNING", ""):
            return f"queue {name} is {states[name]}"
    return ""


def _queues(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Queues without queues below them, by name and by path, with their states."""
    for queue in elements_of(told, "queues", "queue"):
        if elements_of(queue, "queues", "queue"):
            yield from _queues(queue)
        else:
            yield str(queue.get("queueName", "")), str(queue.get("state", ""))
            yield str(queue.get("queuePath", "")), str(queue.get("state", ""))


def _missing_pools(nodes: Sequence[Mapping[str, Any]], site: Site, settings: YarnSettings) -> str:
    """Which pool has no node that runs."""
    present = {label_of(node) for node in nodes if node.get("state") == "RUNNING"}
    for pool in site.pools:
        label = settings.label(pool.name)
        if label not in present:
            return f"no node that runs has {f'the label {label}' if label else 'no label'}: pool {pool.name} is empty"
    return ""


def _unwritable(url: str) -> str:
    """Why storage that nodes mount cannot be written to from here. Of one that is no directory of ours nothing is known: see the
    README."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return ""
    place = Path(unquote(parts.path))
    if not place.is_dir():
        return f"{place} is no directory"
    return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} cannot be written to"


async def _unwritable_hdfs(place: Place, url: str, settings: YarnSettings) -> str:
    """Why tasks cannot write to storage in HDFS, as the name node that the broker knows says. It gets no secret of YARN's."""
    parts = urlsplit(url)
    address = f"http://{parts.hostname}:{parts.port or HDFS_PORT}/webhdfs/v1{quote(place.root)}"
    web = Web(settings.model_copy(update={"user": place.user, "password": None, "token": None}))
    try:
        answer = await web.ask("GET", address, op="CHECKACCESS", fsaction="rwx")
    except LoginFailed as error:
        return str(error)
    finally:
        await web.close()
    return "" if answer.status == 200 else f"{url}: {answer.status}: {answer.words}"
