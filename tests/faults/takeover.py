"""Two brokers on one etcd: the leader is killed -9, and how soon the other places a job.

    python -m tests.faults.takeover [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from adapters.process.adapter import shut_down
from adapters.process.settings import state_dir_of
from tests.engines.etcd.cluster import built_binary, etcd_cluster
from tests.faults.parts import BrokerProcess, Endpoints, a_process_site, endpoints

WITHIN_S = 60.0


async def run(rounds: int, folder: Path) -> list[float]:
    """Seconds, for each round, from the kill of the leader to the placement of a job submitted right after it."""
    binary = built_binary()
    assert binary, "run `make engines` first"
    with etcd_cluster(folder, binary) as etcd:
        brokers = [BrokerProcess(etcd.members[0].endpoint, folder / f"broker-{number}.log") for number in range(2)]
        try:
            for broker in brokers:
                broker.start()
            async with endpoints(brokers) as asking:
                await asking.ask("PUT", "/v1/sites/ams", a_process_site("ams", folder / "ams"))
                return [await one_round(number, asking, brokers) for number in range(rounds)]
        finally:
            for broker in brokers:
                broker.kill()
            await shut_down(state_dir_of(folder / "ams"))


async def one_round(number: int, asking: Endpoints, brokers: Sequence[BrokerProcess]) -> float:
    """Kill whoever leads once all is well, and start it again afterwards."""
    leader = await calm(asking, brokers)
    leader.kill()
    began = time.monotonic()
    job = await asking.ask("POST", "/v1/jobs", {"name": f"after-{number}", "command": ["true"]})
    while (await asking.ask("GET", f"/v1/jobs/{job['id']}"))["attempt"] == 0:
        if time.monotonic() - began > WITHIN_S:
            raise AssertionError(f"nobody planned within {WITHIN_S} s")
        await asyncio.sleep(0.02)
    took = time.monotonic() - began
    leader.start()
    return took


async def calm(asking: Endpoints, brokers: Sequence[BrokerProcess]) -> BrokerProcess:
    """Who leads, once both brokers are members and the site takes jobs."""
    while True:
        health = await asking.ask("GET", "/v1/health")
        urls = {member["id"]: member["url"] for member in health["members"]}
        is_up = all(site["health"] == "up" for site in health["sites"])
        if set(urls.values()) == {broker.url for broker in brokers} and is_up and health["leader"] in urls:
            return next(broker for broker in brokers if broker.url == urls[health["leader"]])
        await asyncio.sleep(0.1)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fed-takeover-") as folder:
        took = asyncio.run(run(given.rounds, Path(folder)))
    print("leader killed; the other placed a job after " + ", ".join(f"{seconds:.2f} s" for seconds in took))


if __name__ == "__main__":
    main()
