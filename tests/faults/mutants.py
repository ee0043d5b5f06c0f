"""Faults built into the broker on purpose: the promises must find each of them, or they prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.store.base import Change, Fence, Result
from broker.store.mirror import Mirror
from tests.faults.brokers import Parts
from tests.faults.mutation import load_mutant
from tests.faults.sites import Engine, SiteStorages
from tests.faults.store import FaultyStore
from tests.faults.world import Setup
from topology.site import Site


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is wrong with it, and how it is made. It is found within `within` seeds."""

    why: str
    setup: Callable[[], Setup]
    within: int = 4000


class Unfenced(FaultyStore):
    """A store that forgets the fence."""

    async def commit(self, changes: Sequence[Change], fence: Fence | None = None) -> Sequence[Result]:
        """See `Store.commit`."""
        return await super().commit(changes, None)


class Unclaimed(Engine):
    """Runs that start without looking at their claim."""

    def _start(self, held: object, at: float) -> bool:
        self.claims.pop(held.run.claim, None)
        return super()._start(held, at)


class Nodding(SiteStorages):
    """Claims that are always said to be taken."""

    async def create(self, site: Site, path: str) -> bool:
        """See `Claims.create`."""
        await self._pass(site.name)
        return True


class Hasty(Mirror):
    """A mirror that does not wait until it knows."""

    async def reached(self, revision: int) -> None:
        """See `Mirror.reached`."""
        if revision == 1:
            await super().reached(revision)


def _sites(name: str, **replaced: tuple[str, str]) -> Callable[[], Setup]:
    """Site work with one text replaced in a module of `broker/sites`."""

    def setup() -> Setup:
        module = load_mutant(name, "broker.sites", "registry", {rest: [pair] for rest, pair in replaced.items()})
        return Setup(Parts(registry=module.Registry))

    return setup


def _planner(name: str, old: str, new: str) -> Callable[[], Setup]:
    def setup() -> Setup:
        return Setup(Parts(planner=load_mutant(name, "broker", "planner", {"planner": [(old, new)]}).Planner))

    return setup


def _members(name: str, old: str, new: str) -> Callable[[], Setup]:
    def setup() -> Setup:
        return Setup(Parts(members=load_mutant(name, "broker", "members", {"members": [(old, new)]}).Members))

    return setup


MUTANTS: dict[str, Mutant] = {
    "no-fence": Mutant("writes are not bound to the right to write", lambda: Setup(store=Unfenced)),
    "no-claim": Mutant("runs do not heed their claim", lambda: Setup(engine=Unclaimed)),
    "claims-unmade": Mutant("the broker gives attempts up without making their claims", lambda: Setup(storages=Nodding)),
    "lagging-mirror": Mutant("a new owner acts before its mirror knows of what went before", lambda: Setup(Parts(mirror=Hasty))),
    "resend": Mutant(
        "a run in doubt is sent again without looking for it",
        _sites("resend", owed=("is_fresh = doubt is None and job.state_revision > epoch", "is_fresh = True")),
    ),
    "one-look": Mutant(
        "one look in vain is enough to send again",
        _sites(
            "one_look",
            owed=("return replace(doubt, first_look=began)", "return replace(doubt, first_look=began, is_cleared=True)"),
        ),
    ),
    "unknown-is-no": Mutant(
        "no answer is taken for a refusal",
        _sites(
            "unknown_is_no",
            dispatch=(
                "            outcome = outcomes.get(run.name)\n",
                "            outcome = outcomes.get(run.name)\n"
                "            before[run.name] = None\n"
                "            outcome = outcome if isinstance(outcome, Accepted) else Refused('?')\n",
            ),
        ),
    ),
    "missing-unclaimed": Mutant(
        "a missing run is given up without its claim",
        _sites("missing_unclaimed", observe=("taken = await site.claim(nowhere)", "taken = dict.fromkeys(nowhere, True)")),
    ),
    "missing-at-once": Mutant(
        "a run is missing in listings that began before its acceptance was stored, or settled",
        _sites("missing_at_once", owed=("return began >= accepted_seen + settling_s", "return True")),
    ),
    "part-for-whole": Mutant(
        "a run is missing in a listing that is not whole",
        _sites("part_for_whole", observe=("return seen.is_whole and since is not None", "return since is not None")),
    ),
    "forget-early": Mutant(
        "a site is told to forget what is over before the end is stored",
        _sites(
            "forget_early",
            observe=(
                "        await self._settle(seen)\n",
                "        early = [name for name, report in seen.reports.items() if report.state.is_over]\n"
                "        if early:\n"
                "            refs = _refs(early, seen.reports)\n"
                "            await site.calls.make('forget', lambda call: site.adapter.forget(refs, call))\n"
                "        await self._settle(seen)\n",
            ),
        ),
    ),
    "evict-unnoted": Mutant(
        "what may still run at a lost site is not written down",
        _sites("evict_unnoted", owed=("beside = (unresolved(job, now),) if phase in OPEN else ()", "beside = ()")),
    ),
    "cancel-unclaimed": Mutant(
        "what was never accepted is ended without its claim",
        _sites("cancel_unclaimed", stop=("taken = await site.claim(names)", "taken = dict.fromkeys(names, True)")),
    ),
    "wrong-output": Mutant(
        "the outputs of the first attempt are published, whichever it was that ran",
        _sites(
            "wrong_output",
            collect=(
                "output_path(owed.name_of(job, site.federation), output)",
                "output_path(f'{site.federation}-{job.id}-a1', output)",
            ),
        ),
    ),
    "room-unheld": Mutant(
        "placement does not count what is placed and not yet seen",
        _planner(
            "room_unheld",
            "        made = await self._runner(given)",
            "        from dataclasses import replace\n"
            "        given = replace(given, sites=tuple(replace(site, held=()) for site in given.sites))\n"
            "        made = await self._runner(given)",
        ),
    ),
    "shares-unbooked": Mutant(
        "placement does not count the shares of transfers under way",
        _planner(
            "shares_unbooked",
            "        made = await self._runner(given)",
            "        from dataclasses import replace\n"
            "        given = replace(given, bookings=())\n"
            "        made = await self._runner(given)",
        ),
    ),
    "claims-in-doubt": Mutant(
        "a right whose claim had no answer is never claimed again",
        _members("claims_in_doubt", "            await self._let_go()\n", ""),
    ),
}
