"""Counts finished jobs from outside: another process that watches etcd and prints a line of JSON when all are there.

    python -m tests.bench.counting --etcd URL --jobs N
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter

from broker.clock import SystemClock
from broker.store import codec
from broker.store import keys as kinds
from broker.store.base import Written
from broker.store.etcd import EtcdStore
from broker.store.keys import Keys
from tests.bench.twin_broker import FEDERATION


async def count(etcd: str, wanted: int) -> None:
    """Follow every write of a state until `wanted` jobs have ended."""
    keys = Keys(FEDERATION)
    store = EtcdStore((etcd,), clock=SystemClock())
    writes: Counter[str] = Counter()
    ended: dict[str, str] = {}
    first_wish = last_end = 0.0
    watched = store.watch(keys.prefix, (await store.read(keys.prefix)).revision + 1)
    print("{}", flush=True)
    async for batch in watched:
        for event in batch.events:
            if not isinstance(event, Written):
                continue
            kind, names = keys.split(event.record.key)
            writes[kind] += 1
            if kind == kinds.WISHES:
                first_wish = first_wish or time.time()
            elif kind == kinds.STATES and b'"finished_at"' in event.record.value:
                state = codec.decode(kind, event.record.value)
                ended[names[0]] = str(state.phase)
                last_end = time.time()
        if len(ended) >= wanted:
            break
    print(json.dumps({"seconds": last_end - first_wish, "phases": Counter(ended.values()), "writes": writes}), flush=True)
    await store.close()


def main() -> None:
    """Count as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etcd", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(count(given.etcd, given.jobs))


if __name__ == "__main__":
    main()
