"""The stand-in's mbatchd: takes the commands' words over a socket, keeps jobs in an event log, and puts them on hosts.

`python -m tests.engines.lsf.mbatchd FOLDER`. Killed and started again it goes on: what runs has a runner of its own
(`runner.py`).
"""

from __future__ import annotations

import asyncio
import json
import marshal
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.engines.lsf import control, history, show_jobs, show_site
from tests.engines.lsf.placing import add, loads, place, requirement_of
from tests.engines.lsf.records import ON_HOSTS, Config, Events, Job
from tests.engines.lsf.submit import NotSubmitted, Request, jobs_of, names_queue, needs_stdin, pack_lines, said
from tests.engines.lsf.tables import Misused

RUNNER = Path(__file__).with_name("runner.py")
Answer = tuple[str, str, int]


class Daemon:
    """All that it knows, in one folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = Config.load(home / "cluster.json")
        self.events = Events(home / "lsb.events")
        self.next_id = max(self.events.last_id + 1, self.config.first_id)
        self._control: dict[str, list[str]] = {"shut": [], "lost": []}
        self._children: list[subprocess.Popen[bytes]] = []
        self._is_due = True

    @property
    def jobs(self) -> list[Job]:
        """All, in the order of submission."""
        return list(self.events.jobs.values())

    def answer(self, found: dict[str, Any]) -> dict[str, Any]:
        """What a client is to print, or that it shall send its standard input as well."""
        request = Request(tuple(found["argv"]), found["env"], found["cwd"], found["user"], found["host"], found.get("stdin"))
        program, words = request.argv[0], request.argv[1:]
        try:
            if program == "bsub" and request.stdin is None and needs_stdin(words):
                return {"needs": "stdin"}
            out, err, code = self._commands()[program](request)
        except (Misused, NotSubmitted) as error:
            out, err, code = "", f"{error}\n", 255
        self._is_due = True
        return {"out": out, "err": err, "code": code}

    def _commands(self) -> dict[str, Callable[[Request], Answer]]:
        recent = [job for job in self.jobs if job.ended_at is None or job.ended_at > time.time() - self.config.clean_period_s]
        site = partial(show_site.Site, self.config, recent, self._control["shut"], self._control["lost"])
        shown = {name: getattr(show_site, name) for name in show_site.COMMANDS}
        return {
            **{name: (lambda request, show=show: show(request, site())) for name, show in shown.items()},
            "bsub": self._bsub,
            "bjobs": lambda request: show_jobs.bjobs(request, recent),
            "bpeek": lambda request: show_jobs.bpeek(request, recent, self._output),
            "bhist": lambda request: history.bhist(request, self.jobs),
            "bacct": lambda request: history.bacct(request, self.jobs),
            "bkill": lambda request: self._changed(control.bkill(request, recent, self._signal)),
            "bstop": lambda request: self._changed(control.bstop(request, recent, self._signal)),
            "bresume": lambda request: self._changed(control.bresume(request, recent, self._signal)),
        }

    def _changed(self, answer: Answer) -> Answer:
        self.events.save([job for job in self.jobs if not job.is_over or (job.ended_at or 0) > time.time() - 5])
        return answer

    def _bsub(self, request: Request) -> Answer:
        words = request.argv[1:]
        if words[:1] != ("-pack",):
            return self._submit(Request(words, request.env, request.cwd, request.user, request.host, request.stdin)), "", 0
        if not self.config.max_pack_jobs:
            raise NotSubmitted("Job packs are not enabled (LSB_MAX_PACK_JOBS). Job not submitted.")
        out, err = [], []
        for number, line in enumerate(pack_lines(words[1]), 1):
            try:
                out.append(self._submit(Request(tuple(line), request.env, request.cwd, request.user, request.host, "")))
            except NotSubmitted as error:
                err.append(f"Line {number}: {error}\n")
                break  # LSB_PACK_SKIP_ERROR=N, the default
        return "".join(out), "".join(err), 255 if err else 0

    def _submit(self, request: Request) -> str:
        jobs = jobs_of(request, self.config, self.next_id)
        self.next_id += 1
        self.events.save(jobs)
        return said(jobs, not names_queue(request.argv, request.stdin))

    def turn(self) -> None:
        """One look at what ended, and at what can start."""
        self._read_control()
        self._children = [child for child in self._children if child.poll() is None]
        for job in [job for job in self.jobs if job.state in (*ON_HOSTS, "ZOMBI")]:
            self._look_at(job)
        if self._is_due:
            self._is_due = False
            self._dispatch()

    def _read_control(self) -> None:
        path = self.home / "control.json"
        found = json.loads(path.read_text()) if path.exists() else {"shut": [], "lost": []}
        if found != self._control:
            self._control, self._is_due = found, True

    def _look_at(self, job: Job) -> None:
        folder, lost = self._folder(job), set(self._control["lost"])
        if lost & {name for name, _ in job.hosts}:
            if job.state != "UNKWN" and job.state != "ZOMBI":
                job.tell(time.time(), "Unknown; unable to reach the execution host;")
                job.state, job.hosts = ("PEND", []) if job.is_rerunnable else ("UNKWN", job.hosts)
                self._is_due = True
                self.events.save([job])
            return
        end = _read(folder / "end.json")
        if end is None and job.state == "RUN" and not (folder / "runner.pid").exists():
            if not any(str(folder) in map(str, child.args) for child in self._children):  # type: ignore[union-attr]
                self._spawn(job)  # the daemon was killed between the event and the start
            return
        if end is None and _runs(_read(folder / "runner.pid"), folder):
            if job.state == "UNKWN":
                job.state = "RUN"
            return
        gone = {"code": 143, "signal": 0, "reason": "TERM_ZOMBIE", "at": time.time(), "cpu": 0, "mem": 0}
        end = end or _read(folder / "end.json") or gone
        job.cpu_s, job.max_mem_mb = end["cpu"], end["mem"]
        control.over(job, end["at"], end["code"], end["signal"], end["reason"])
        if job.reason:
            job.tell(end["at"], f"Termination: {show_jobs.reason_text(job)};")
        self._is_due = True
        self.events.save([job])

    def _dispatch(self) -> None:
        """Queues by priority, jobs by id; what does not fit lets others pass."""
        taken = loads(self.config, self.jobs)
        priority = {queue.name: queue.priority for queue in self.config.queues}
        shut = {*self._control["shut"], *self._control["lost"]}
        refused: dict[tuple[object, ...], str] = {}
        for job in sorted((job for job in self.jobs if job.state == "PEND"), key=lambda job: (-priority[job.queue], job.key)):
            shape = (job.queue, job.slots, *job.requirements, job.gpu, *job.hosts_asked, job.is_exclusive)
            found = refused.get(shape) or place(job, self.config, taken, shut)
            if isinstance(found, str):
                refused[shape] = job.pend_reason = found
                continue
            job.hosts, job.gpus = found
            self._start(job)
            add(taken, job, requirement_of(job, self.config))

    def _start(self, job: Job) -> None:
        now = time.time()
        job.state, job.started_at, job.starts = "RUN", now, job.starts + 1
        hosts = " ".join(f"<{name}>" for name, slots in job.hosts for _ in range(slots))
        job.tell(now, f"Dispatched {job.slots} Task(s) on Host(s) {hosts}, Allocated {job.slots} Slot(s) on Host(s) {hosts};")
        self.events.save([job])
        self._spawn(job)

    def _spawn(self, job: Job) -> None:
        folder = self._folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "out").touch()
        script = job.script if job.script is not None else f"{job.command}\n"
        (folder / "script").write_text(script)
        (folder / "script").chmod(0o700)
        names = {"%J": str(job.id), "%I": str(job.index)}
        paths = {key: _expanded(getattr(job, key), names, job.cwd) for key in ("output", "error", "input")}
        own = {
            "id": job.id, "name": job.shown_name, "user": job.user, "queue": job.queue, "cluster": self.config.cluster,
            "host": job.hosts[0][0], "command": job.command, "cwd": job.cwd, "env": self._environment(job, folder), **paths,
            "is_script": script.startswith("#!"), "output_overwrites": job.output_overwrites,
            "error_overwrites": job.error_overwrites, "run_limit_s": job.run_limit_s, "mem_limit_mb": job.mem_limit_mb,
            "terminate_interval_s": self.config.terminate_interval_s, "run_grace_s": self.config.run_grace_s,
            "reasons": dict(show_jobs.REASONS),
        }  # fmt: skip
        (folder / "job.json").write_text(json.dumps(own))
        with (folder / "runner.log").open("ab") as log:
            command = [sys.executable, "-IS", str(RUNNER), str(folder)]
            env = {"PATH": os.environ["PATH"]}
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=env)
        self._children.append(child)
        job.pid = child.pid
        job.tell(time.time(), f"Starting (Pid {child.pid});")

    def _environment(self, job: Job, folder: Path) -> dict[str, str]:
        """What LSF adds to the environment of a job ("Environment variables set for job execution", lsf_config_ref)."""
        per_slot = [name for name, slots in job.hosts for _ in range(slots)]
        hosts = folder / "hosts"
        hosts.write_text("".join(f"{name}\n" for name in per_slot))
        found = pwd.getpwuid(os.getuid())
        base = {"PATH": f"{self.home / 'bin'}:/usr/local/bin:/usr/bin:/bin", "HOME": found.pw_dir, "USER": found.pw_name}
        own = {
            "LSB_JOBID": str(job.id), "LSB_JOBINDEX": str(job.index), "LSB_JOBNAME": job.shown_name, "LSB_QUEUE": job.queue,
            "LSB_HOSTS": " ".join(per_slot), "LSB_MCPU_HOSTS": " ".join(f"{name} {slots}" for name, slots in job.hosts),
            "LSB_DJOB_HOSTFILE": str(hosts), "LSB_DJOB_NUMPROC": str(job.slots), "LSB_MAX_NUM_PROCESSORS": str(job.slots),
            "LSB_SUB_HOST": "login", "LSB_BATCH_JID": job.shown_id, "LSB_PROJECT_NAME": job.project, "LS_SUBCWD": job.cwd,
            "LSF_BINDIR": str(self.home / "bin"),
        }  # fmt: skip
        if job.gpus:
            own["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, job.gpus[job.hosts[0][0]])) if job.hosts[0][0] in job.gpus else ""
        return {**base, **job.env, **own}

    def _signal(self, job: Job, name: str, reason: str) -> None:
        folder = self._folder(job)
        with (folder / "signals").open("a") as file:
            file.write(f"{name} {reason}\n")
        runner = _read(folder / "runner.pid")
        if _runs(runner, folder) and runner:
            os.kill(runner["runner"], signal.SIGUSR1)

    def _output(self, job: Job) -> str:
        return (self._folder(job) / "out").read_text(errors="replace")

    def _folder(self, job: Job) -> Path:
        return self.home / "work" / f"{job.id}.{job.index}.{job.starts}"


def _expanded(path: str, names: dict[str, str], cwd: str) -> str:
    for name, value in names.items():
        path = path.replace(name, value)
    return os.path.join(cwd, path) if path else ""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    return json.loads(text) if text else {}


def _runs(runner: dict[str, Any] | None, folder: Path) -> bool:
    """Whether the runner of this folder lives; one that has just begun has not yet written who it is."""
    if not runner:
        return runner is not None and time.time() - (folder / "runner.pid").stat().st_mtime < 10
    try:
        return str(folder).encode() in Path(f"/proc/{runner['runner']}/cmdline").read_bytes()
    except OSError:
        return False


async def serve(home: Path, port: int) -> None:
    """Answer, and take a turn, for ever."""
    daemon = Daemon(home)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            length = int.from_bytes(await reader.readexactly(4), "big")
            answer = marshal.dumps(daemon.answer(marshal.loads(await reader.readexactly(length))))
            writer.write(len(answer).to_bytes(4, "big") + answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the command was ended; what it asked for is done
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", port, backlog=1000)
    async with server:
        while True:
            daemon.turn()
            await asyncio.sleep(daemon.config.turn_s)


def main(argv: Sequence[str]) -> None:
    """Serve the folder."""
    home = Path(argv[0])
    asyncio.run(serve(home, int((home / "port").read_text())))


if __name__ == "__main__":
    main(sys.argv[1:])
