"""How tenants share a federation, step by step: fair shares, quotas that are lent and given back, best effort that gives way, and
deadlines; and what was wrong at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from rich.table import Table

from broker.client import TERMINAL, Client
from broker.demo.drive import START_S, DemoError, Federation
from broker.demo.scenario import CONFIGS
from broker.demo.show import Narrator, Shown

POLL_S = 0.2
MOST_S = 180.0
"""A demo that takes longer has failed."""
CPUS = 8
QUOTA = 4
DEADLINE_S = 120
DONE = 'if [ "$FED_TASK" = 0 ]; then echo "$FED_JOB done" >> {journal}; fi'
"""What each job writes when it has done its work: it must be there once, however often the job had to give way."""


class Sharing:
    """One run of the demo on a federation that is not started yet."""

    def __init__(self, fed: Federation, narrator: Narrator) -> None:
        self.fed = fed
        self.narrator = narrator
        self.jobs: dict[str, Shown] = {}
        """As last seen, by id."""
        self.wrong: list[str] = []

    async def play(self) -> list[str]:
        """Run it all; what was wrong, empty when all is right. Raises DemoError when it cannot go on."""
        await self.build()
        async with Client(self.fed.url, patience_s=START_S) as client:
            await self.fair_shares(client)
            await self.lending(client)
            await self.giving_way(client)
            await self.deadlines(client)
            await self.until(client, "all jobs are over", lambda: _are_over(self.jobs.values()))
        self.verdicts()
        self.narrator.show(self.table())
        return self.wrong

    async def build(self) -> None:
        """Start the broker and declare everything."""
        for site in ("ams", "fra"):
            (self.fed.sites / site).mkdir(parents=True)
        path = self.fed.root / "sharing.yaml"
        path.write_text((CONFIGS / "sharing.yaml").read_text().replace("@dir@", str(self.fed.root)))
        await self.fed.start_broker()
        applied = Counter(each["kind"] for each in (await self.fed.ask("apply", "-f", path))["items"])
        self.narrator.say(f"fed apply -f {path}: {', '.join(f'{count} {kind}' for kind, count in applied.items())}")

    async def fair_shares(self, client: Client) -> None:
        """Two tenants want more than there is: their turns go by weight."""
        await self.fed.fed("pause", "--why", "both queues begin together")
        for tenant in ("physics", "biology"):
            await self.submit(client, tenant, 12, seconds=4, run_time=5)
        await self.up(client)
        await self.fed.fed("resume")
        await self.until(client, "the first jobs of physics and biology are placed", lambda: len(self.placed()) >= CPUS)
        first = Counter(job["tenant"] for job in self.placed()[:CPUS])
        has = f"physics (weight 3) has {first['physics']}, biology (weight 1) {first['biology']}"
        self.narrator.say(f"of the first {CPUS} cpus {has}")
        self.check(first == {"physics": 6, "biology": 2}, f"of the first {CPUS} jobs 6 and 2 should be theirs: {dict(first)}")
        await self.until(client, "physics and biology are through", lambda: _are_over(self.jobs.values()))

    async def up(self, client: Client) -> None:
        """Wait until all sites take jobs, so that the first plan has room for all."""
        while not all(site["takes_jobs"] for site in (await client.health())["sites"]):
            self.check_time("all sites are up")
            await asyncio.sleep(POLL_S)

    async def lending(self, client: Client) -> None:
        """Vision borrows what language leaves idle, and gives it back when language wants it."""
        await self.submit(client, "vision", 10, seconds=15, run_time=600, preemptible=True)
        await self.until(client, "vision runs on all cpus", lambda: self.running("vision") == CPUS)
        self.narrator.say(f"vision owns {QUOTA} cpus and runs on {CPUS}: it borrows the {CPUS - QUOTA} that language leaves idle")
        await self.submit(client, "language", 6, seconds=15, run_time=600, preemptible=True)
        await self.until(client, "language has its own", lambda: self.running("language") == QUOTA)
        self.narrator.say(f"language wants its {QUOTA} and has them; vision keeps {self.running('vision')}")
        self.check(self.running("vision") == QUOTA, f"vision should keep its own {QUOTA} cpus, and runs {self.running('vision')}")

    async def giving_way(self, client: Client) -> None:
        """A gang that may not be preempted makes best effort give way, where that loses the least work."""
        running = [job for job in self.jobs.values() if job["phase"] == "running"]
        (gang,) = await self.submit(client, "physics", 1, seconds=5, run_time=120, tasks=2, name="gang")
        await self.until(client, "the gang runs", lambda: self.jobs[gang]["phase"] in ("running", *TERMINAL))
        now = {job["id"]: self.jobs[job["id"]] for job in running}
        gone = [job for job in running if now[job["id"]]["attempts"][job["attempt"] - 1]["ending"] == "withdrawn"]
        kept = [job for job in running if job not in gone and job["site"] == self.jobs[gang]["site"]]
        self.narrator.say(f"a gang of 2 tasks runs at {self.jobs[gang]['site']}: {_names(gone)} gave way, {_names(kept)} stayed")
        self.check(len(gone) == 2, f"2 runs should give way to a gang of 2 cpus: {_names(gone)}")
        late = [job for job in gone if any(other["started_at"] > job["started_at"] for other in kept)]
        self.check(not late, f"others began later, and would have lost less: {_names(late)}")

    async def deadlines(self, client: Client) -> None:
        """What is near its deadline goes before what is older; one that cannot be met is told at once."""
        await self.fed.fed("pause", "--why", "what is urgent comes last and goes first")
        calm = await self.submit(client, "biology", 12, seconds=5, run_time=60, name="calm")
        urgent = await self.submit(client, "biology", 2, seconds=5, run_time=60, name="urgent", deadline=DEADLINE_S)
        never = await client.submit(self.body("never", "biology", 5, run_time=3600, deadline=60))
        self.narrator.say(f"an hour's job with a deadline in a minute is told at submit: {never['warnings'][0]}")
        self.check("cannot be met" in never["warnings"][0], f"no word of the deadline that cannot be met: {never['warnings']}")
        await client.cancel(never["id"])
        await self.fed.fed("resume")
        await self.until(client, "calm and urgent are through", lambda: _are_over(self.jobs[job] for job in (*calm, *urgent)))
        first = min(_first_placed(self.jobs[job]) for job in calm)
        last = max(_first_placed(self.jobs[job]) for job in urgent)
        took = max(self.jobs[job]["finished_at"] - self.jobs[job]["created_at"] for job in urgent)
        self.narrator.say(f"what was urgent was placed {first - last:.1f} s before the first of the older, and took {took:.0f} s")
        self.check(last <= first, "an older job without a deadline was placed before one that was near it")
        self.check(took <= DEADLINE_S, f"the deadline of {DEADLINE_S} s was missed: {took:.0f} s")

    async def submit(
        self, client: Client, tenant: str, count: int, seconds: float, name: str = "", **fields: Any
    ) -> list[str]:
        """Hand in equal jobs that sleep; their ids."""
        bodies = [self.body(f"{name or tenant}-{number}", tenant, seconds, **fields) for number in range(count)]
        made = (await client.submit(bodies))["items"]
        self.jobs |= {job["id"]: job for job in made}
        told = ", ".join(f"{field} {value}" for field, value in fields.items() if field != "run_time")
        self.narrator.say(f"{count} jobs of {tenant}, {seconds:g} s each{': ' if told else ''}{told}")
        return [job["id"] for job in made]

    def body(self, name: str, tenant: str, seconds: float, **fields: Any) -> dict[str, Any]:
        """One that sleeps, and has one attempt: to give way must not count."""
        script = f"sleep {seconds}; {DONE.format(journal=self.fed.journal)}"
        small = {"resources": {"cpus": 1, "memory_gib": 0.1}, "retry": {"attempts": 1}, "env": {"DEMO_DIR": str(self.fed.root)}}
        return {"name": name, "tenant": tenant, "script": script, **small, **fields}

    async def until(self, client: Client, what: str, is_done: Callable[[], bool]) -> None:
        """Look at the jobs until it is so. Raises DemoError when that takes too long."""
        while True:
            listed = (await client.jobs(limit=1_000))["items"]
            self.jobs |= {job["id"]: job for job in listed if job["id"] in self.jobs}
            self.narrator.progress(self.jobs.values())
            if is_done():
                return
            self.check_time(what)
            await asyncio.sleep(POLL_S)

    def check_time(self, what: str) -> None:
        """Raise DemoError when it takes too long."""
        if self.narrator.elapsed_s > MOST_S:
            raise DemoError(f"after {MOST_S:.0f} s still not so: {what}")

    def running(self, tenant: str) -> int:
        """How many jobs of a tenant run."""
        return sum(job["tenant"] == tenant and job["phase"] == "running" for job in self.jobs.values())

    def placed(self) -> list[Shown]:
        """All that were placed, in the order in which they were."""
        return sorted((job for job in self.jobs.values() if job.get("attempts")), key=_first_placed)

    def check(self, is_right: bool, words: str) -> None:
        """Keep what is wrong."""
        if not is_right:
            self.wrong.append(words)

    def verdicts(self) -> None:
        """Every job did its work once, and none lost its only attempt by giving way."""
        done = Counter(self.fed.journal.read_text().split()[::2])
        for job in self.jobs.values():
            self.check(job["phase"] == "succeeded", f"{job['name']} is {job['phase']}: {job['reason']}")
            self.check(done[job["id"]] == 1, f"{job['name']} did its work {done[job['id']]} times")
        evicted = [job for job in self.jobs.values() if len(job["attempts"]) > 1]
        self.check(bool(evicted), "nothing ever gave way")
        endings = {each["ending"] for job in evicted for each in job["attempts"][:-1]}
        self.check(endings == {"withdrawn"}, f"what gives way is withdrawn: {endings}")

    def table(self) -> Table:
        """A row for each tenant."""
        table = Table(title="Tenants", title_justify="left", box=None, header_style="bold", pad_edge=False)
        for name in ("tenant", "jobs", "gave way", "mean wait s", "mean run s"):
            table.add_column(name, justify="left" if name == "tenant" else "right")
        for tenant in sorted({job["tenant"] for job in self.jobs.values()}):
            own = [job for job in self.jobs.values() if job["tenant"] == tenant]
            gave_way = sum(len(job["attempts"]) - 1 for job in own)
            means = [sum(job[name] or 0.0 for job in own) / len(own) for name in ("wait_s", "run_s")]
            table.add_row(tenant, str(len(own)), str(gave_way), *(f"{mean:.1f}" for mean in means))
        return table


def _are_over(jobs: Iterable[Shown]) -> bool:
    return all(job["phase"] in TERMINAL for job in jobs)


def _first_placed(job: Shown) -> float:
    placed_at: float = job["attempts"][0]["placed_at"]
    return placed_at


def _names(jobs: Iterable[Shown]) -> str:
    return ", ".join(sorted(str(job["name"]) for job in jobs)) or "none"
