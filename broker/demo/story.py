"""What happens in the demo, step by step, and what was wrong at its end."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from broker.client import TERMINAL, Client
from broker.demo.check import difference, expected, found, lines_of, runs
from broker.demo.drive import START_S, DemoError, Federation
from broker.demo.scenario import HOMES, LATER, Files, Work, federation, first_jobs, place, standard_library
from broker.demo.show import MIB, Narrator, Shown, table_of_jobs, table_of_sites

POLL_S = 0.5
MOST_S = 150.0
"""A demo that takes longer has failed."""
OVER_BEFORE_KILLS = 8
DOWNLOADS_TOGETHER = 4
EXPLAINED = "common-net-am"
FAILING = "wrong"
"""The kind of work that must fail, with FAILING_EXIT."""
FAILING_EXIT = 3


class Story:
    """One run of the demo on a federation that is not started yet."""

    def __init__(self, fed: Federation, narrator: Narrator) -> None:
        self.fed = fed
        self.narrator = narrator
        self.parts: Mapping[str, Files] = {}
        self.work: dict[str, Work] = {}
        """By job id, in the order of submission."""
        self.jobs: dict[str, Shown] = {}
        """As last seen, by id."""

    async def play(self) -> list[str]:
        """Run it all; what was wrong, empty when all is right. Raises DemoError when it cannot go on."""
        await self.build()
        async with Client(self.fed.url, patience_s=START_S) as client:
            await self.measured(client)
            await self.submit("first", first_jobs())
            await self.watch(client, lambda: self.count(*TERMINAL) >= OVER_BEFORE_KILLS and self.count("running") > 0)
            killed = await self.kill()
            await self.watch(client, lambda: self.count(*TERMINAL) == len(self.work))
            await self.submit("later", LATER)
            await self.watch(client, lambda: self.count(*TERMINAL) == len(self.work))
        self.narrator.say("all jobs are over: downloading what they made, and doing the same work here in Python")
        wrong = [*killed(), *await self.verdicts()]
        await self.tell()
        return wrong

    async def build(self) -> None:
        """Put the datasets where they belong, start the broker and declare everything."""
        self.parts = standard_library()
        await asyncio.to_thread(place, self.parts, self.fed.root)
        for name, files in self.parts.items():
            size = sum(map(len, files.values())) / MIB
            self.narrator.say(f"dataset stdlib-{name}: {len(files)} files, {size:.1f} MiB, at {' and '.join(HOMES[name])}")
        path = self.fed.root / "federation.yaml"
        path.write_text(federation(self.fed.root))
        await self.fed.start_broker()
        self.narrator.say(f"fed up --data-dir {self.fed.root / 'broker'} --port {self.fed.port}")
        applied = Counter(each["kind"] for each in (await self.fed.ask("apply", "-f", path))["items"])
        self.narrator.say(f"fed apply -f {path}: {', '.join(f'{count} {kind}' for kind, count in applied.items())}")

    async def measured(self, client: Client) -> None:
        """Wait until the broker has looked at every dataset: before, it can only guess what moving one takes."""
        while any(each["size_bytes"] is None for each in (await client.list("datasets"))["items"]):
            self.check_time()
            await asyncio.sleep(POLL_S)
        self.narrator.say("all datasets are measured")

    def check_time(self) -> None:
        """Raise DemoError, with what the jobs wait for, when the demo takes too long."""
        if self.narrator.elapsed_s > MOST_S:
            late = [job for job in self.jobs.values() if job["phase"] not in TERMINAL]
            raise DemoError("\n  ".join([f"after {MOST_S:.0f} s {len(late)} jobs are not over:", *map(_state, late)]))

    async def submit(self, name: str, works: Sequence[Work]) -> None:
        """Hand in jobs from a file of their own."""
        path = self.fed.root / f"{name}-jobs.yaml"
        path.write_text("\n---\n".join(work.document(self.fed.root) for work in works))
        made = (await self.fed.ask("submit", "-f", path, "--idempotency-key", f"demo-{name}"))["items"]
        by_name = {work.name: work for work in works}
        self.work |= {job["id"]: by_name[job["name"]] for job in made}
        self.jobs |= {job["id"]: job for job in made}
        self.narrator.say(f"fed submit -f {path}: {len(made)} jobs")

    async def watch(self, client: Client, is_done: Callable[[], bool]) -> None:
        """Look at the jobs until it is done. Raises DemoError when that takes too long."""
        while True:
            self.jobs |= {job["id"]: job for job in (await client.jobs(limit=1_000))["items"]}
            self.narrator.progress(self.jobs.values())
            if is_done():
                return
            self.check_time()
            await asyncio.sleep(POLL_S)

    def count(self, *phases: str) -> int:
        """How many jobs are in one of these phases."""
        return sum(job["phase"] in phases for job in self.jobs.values())

    async def kill(self) -> Callable[[], Iterable[str]]:
        """Kill the engine of the site where most is running, then the broker, and start the broker again. Returns what says, at
        the end, whether the engine came back."""
        running = Counter(job["site"] for job in self.jobs.values() if job["phase"] == "running")
        site = running.most_common(1)[0][0]
        engine = await self.fed.kill_engine(site)
        self.narrator.say(f"kill -9 {engine}: the engine of {site}, while {running[site]} jobs run there")
        await asyncio.sleep(1.0)
        broker = await self.fed.kill_broker()
        self.narrator.say(f"kill -9 {broker}: the broker, and with it its etcd, while {self.count('running')} jobs run")
        await asyncio.sleep(1.0)
        await self.fed.start_broker()
        self.narrator.say("fed up, on the same directory and port")

        def is_back() -> Iterable[str]:
            if self.fed.engine(site) == engine:
                yield f"the engine of {site} did not come back"

        return is_back

    async def verdicts(self) -> list[str]:
        """Every job against its twin in Python, and the journal against every task having run once."""
        gate = asyncio.Semaphore(DOWNLOADS_TOGETHER)
        wrong = []
        results = self.fed.root / "results"
        results.mkdir()

        async def download(job: str) -> None:
            async with gate:
                self.narrator.doing(f"results: {len(list(results.iterdir()))} of {len(succeeded)}")
                try:
                    await self.fed.fed("download", job, "--to", results)
                except DemoError as error:
                    wrong.append(str(error))

        succeeded = [job for job in self.work if self.jobs[job]["phase"] == "succeeded"]
        async with asyncio.TaskGroup() as group:
            for job in succeeded:
                group.create_task(download(job))
        self.narrator.say(f"fed download: {len(succeeded)} results")
        wrong += [f"{work.name}: {why}" for job, work in self.work.items() if (why := self._verdict(self.jobs[job], work))]
        due = [line for job, work in self.work.items() for line in lines_of(job, self.jobs[job]["attempt"], work)]
        return wrong + runs(self.fed.journal.read_text(), due)

    def _verdict(self, job: Shown, work: Work) -> str:
        if work.kind == FAILING:
            end = (job["phase"], job["exit_code"], job["attempt"])
            return "" if end == ("failed", FAILING_EXIT, 1) else f"should fail once with {FAILING_EXIT}, and is {end}"
        if job["phase"] != "succeeded":
            return f"{job['phase']}: {job['reason']}"
        return difference(expected(work, self.parts), found(work, self.fed.root / "results" / work.name))

    async def tell(self) -> None:
        """The tables, and how one decision is explained."""
        jobs = [self.jobs[job] for job in self.work]
        brought = self._brought((await self.fed.ask("get", "datasets"))["items"])
        explanation = await self.fed.fed("why", EXPLAINED)
        self.narrator.show(table_of_jobs(jobs, self.work), table_of_sites(jobs, brought), f"fed why {EXPLAINED}\n{explanation}")

    def _brought(self, datasets: Iterable[Mapping[str, Any]]) -> Mapping[str, int]:
        """Bytes of copies by site, without those that were there at first or made there."""
        made_at = {job["name"]: (job["site"],) for job in self.jobs.values()}
        home = {**made_at, **{f"stdlib-{part}": sites for part, sites in HOMES.items()}}
        brought: dict[str, int] = defaultdict(int)
        for dataset in datasets:
            for site in set(dataset["sites"]) - set(home[dataset["name"]]):
                brought[site] += dataset["size_bytes"] or 0
        return brought


def _state(job: Shown) -> str:
    return f"{job['name']}: {job['phase']} {job['reason']}"
