"""`python -m broker.demo [sharing] [--keep DIR]`: exit code 0 only if all is right, each job ran once and nothing is left."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from broker.demo.drive import DemoError, Federation
from broker.demo.sharing import Sharing
from broker.demo.show import Narrator
from broker.demo.story import Story

INTERRUPTED = 130
STORIES: Mapping[str, type[Story] | type[Sharing]] = {"federation": Story, "sharing": Sharing}


async def demo(name: str, root: Path, narrator: Narrator) -> list[str]:
    """One of `STORIES` below `root`; what was wrong. All that it started is ended when this returns or raises."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    fed = Federation(root)
    wrong = []
    try:
        wrong += await STORIES[name](fed, narrator).play()
    except DemoError as error:
        wrong.append(str(error))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # asked twice, we would leave things running
            loop.add_signal_handler(number, narrator.say, "ending all that was started")
        wrong += await fed.stop()
    return wrong


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m broker.demo", description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all files there, in a directory that is empty or absent")
    parser.add_argument("story", nargs="?", choices=STORIES, default="federation", help="what is shown")
    given = parser.parse_args()
    kept: Path | None = given.keep
    root = (kept or Path(tempfile.mkdtemp(prefix="fed-demo-"))).resolve()
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        parser.error(f"{root} is not empty")
    with Narrator() as narrator:
        try:
            wrong = asyncio.run(demo(given.story, root, narrator))
        except (KeyboardInterrupt, asyncio.CancelledError):
            narrator.say("interrupted: all that was started is ended")
            wrong, code = [], INTERRUPTED
        else:
            code = 1 if wrong else 0
        for line in wrong:
            narrator.console.print("WRONG", line, style="red", markup=False)
        if wrong:
            narrator.say(f"{len(wrong)} things are not right; all files are in {root}")
        elif not code:
            narrator.say("every result is right, every job ran once, nothing is left running")
        if kept is None and not wrong:
            shutil.rmtree(root)
        return code


if __name__ == "__main__":
    sys.exit(main())
