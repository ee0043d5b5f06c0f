"""What runs at the site as the entrypoint of a job: carried there as text, it needs the standard library and, for gangs, ray.

It starts each task's shell script, keeps its output beside Ray's own logs, ends it with its walltime, its gang or a cancel, and
tells in lines of its own output what came of it: `@fed {"began": ...}`, `@fed {"at": [node ids]}` and last `@fed {"ended": ...}`.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from typing import Any

PAUSE_S = 0.02
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
GUARD = 'exec 3<&0; { read end <&3 || kill -9 "-$1"; } &'
"""Ends a group of processes with us, however we end: Ray kills the processes that ours started, and not those that these started.
It is nobody's child, so that Ray does not kill it too."""


def logs_dir() -> str:
    """Where Ray keeps this node's logs and serves them from."""
    ours = os.readlink("/proc/self/fd/1")
    if os.path.isabs(ours) and os.path.basename(os.path.dirname(ours)) == "logs":
        return os.path.dirname(ours)
    import ray

    return str(ray._private.worker._global_node.get_logs_dir_path())


class Task:
    """One task: its shell script and what came of it."""

    def __init__(self, spec: dict[str, Any], number: int, start: str) -> None:
        self._spec, self._stopping = spec, threading.Event()
        self._own = tempfile.mkdtemp(prefix="fed-")
        libc = ctypes.CDLL(None)

        def die_with_us() -> None:
            libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())

        script = os.path.join(self._own, "task.sh")
        with open(script, "w") as text:
            text.write(spec["shell"])
        env = {**os.environ, "FED_TASK": str(number), "FED_START": start, "FED_OWN": self._own}
        with open(os.path.join(logs_dir(), f"fed-{spec['name']}.{number}.log"), "ab") as log:
            self._child = subprocess.Popen(
                ["/bin/sh", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True, preexec_fn=die_with_us,
            )  # fmt: skip
        heard, self._held = os.pipe()
        guard = ["/bin/sh", "-c", GUARD, "fed-guard", str(self._child.pid)]
        subprocess.run(
            guard, stdin=heard, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, check=True
        )
        os.close(heard)
        self._began: float | None = None

    def begin(self) -> float | None:
        """When its program started, or None if it never does."""
        while self._look() is None and self._child.poll() is None:
            time.sleep(PAUSE_S)
        return self._look()

    def finish(self) -> dict[str, Any]:
        """Waits for its end, and tells of it."""
        stopped_at = None
        while self._child.poll() is None:
            if self._stopping.is_set() and stopped_at is None:
                stopped_at = time.monotonic()
                self._signal(signal.SIGTERM)
            if stopped_at is not None and time.monotonic() - stopped_at >= self._spec["grace"]:
                self._signal(signal.SIGKILL)
            time.sleep(PAUSE_S)
        self._signal(signal.SIGKILL)  # what it left running in the background
        os.write(self._held, b"end\n")
        os.close(self._held)
        code = self._child.returncode
        end: dict[str, Any] = {"began": self._look(), "code": code if code >= 0 else None, "signal": -code if code < 0 else None}
        left = os.path.join(self._own, "left")
        if os.path.exists(left):
            with open(left) as words:
                end["reason"], _, end["message"] = words.read().partition(" ")
        shutil.rmtree(self._own, ignore_errors=True)
        return end

    def stop(self) -> None:
        """Its end is wanted."""
        self._stopping.set()

    def _look(self) -> float | None:
        if self._began is None:
            try:
                told = os.stat(os.path.join(self._own, "begun")).st_mtime
            except FileNotFoundError:
                told = None
            self._began = self._began or told  # another thread may have seen it, and removed the folder since
        return self._began

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._child.pid, number)
        except ProcessLookupError:
            return


def tell(**words: Any) -> None:
    """A line for the adapter."""
    print("\n@fed " + json.dumps(words), flush=True)


def failed(end: dict[str, Any]) -> bool:
    """Whether a task's end is not a good one."""
    return end["code"] != 0 or "reason" in end


def run_one(spec: dict[str, Any], cancelled: threading.Event) -> list[dict[str, Any]]:
    """A run of one task."""
    task = Task(spec, 0, uuid.uuid4().hex)
    began = task.begin()
    if began is not None:
        tell(began=began)
    ends: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: ends.append(task.finish()))
    waiting.start()
    over_at = began + spec["walltime"] if began is not None and spec["walltime"] is not None else None
    is_late = False
    while waiting.is_alive():
        is_late = is_late or (over_at is not None and time.time() >= over_at and not cancelled.is_set())
        if is_late or cancelled.is_set():
            task.stop()
        waiting.join(PAUSE_S)
    if is_late:
        ends[0].update(reason="walltime")
    return ends


