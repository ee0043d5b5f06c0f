"""The application master: takes the run's claim, runs task 0 in its own container, and the others, if any, in containers that are
held all at once before the first one starts.

It is sent with every application, so that nothing has to be installed at a site but Python 3.8. What it found out goes to the
resource manager as a line of diagnostics (`task.Ending.line`), and where the tasks are into a file of its logs (`PLACES`).
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import sys
import time
import xml.etree.ElementTree
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Mapping, Sequence  # noqa: UP035 - runs on older Pythons

from adapters.yarn.master.driver import drive
from adapters.yarn.master.scheduler import Dismissed, Ended, Held, Scheduler, Size, ask_for, launch_of, say
from adapters.yarn.master.task import LOGS, OURS, Ending, Task, signal_the_others
from adapters.yarn.master.wire import read_tokens

ORDER = f"{OURS}_ORDER"
"""Environment variables `<this>_0`, `<this>_1` ... are the order in pieces, since one may not be longer than 128 KiB."""
CODE = f"{OURS}_CODE"
"""Environment variable that holds this program, as a zip in base64."""
TASK = f"{OURS}_TASK"
"""Environment variable that says which task a container is; the master's own container has none."""
PLACES = "places"
"""File of the master's logs: task to its container, and the address of its node manager's pages."""
OUTPUT = "stdout"
"""File of a container's logs: its task's output."""
LOOK_S = 0.02
GATHER_BEAT_S = 0.2
RUN_BEAT_S = 0.5
WAITS, RUNS = 0.0, 0.5
"""The progress that is told while containers are gathered, and after."""
_STATUS_REASONS = {
    -1: ("node-lost", "its node manager could not launch it"),
    -100: ("node-lost", "its node was lost, or its container given back"),
    -101: ("node-lost", "the disks of its node failed"),
    -102: ("preempted", "its container was preempted"),
    -103: ("out-of-memory", "over its virtual memory"),
    -104: ("out-of-memory", "over its memory"),
    -106: ("node-lost", "the resource manager ended its container"),
    -108: ("preempted", "the node manager wanted its container for others"),
    -1000: ("start-failed", "its container could not be prepared"),
}
"""ContainerExitStatus to a reason and words:
https://hadoop.apache.org/docs/stable/api/org/apache/hadoop/yarn/api/records/ContainerExitStatus.html"""


@dataclass(frozen=True)
class Order:
    """What this application is to do. Scripts are for sh; `claim` is run once, `task` with the number of each."""

    tasks: int
    claim: str
    task: str
    size: Size
    label: str
    patience_s: float
    grace_s: float
    walltime_s: float | None
    scheduler: str | None
    command: str
    masters_itself: bool = False
    """Whether the task is what registers with the resource manager, and asks it for containers: see `driver.drive`."""

    @staticmethod
    def read(environment: Mapping[str, str]) -> Order:
        """From the variables that `codec.submission` gives the first container."""
        text = "".join(environment[f"{ORDER}_{number}"] for number in range(sum(name.startswith(ORDER) for name in environment)))
        fields: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(text)))
        return Order(**{**fields, "size": Size(**fields["size"])})


def addresses(order: Order, environment: Mapping[str, str]) -> Sequence[str]:
    """Of the resource manager's scheduler: as ordered, or as this node's yarn-site.xml says."""
    if order.scheduler:
        return [order.scheduler]
    root = xml.etree.ElementTree.parse(Path(environment["HADOOP_CONF_DIR"]) / "yarn-site.xml").getroot()
    site = {each.findtext("name", "").strip(): each.findtext("value", "").strip() for each in root.iter("property")}
    prefix = "yarn.resourcemanager"
    suffixes = [f".{each.strip()}" for each in site.get(f"{prefix}.ha.rm-ids", "").split(",") if each.strip()] or [""]
    return [
        site.get(f"{prefix}.scheduler.address{suffix}") or site[f"{prefix}.hostname{suffix}"] + ":8030" for suffix in suffixes
    ]


