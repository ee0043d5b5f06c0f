"""Jobs over real parts while brokers, etcd and site daemons are killed -9: every job ends once.

    python -m tests.faults.real_kills --jobs 300 --broker-kills 20 --etcd-kills 3 --daemon-kills 5 --seed 1

Counted is from a file to which every task of every run appends a line, outside of all that is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.process.adapter import shut_down as shut_down_engine
from adapters.process.settings import state_dir_of
from tests.engines.etcd.cluster import Cluster, Member, built_binary, etcd_cluster
from tests.faults.parts import BrokerProcess, Endpoints, a_process_site, endpoints, kill

SITES = ("ams", "fra", "osl", "rom")
BULK = 25
ENDS_WITHIN_S = 240.0


@dataclass
class Plan:
    """How much to kill, and by which seed."""

    jobs: int
    broker_kills: int
    etcd_kills: int
    daemon_kills: int
    seed: int


@dataclass
class Outcome:
    """What came of it. `starts` counts the lines of each (job, task) in the journal."""

    jobs: Sequence[dict[str, Any]]
    starts: Counter[tuple[str, str]]
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def faults(self, plan: Plan) -> list[str]:
        """What is not as promised; empty when all is well."""
        found = [f"{job['id']}: {job['phase']} {job['reason']}" for job in self.jobs if job["phase"] != "succeeded"]
        found += [f"{job}, task {task}: started {count} times" for (job, task), count in self.starts.items() if count != 1]
        if len(self.jobs) != plan.jobs:
            found.append(f"{len(self.jobs)} jobs are known, {plan.jobs} were submitted")
        if {job["id"] for job in self.jobs} != {job for job, _ in self.starts}:
            found.append("the journal names other jobs than the endpoint")
        return found


async def run(plan: Plan, folder: Path) -> Outcome:
    """The whole story, in `folder`."""
    chance = random.Random(plan.seed)
    binary = built_binary()
    assert binary, "run `make engines` first"
    began = time.monotonic()
    with etcd_cluster(folder, binary) as etcd:
        brokers = [BrokerProcess(etcd.members[0].endpoint, folder / f"broker-{number}.log") for number in range(2)]
        try:
            for broker in brokers:
                broker.start()
            async with endpoints(brokers) as asking:
                for site in SITES:
                    await asking.ask("PUT", f"/v1/sites/{site}", a_process_site(site, folder / site))
                kills: Counter[str] = Counter()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(submit(plan, asking, folder / "journal", chance))
                    tasks.create_task(strike(plan, etcd, brokers, folder, chance, kills))
                jobs = await ended(plan, asking)
        finally:
            for broker in brokers:
                broker.kill()
            for site in SITES:
                await shut_down(folder / site)
    lines = (folder / "journal").read_text().split("\n")[:-1]
    starts = Counter((line.split()[0], line.split()[1]) for line in lines)
    return Outcome(jobs, starts, kills, time.monotonic() - began)


async def submit(plan: Plan, asking: Endpoints, journal: Path, chance: random.Random) -> None:
    """Bulks under idempotency keys, asked until answered, spread over the time of the kills."""
    for first in range(0, plan.jobs, BULK):
        bulk = [a_job(number, journal, chance) for number in range(first, min(first + BULK, plan.jobs))]
        await asking.ask("POST", "/v1/jobs", {"jobs": bulk}, {"Idempotency-Key": f"bulk-{first}"})
        await asyncio.sleep(chance.uniform(0.2, 2.0))


def a_job(number: int, journal: Path, chance: random.Random) -> dict[str, Any]:
    """Writes its line, then lives for a while; every tenth is a gang of three. It never asks for another attempt."""
    seconds = chance.uniform(0.1, 3.0)
    return {
        "name": f"line-{number}",
        "command": ["sh", "-c", f'echo "$FED_JOB $FED_TASK $FED_ATTEMPT" >> {journal}; sleep {seconds:.2f}'],
        "tasks": 3 if number % 10 == 0 else 1,
        "resources": {"cpus": 1, "memory_gib": 0.1},
        "run_time": 2,
    }


async def strike(
    plan: Plan, etcd: Cluster, brokers: Sequence[BrokerProcess], folder: Path, chance: random.Random, kills: Counter[str]
) -> None:
    """All kills in a random order, each part started again a moment later."""
    blows = ["broker"] * plan.broker_kills + ["etcd"] * plan.etcd_kills + ["daemon"] * plan.daemon_kills
    chance.shuffle(blows)
    for blow in blows:
        await asyncio.sleep(chance.uniform(0.3, 1.5))
        if blow == "broker":
            broker = chance.choice(brokers)
            broker.kill()
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            broker.start()
        elif blow == "etcd":
            await restart(etcd, etcd.members[0], chance)
        else:
            await strike_daemon(folder / chance.choice(SITES))
        kills[blow] += 1


async def restart(etcd: Cluster, member: Member, chance: random.Random) -> None:
    """Kill etcd and start it on what it has on disk."""
    member.kill()
    await asyncio.sleep(chance.uniform(0.0, 1.0))
    member.start()
    await asyncio.to_thread(etcd.wait_ready)


async def strike_daemon(storage: Path) -> None:
    """Kill a site's engine once it is there; the adapter starts it again."""
    pid_file = state_dir_of(storage) / "daemon.pid"
    while not pid_file.exists():
        await asyncio.sleep(0.1)
    kill(int(pid_file.read_text().split()[0]))


async def shut_down(storage: Path) -> None:
    """End a site's engine with all it runs."""
    await shut_down_engine(state_dir_of(storage))


async def ended(plan: Plan, asking: Endpoints) -> list[dict[str, Any]]:
    """All jobs, once all have ended; or as they are when time is up."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while True:
        jobs = await asking.jobs()
        is_over = len(jobs) == plan.jobs and all(job["phase"] in ("succeeded", "failed", "cancelled") for job in jobs)
        if is_over or time.monotonic() > deadline:
            return jobs
        await asyncio.sleep(0.3)


def main() -> int:
    """Print what came of it; 1 when something is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("jobs", 300), ("broker-kills", 20), ("etcd-kills", 3), ("daemon-kills", 5), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    plan = Plan(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory(prefix="fed-kills-") as folder:
        outcome = asyncio.run(run(plan, Path(folder)))
    faults = outcome.faults(plan)
    attempts = Counter(job["attempt"] for job in outcome.jobs)
    print(f"{len(outcome.jobs)} jobs in {outcome.seconds:.0f} s, kills {dict(outcome.kills)}, attempts {dict(attempts)}")
    print("\n".join(faults) or "every job ended once")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
