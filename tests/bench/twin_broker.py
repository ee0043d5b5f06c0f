"""A whole broker process whose sites are engine twins that finish every run at once: what is left is the broker's own cost.

    python -m tests.bench.twin_broker --etcd URL [--port P]      prints its URL, and on SIGTERM the CPU it took, by part
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import time

import uvloop

from adapters.base import SiteAdapter
from adapters.twin import EngineTwin, TwinAdapter
from broker.app import running_broker, spare_the_collector
from broker.clock import SystemClock
from broker.config import Etcd, Listen, Settings
from topology.site import Site

FEDERATION = "bench"


def open_twin(site: Site) -> SiteAdapter:
    """A twin with the site's pools, in place of its engine."""
    return TwinAdapter(EngineTwin(SystemClock(), site.pools), FEDERATION)


async def serve(etcd: str, port: int) -> None:
    """Until SIGTERM."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    settings = Settings(federation=FEDERATION, listen=Listen(port=port), etcd=Etcd(endpoints=(etcd,)), log_level="warning")
    async with running_broker(settings, open_site=open_twin) as broker:
        print(json.dumps({"url": broker.url, "pid": os.getpid()}), flush=True)
        await over.wait()
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    loop_s, own_s = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID), own.ru_utime + own.ru_stime
    parts = {"loop": loop_s, "other threads": own_s - loop_s, "planner": children.ru_utime + children.ru_stime}
    print(json.dumps(parts), flush=True)


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etcd", required=True)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    spare_the_collector()
    uvloop.run(serve(given.etcd, given.port))


if __name__ == "__main__":
    main()