class Master:
    """One run, from its claim to its end."""

    def __init__(self, order: Order, scheduler: Scheduler, logs: Path) -> None:
        self._order = order
        self._scheduler = scheduler
        self._logs = logs
        self._held: dict[str, Held] = {}

    def run(self) -> Ending:
        """Do what was ordered; how it ended. Raises Dismissed."""
        if self._order.masters_itself:
            refusal = self._claim()
            if refusal is None:
                return drive(self._order.task, self._logs / OUTPUT, self._order.walltime_s)
        elif self._order.tasks > 1:
            self._scheduler.register()
            refusal = self._gather() or self._claim()
        else:
            refusal = self._claim()
            self._scheduler.register()
        return replace(refusal, has_started=False) if refusal else self._tasks()

    def _claim(self) -> Ending | None:
        """Take the claim; why not, if not."""
        ending = Task(self._order.claim, 0, self._logs / "claim").wait()
        if ending.is_success:
            return None
        return ending if ending.reason else Ending(reason="node-lost", message=f"taking the claim: {ending.line()}")

    def _gather(self) -> Ending | None:
        """Hold a container for every task but the first; give all back when that takes too long."""
        order, wanted = self._order, self._order.tasks - 1
        deadline = time.monotonic() + order.patience_s
        ask = ask_for(wanted, order.size, order.label)
        while len(self._held) < wanted:
            beat = self._scheduler.beat(WAITS, ask)
            if beat is not None and beat.is_new_life:  # what was given and not started is forgotten there
                self._held.clear()
                ask = ask_for(wanted, order.size, order.label)
            elif beat is not None:
                self._held.update((held.name, held) for held in beat.given)
                lost = [self._held.pop(ended.name) for ended in beat.ended if ended.name in self._held]
                ask = ask_for(wanted - len(self._held), order.size, order.label) if lost else b""
            if time.monotonic() > deadline:
                self._scheduler.beat(WAITS, ask_for(0, order.size, order.label), [held.raw_id for held in self._held.values()])
                got = f"{1 + len(self._held)} of {order.tasks} containers in {order.patience_s:g} s"
                return Ending(reason="preempted", message=f"gave its containers back: {got}, and nothing was started")
            time.sleep(GATHER_BEAT_S if len(self._held) < wanted else 0)
        return None

    def _tasks(self) -> Ending:
        """Start every task; the ending of the first one that fails, or of task 0."""
        began = time.monotonic()
        order = self._order
        names, failure = self._start_others()
        if failure:
            return Ending(reason="node-lost", message=f"a container could not be started: {failure}")
        local = Task(order.task, 0, self._logs / OUTPUT)
        own: Ending | None = None
        next_beat = 0.0
        while own is None or names:
            own = own or local.ending()
            if own is not None and not own.is_success:
                return own
            now = time.monotonic()
            if order.walltime_s is not None and now - began > order.walltime_s:
                return Ending(reason="walltime", message=f"ran for longer than {order.walltime_s:g} s")
            if now >= next_beat:
                next_beat = now + RUN_BEAT_S
                beat = self._scheduler.beat(RUNS)
                if beat is not None and beat.is_new_life:  # it shows our progress only once it is told again
                    next_beat = now
                for ended in beat.ended if beat else ():
                    number = names.pop(ended.name, None)
                    if number is not None and ended.status != 0:
                        return ending_of(number, ended)
            time.sleep(LOOK_S)
        return own

    def _start_others(self) -> tuple[dict[str, int], str]:
        """Container to task of what was started, and what could not be."""
        order = sorted(self._held.values(), key=lambda held: (held.node, held.name))
        numbers = {held.name: number for number, held in enumerate(order, 1)}
        places = {number: {"container": held.name, "web": held.web} for number, held in enumerate(order, 1)}
        draft = self._logs / f"{PLACES}.draft"
        draft.write_text(json.dumps(places))
        draft.rename(self._logs / PLACES)
        carried = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
        for _, group in groupby(order, key=lambda held: held.node):
            held = list(group)
            own = [{**carried, TASK: str(numbers[each.name]), LOGS: "<LOG_DIR>"} for each in held]
            failure = self._scheduler.start(held, [launch_of(each, self._order.command) for each in own])
            if failure:
                return {}, failure
        return numbers, ""


def ending_of(number: int, ended: Ended) -> Ending:
    """How the task in a container ended that was not the master's."""
    told = Ending.read(ended.diagnostics)
    if ended.status in _STATUS_REASONS:
        reason, words = _STATUS_REASONS[ended.status]
        return Ending(reason=reason, message=f"task {number}: {words}")
    if told:
        return replace(told, message=f"task {number}: {told.message}" if told.message else f"task {number}")
    if ended.status > 128:
        return Ending(signal=ended.status - 128, message=f"task {number}: its container was ended")
    words = f"container exit status {ended.status}: {ended.diagnostics[-500:]}"
    return Ending(reason="start-failed", message=f"task {number}: {words}")


def main() -> None:
    """Be the master of an application or, in a container that it started, one of its tasks."""
    order, logs = Order.read(os.environ), Path(os.environ[LOGS])
    number = os.environ.get(TASK)
    if number is not None:
        ending = Task(order.task, int(number), logs / OUTPUT).wait()
        print(ending.line(), file=sys.stderr, flush=True)
        sys.exit(0 if ending.is_success else 1)
    tokens = read_tokens(Path(os.environ["HADOOP_TOKEN_FILE_LOCATION"]).read_bytes())
    token = next(token for token in tokens if token.kind == "YARN_AM_RM_TOKEN")
    scheduler = Scheduler(addresses(order, os.environ), token)
    try:
        ending = Master(order, scheduler, logs).run()
        if signal_the_others(signal.SIGTERM):
            deadline = time.monotonic() + order.grace_s
            while time.monotonic() < deadline and signal_the_others(signal.SIGCONT):
                time.sleep(LOOK_S)
            signal_the_others(signal.SIGKILL)
        scheduler.finish(ending.is_success, ending.line())
    except Dismissed as dismissed:
        say(f"dismissed: {dismissed}")
        signal_the_others(signal.SIGKILL)
        sys.exit(1)
