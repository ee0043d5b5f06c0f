"""What befalls a simulated process is what befalls a real one."""

import asyncio

import pytest

from tests.faults.process import PROCESS, Blow, Process, Strike, enrol, wrap
from tests.faults.virtual import Stuck, VirtualLoop


def story(*strikes: Strike) -> list[str]:
    """A process counts to five, a second each, while the world waits for twelve; what each of them says."""
    said: list[str] = []
    loop = VirtualLoop(wrap, enrol)

    async def count() -> None:
        try:
            for number in range(1, 6):
                await asyncio.sleep(1)
                said.append(f"{loop.time():g}: {number}")
        finally:
            said.append("cleaned up")

    def strike(process: Process, strike: Strike, places: list[str]) -> None:
        match strike.blow:
            case Blow.KILL:
                process.is_dead = True
            case Blow.CANCEL:
                loop.call_soon(process.cancel)
            case Blow.PAUSE:
                process.is_paused = True
                loop.call_later(strike.seconds, process.resume)

    async def world() -> None:
        PROCESS.set(Process("p", strikes, strike))
        task = asyncio.ensure_future(count())
        PROCESS.set(None)
        await asyncio.sleep(12)
        said.append("done" if task.done() else "not done")

    loop.run_until_complete(loop.create_task(world()))
    loop.close()
    return said


def test_left_alone_it_counts_in_virtual_time():
    assert story() == ["1: 1", "2: 2", "3: 3", "4: 4", "5: 5", "cleaned up", "done"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_killed_it_never_takes_another_step_and_cleans_nothing_up():
    assert story(Strike(Blow.KILL, 3))[:3] == ["1: 1", "2: 2", "not done"]


def test_cancelled_it_cleans_up():
    assert story(Strike(Blow.CANCEL, 3)) == ["1: 1", "2: 2", "cleaned up", "done"]


def test_paused_it_goes_on_late():
    # its third sleep began at 2 s and is over at 3 s; paused at 2 s for 5 s it hears of that at 7 s
    assert story(Strike(Blow.PAUSE, 3, 5.0)) == ["1: 1", "2: 2", "7: 3", "8: 4", "9: 5", "cleaned up", "done"]


def test_when_everybody_waits_for_somebody_else_the_loop_says_so():
    loop = VirtualLoop(wrap, enrol)
    with pytest.raises(Stuck):
        loop.run_until_complete(loop.create_future())
    loop.close()
