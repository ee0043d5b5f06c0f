"""Each layer of a Ray site asked apart."""

from __future__ import annotations

import time
from collections.abc import Sequence

from adapters.base import Check, Layer, LoginFailed, Misconfigured, Unreachable
from adapters.probing import Answers
from adapters.ray.client import RayClient, Said
from adapters.ray.codec import nodes_of, version_of
from adapters.ray.errands import Errands, StorageFailing
from adapters.ray.rooms import lacking
from adapters.ray.settings import RaySettings
from topology.site import Site


async def probe(site: Site, settings: RaySettings, client: RayClient, errands: Errands, timeout_s: float) -> Sequence[Check]:
    """See `SiteAdapter.probe`: the head, our token, its nodes, and the storage as a node sees it."""
    answers = Answers()
    deadline = time.monotonic() + timeout_s

    def left() -> float:
        return max(deadline - time.monotonic(), 0.05)

    try:
        version = version_of(await client.ask("GET", "/api/version", left()))
        answers.answered(Layer.REACH, words=f"Ray {version.ray_version}")
        answers.answered(Layer.LOGIN)
        answer = await client.ask("GET", "/api/v0/nodes", left(), {"limit": "10000", "detail": "1"})
        missing = lacking(site, settings, nodes_of(answer))
        if missing is not None:
            wanted = settings.pool(missing.name)
            labels = f"labels {dict(wanted.labels)}" if wanted.labels else "cpus"
            where = f"resource {wanted.resource}" if wanted.resource else labels
            answers.answered(
                Layer.SCHEDULER,
                f"no node of the cluster has the {where} of pool {missing.name}: see the setting pools.{missing.name}",
                is_misconfigured=bool(wanted.resource or wanted.labels),
            )
            return client.clock.judged(answers.checks)
        answers.answered(Layer.SCHEDULER)
        answers.answered(Layer.STORAGE, words=await errands.storage(left()))
    except StorageFailing as error:
        answers.failed(str(error))
    except LoginFailed as error:
        answers.denied(str(error))
    except Said as said:
        answers.failed(f"Ray answers {said.code}: {' '.join(said.message.split())[-300:]}")
    except Unreachable as error:
        answers.failed(str(error), is_misconfigured=isinstance(error, Misconfigured))
    return client.clock.judged(answers.checks)
