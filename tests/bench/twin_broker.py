"""A whole broker process whose sites are engine twins that finish every run at once: what is left is the broker's own cost.

    python -m tests.bench.twin_broker --etcd URL [--port P] [--token-file F] [--run-s S] [--keep N] [--profile]

Prints its URL, and on SIGTERM the CPU it took, by part; with `--profile` also where its loop spent it.
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

from adapters.base import Run, SiteAdapter
from adapters.twin import Behaviour, EngineTwin, TwinAdapter
from broker.app import running_broker, spare_the_collector
from broker.clock import SystemClock
from broker.config import Etcd, KeepFinished, Listen, Settings
from tests.bench.sampling import Sampler
from topology.site import Site

FEDERATION = "bench"


async def serve(given: argparse.Namespace, sampler: Sampler | None) -> None:
    """Until SIGTERM."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    settings = Settings(
        federation=FEDERATION,
        listen=Listen(port=given.port),
        token_file=given.token_file,
        etcd=Etcd(endpoints=(given.etcd,)),
        keep_finished=KeepFinished(count=given.keep),
        log_level="warning",
    )

    def behave(run: Run) -> Behaviour:
        return Behaviour(seconds=given.run_s)

    def open_twin(site: Site) -> SiteAdapter:
        return TwinAdapter(EngineTwin(SystemClock(), site.pools, behave=behave), FEDERATION)

    async with running_broker(settings, open_site=open_twin) as broker:
        print(json.dumps({"url": broker.url, "pid": os.getpid()}), flush=True)
        if sampler:
            sampler.start()
        await over.wait()
        if sampler:
            sampler.stop()
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    loop_s, own_s = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID), own.ru_utime + own.ru_stime
    parts = {"loop": loop_s, "other threads": own_s - loop_s, "planner": children.ru_utime + children.ru_stime}
    print(json.dumps({"parts": parts, "profile": sampler.found() if sampler else None}), flush=True)


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--etcd", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token-file")
    parser.add_argument("--run-s", type=float, default=0.0, help="how long each run takes")
    parser.add_argument("--keep", type=int, default=KeepFinished().count, help="how many finished jobs are kept")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    spare_the_collector()
    uvloop.run(serve(given, Sampler() if given.profile else None))


if __name__ == "__main__":
    main()
