"""Output of one task from a byte on, whatever its pod is doing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import aiohttp

from adapters.base import Report, Unreachable
from adapters.kubernetes.client import KubernetesClient, Said
from adapters.kubernetes.codec import CONTAINER, PODS
from adapters.kubernetes.reports import index_of, is_over, started_at
from adapters.kubernetes.seen import Pod

PAUSE_S = 0.2
BEGIN_S = 10.0
"""How long a log may take to begin."""
SILENCE_S = 3600.0
"""A log that is followed and brings nothing for so long is asked for again."""

State = Callable[[], tuple[Report, Sequence[Pod]] | None]


async def follow_log(client: KubernetesClient, state: State, task: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
    """Bytes from `offset` on; with `follow` until the task ends. `state` tells how the run is now, and its pods. Raises
    Unreachable."""
    while (seen := state()) is not None:
        report, pods = seen
        pod = next((pod for pod in pods if index_of(pod) == task), None)
        if pod is not None and started_at(pod) is not None:
            was_over = is_over(pod)
            async for chunk in _read(client, pod, offset, follow):
                offset += len(chunk)
                yield chunk
            if was_over or not follow:
                return
        elif not follow or report.state.is_over:
            return
        await asyncio.sleep(PAUSE_S)


async def _read(client: KubernetesClient, pod: Pod, offset: int, follow: bool) -> AsyncIterator[bytes]:
    """What one request brings."""
    path = PODS.path(pod.metadata.namespace, pod.metadata.name, "log")
    query = {"container": CONTAINER, "follow": "true" if follow else "false"}
    skip = offset
    try:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(BEGIN_S):
                reply = await stack.enter_async_context(client.reply("GET", path, query))
            while True:
                async with asyncio.timeout(SILENCE_S if follow else BEGIN_S):
                    chunk = await reply.content.readany()
                if not chunk:
                    return
                if len(chunk) > skip:
                    yield chunk[skip:]
                skip = max(skip - len(chunk), 0)
    except Said as said:
        if said.code not in (400, 404):  # it does not run yet, or is gone
            raise Unreachable(f"{path}: {said}") from said
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        if not follow:
            raise Unreachable(f"{path}: the output was cut: {error!r}") from error