def run_gang(spec: dict[str, Any], cancelled: threading.Event) -> list[dict[str, Any]]:
    """A run of several: all get their places together, and all end with the first that fails."""
    import ray
    from ray.util.placement_group import placement_group, placement_group_table
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    handler = signal.getsignal(signal.SIGTERM)
    ray.init(address="auto", log_to_driver=False, logging_level="error")
    signal.signal(signal.SIGTERM, handler)
    count = spec["tasks"]
    more = {"bundle_label_selector": [spec["labels"]] * count} if spec["labels"] else {}
    places = placement_group([spec["bundle"]] * count, strategy="PACK", name=spec["name"], **more)
    while not places.wait(0.5):
        if cancelled.is_set():
            return []
    at = placement_group_table(places)["bundles_to_node_id"]
    tell(at=[at[number] for number in range(count)])
    bundle = dict(spec["bundle"])
    options = {
        "num_cpus": bundle.pop("CPU", 0), "num_gpus": bundle.pop("GPU", 0), "memory": bundle.pop("memory", 0),
        "resources": bundle, "max_concurrency": 3, "max_restarts": 0,
    }  # fmt: skip
    actor, start = ray.remote(Task), uuid.uuid4().hex
    tasks = [
        actor.options(
            scheduling_strategy=PlacementGroupSchedulingStrategy(places, placement_group_bundle_index=number), **options
        ).remote(spec, number, start)
        for number in range(count)
    ]
    beginning = {task.begin.remote(): number for number, task in enumerate(tasks)}
    ending = {task.finish.remote(): number for number, task in enumerate(tasks)}
    begins: dict[int, float | None] = {}
    ends: dict[int, dict[str, Any]] = {}
    began = over_at = first = stopped_at = None
    while ending:
        done, _ = ray.wait([*beginning, *ending], num_returns=1, timeout=0.1)
        for each in done:
            number = beginning.get(each, ending.get(each, 0))
            try:
                value = ray.get(each)
            except ray.exceptions.RayError as error:
                reason = "out-of-memory" if isinstance(error, ray.exceptions.OutOfMemoryError) else "node-lost"
                lost = {"began": None, "code": None, "signal": None, "reason": reason, "message": str(error)[:500]}
                value = None if each in beginning else lost
            if beginning.pop(each, None) is not None:
                begins[number] = value
            elif ending.pop(each, None) is not None:
                ends[number] = value
                if failed(value) and first is None and stopped_at is None:
                    first = number
        if began is None and len(begins) == count and None not in begins.values():
            began = max(float(each or 0) for each in begins.values())
            over_at = began + spec["walltime"] if spec["walltime"] is not None else None
            tell(began=began)
        is_late = over_at is not None and time.time() >= over_at
        if stopped_at is None and (is_late or cancelled.is_set() or first is not None):
            stopped_at = time.monotonic()
            for task in tasks:
                task.stop.remote()
            if is_late and first is None and not cancelled.is_set():
                first = -1
        if stopped_at is not None and time.monotonic() - stopped_at > spec["grace"] + 5:
            for number in ending.values():
                ray.kill(tasks[number])
    if began is None and all(end["began"] for end in ends.values()):
        tell(began=max(end["began"] for end in ends.values()))
    if first == -1:
        return [{**ends[0], "reason": "walltime"}]
    return [ends[number] for number in ([first] if first is not None else range(count))]


def main() -> None:
    """Runs what the first argument says; its exit code is that of the first task that failed."""
    spec = json.loads(zlib.decompress(base64.b64decode(sys.argv[1])))  # type: ignore[name-defined]  # noqa: F821 - by who carries us
    cancelled = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: cancelled.set())
    ends = (run_one if spec["tasks"] == 1 else run_gang)(spec, cancelled)
    end: dict[str, Any] = next(filter(failed, ends), ends[0] if ends else {"code": None, "signal": None})
    tell(ended=time.time(), cancelled=cancelled.is_set(), **end)
    sys.stdout.flush()
    code = end["code"] if end["code"] is not None else 128 + (end["signal"] or 0)
    os._exit(code if code or not failed(end) else 1)


if __name__ == "__main__":
    main()
