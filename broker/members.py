"""This process among the brokers: its lease, whether it leads, which sites it owns, and the fence on every write of theirs.

Leadership and ownership are keys on the lease. The epoch of an ownership is the revision at which its key was created: it
only ever grows. A right counts from the moment the mirror has seen it, so that its holder knows all that was written before.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from broker.clock import Clock
from broker.records import Holder, Member, Restore
from broker.store import keys as kinds
from broker.store.base import Fence, Lease, Saved, Store, StoreError
from broker.store.ledger import Draft, Erase, Ledger, Save
from broker.world import World

log = logging.getLogger(__name__)

LEADERSHIP = ""
"""Among the rights, the name of leadership; the others are named by their site."""

LIFT_MARGIN = 1_000_000
"""Epochs after a restore begin so far above what the member that noticed had seen: others may have seen more."""

CALL_MARGIN_S = 0.3
"""A call ends this long before the lease may: time for its cancellation to take effect."""


@dataclass(frozen=True, slots=True)
class Right:
    """Leadership, or the ownership of a site, held on a lease."""

    site: str
    fence: Fence
    lease: Lease
    lift: int = 0
    """What a restore of the store took from its revisions, and more: see `Restore`."""

    @property
    def epoch(self) -> int:
        """Grows with every change of hands."""
        return self.fence.created + self.lift


class Members:
    """Holds this process's rights. `on_gain` and `on_loss` start and stop the work behind one; `on_loss` drains it."""

    def __init__(
        self,
        me: Member,
        store: Store,
        world: World,
        ledger: Ledger,
        clock: Clock,
        ttl_s: float,
        on_gain: Callable[[Right], Awaitable[None]],
        on_loss: Callable[[Right], Awaitable[None]],
    ) -> None:
        self.me = me
        self.rights: dict[str, Right] = {}
        self._store = store
        self._world = world
        self._ledger = ledger
        self._clock = clock
        self._ttl_s = ttl_s
        self._on_gain = on_gain
        self._on_loss = on_loss
        self._lease: Lease | None = None
        self._reported: list[Right] = []
        self._lift = 0
        self._news = world.signals.subscribe(kinds.MEMBERS, kinds.OWNERS, kinds.LEADER, kinds.SITES, kinds.RESTORE)

    @property
    def is_leader(self) -> bool:
        """Whether this process plans."""
        return LEADERSHIP in self.rights

    def remaining_s(self) -> float:
        """How long the rights surely hold still; 0 without a lease."""
        return max(self._lease.valid_until() - self._clock.boottime(), 0.0) if self._lease else 0.0

    def call_timeout_s(self, most: float) -> float:
        """How long a call to a site may take: at most `most`, and inside the lease. No time while all acting is halted."""
        return 0.0 if self._world.is_halted else min(most, self.remaining_s() - CALL_MARGIN_S)

    async def run(self) -> None:
        """Hold on to what is ours, take what nobody holds, hand over what another should have. For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            while True:
                self._news.clear()
                await self._turn()
                if not self._news.is_set():
                    await self._clock.sleep(self._ttl_s / 12)

    async def _beat(self) -> None:
        """Tell the lease that this event loop is alive, whatever the other calls wait for."""
        while True:
            if self._lease:
                self._lease.heartbeat()
            await self._clock.sleep(self._ttl_s / 12)

    async def leave(self) -> None:
        """Hand everything back: others take over at once, or soon where the store does not answer."""
        await self._drop_all()
        lease, self._lease = self._lease, None
        if lease:
            try:
                await lease.close()
            except StoreError as error:
                log.warning("the lease is left to run out: %s", error)

    def report_loss(self, right: Right) -> None:
        """A write was fenced off, or a site answered that a newer owner is at work: the right goes in the next turn."""
        self._reported.append(right)
        self._news.set()

    async def _turn(self) -> None:
        try:
            if self._lease and self.remaining_s() <= 0:
                log.warning("the lease ran out: all rights are given up and asked for anew")
                await self._drop_all()
                self._lease = None
            if self._lease is None:
                await self._register()
            await self._note_restore()
            await self._check()
            if self._world.is_halted:
                await self._halt()
                return
            await self._let_go()
            await self._claim(self._wanted())
            await self._hand_over()
        except StoreError as error:
            log.warning("the store does not answer the members' loop: %s", error)

    async def _register(self) -> None:
        lease = await self._store.lease(self._ttl_s)
        key = self._world.mirror.keys.of(kinds.MEMBERS, self.me.id)
        result = (await self._ledger.commit([[Save(key, self.me, self._world.revision(key), lease.id)]]))[0]
        if isinstance(result, Saved):
            self._lease = lease
        else:
            await lease.close()

    async def _note_restore(self) -> None:
        """Write down that the store went back. Everybody then pauses until an admin has looked."""
        world, mirror = self._world, self._world.mirror
        self._lift = max(self._lift, world.restore.lift if world.restore else 0)
        rewind = mirror.rewind
        if rewind is None:
            return
        lift = rewind.seen + self._lift - rewind.found + LIFT_MARGIN
        key = mirror.keys.of(kinds.RESTORE)
        restore = Restore(rewind.seen, rewind.found, self._clock.now(), self.me.id, lift)
        if isinstance((await self._ledger.commit([[Save(key, restore, world.revision(key))]]))[0], Saved):
            mirror.rewind = None

    async def _halt(self) -> None:
        """Act no more: on resuming, every right is taken anew and has a new epoch."""
        rights, self.rights = list(self.rights.values()), {}
        for right in rights:
            log.error("%s no more: the store was restored, and waits for `fed resume`", _title(right.site))
            await self._on_loss(right)
            await self._release(right)

    async def _check(self) -> None:
        """Give up rights that were reported lost, or whose key is no longer the one we made."""
        reported, self._reported = self._reported, []
        for name, right in list(self.rights.items()):
            entry = self._world.mirror.entries.get(right.fence.key)
            if right in reported or entry is None or entry.created != right.fence.created:
                log.warning("no longer %s", _title(name))
                del self.rights[name]
                await self._on_loss(right)
                await self._release(right)

    async def _let_go(self) -> None:
        """Take away keys of ours that are no right of ours: the answer to their claim was lost, and nobody else can."""
        stray: list[Draft] = []
        for name in (LEADERSHIP, *self._world.sites):
            entry = self._world.mirror.entries.get(self._key(name))
            if entry and name not in self.rights and entry.value == Holder(self.me.id):
                stray.append([Erase(self._key(name), entry.revision)])
        if stray:
            await self._ledger.commit(stray)

    async def _release(self, right: Right) -> None:
        """Take our key away, if it is still the one we made, so that somebody (perhaps we) can take the right anew."""
        entry = self._world.mirror.entries.get(right.fence.key)
        if entry and entry.created == right.fence.created:
            await self._ledger.commit([[Erase(right.fence.key, entry.revision)]])

    def _wanted(self) -> list[str]:
        """Rights that should be ours and that nobody holds."""
        free = [name for name in (LEADERSHIP, *self._world.sites) if self._key(name) not in self._world.mirror.entries]
        return [name for name in free if name == LEADERSHIP or preferred(name, self._world.members) in (self.me.id, None)]

    async def _claim(self, names: Iterable[str]) -> None:
        names = list(names)
        lease = self._lease
        if not names or lease is None:
            return
        drafts: list[Draft] = [[Save(self._key(name), Holder(self.me.id), 0, lease.id)] for name in names]
        for name, result in zip(names, await self._ledger.commit(drafts), strict=True):
            if isinstance(result, Saved):
                right = Right(name, Fence(self._key(name), result.revision), lease, self._lift)
                await self._world.mirror.reached(result.revision)
                log.info("now %s, epoch %d", _title(name), right.epoch)
                self.rights[name] = right
                await self._on_gain(right)

    async def _hand_over(self) -> None:
        """Give sites away that another member should own, or that are no longer registered; drain them first."""
        for right in [right for name, right in self.rights.items() if name != LEADERSHIP]:
            is_gone = right.site not in self._world.sites
            if is_gone or preferred(right.site, self._world.members) not in (self.me.id, None):
                del self.rights[right.site]
                await self._on_loss(right)
                await self._release(right)

    async def _drop_all(self) -> None:
        rights, self.rights = list(self.rights.values()), {}
        await asyncio.gather(*(self._on_loss(right) for right in rights))

    def _key(self, name: str) -> str:
        keys = self._world.mirror.keys
        return keys.of(kinds.OWNERS, name) if name else keys.of(kinds.LEADER)


def preferred(site: str, members: Iterable[str]) -> str | None:
    """The member that should own a site, by rendezvous hashing (Thaler and Ravishankar, 1998): each weighs the pair of names,
    the heaviest wins, and when a member comes or goes only its own sites move. None without members."""
    return max(members, key=lambda member: (hashlib.blake2b(f"{member}/{site}".encode()).digest(), member), default=None)


def _title(name: str) -> str:
    return f"owner of site {name}" if name else "leader"
