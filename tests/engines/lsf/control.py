"""bkill, bstop and bresume.

IBM, LSF 10.1: "bkill" (lsf_command_ref/bkill.1): without -s "SIGINT and SIGTERM are sent to give the job a chance to
clean up before termination, then SIGKILL"; id 0 is every job that the options choose; -r removes a job without waiting
for its host. Messages as real sites print them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.engines.lsf.records import ON_HOSTS, WAITING, Job
from tests.engines.lsf.submit import Request
from tests.engines.lsf.tables import Options

Signal = Callable[[Job, str, str], None]
"""Sends a job's processes a signal (`END` is the sequence), with the reason if it ends of it."""


def bkill(request: Request, jobs: Sequence[Job], signal: Signal) -> tuple[str, str, int]:
    """End jobs, or send them a signal."""
    options = Options.of(request.argv, "-s -J -q -u -m -app -g -P", "-r -b -l")
    name = options.values.get("-s", "").upper().removeprefix("SIG")
    found, missing = _asked(options, jobs, request.user)
    out, err = [], [f"Job <{word}>: No matching job found" for word in missing]
    if not found and not missing:
        err.append("No matching job found")
    for job in found:
        if job.is_over:
            err.append(f"Job <{job.shown_id}>: Job has already finished")
            continue
        if name not in ("", "KILL", "TERM", "INT", "QUIT"):
            signal(job, name, "-")
            out.append(f"Job <{job.shown_id}> is being signaled")
            continue
        _end(job, name, "-r" in options.flags, signal, request.user)
        out.append(f"Job <{job.shown_id}> is being terminated" if not name else f"Job <{job.shown_id}> is being signaled")
    return "".join(f"{line}\n" for line in out), "".join(f"{line}\n" for line in err), 255 if err else 0


def _end(job: Job, name: str, is_forced: bool, signal: Signal, user: str) -> None:
    now = time.time()
    job.tell(now, f"Signal <{name or 'KILL'}> requested by user or administrator <{user}>")
    if job.state in WAITING:
        over(job, now, 0, 0, "TERM_OWNER")
    elif job.state == "UNKWN" or is_forced:
        signal(job, "KILL", "TERM_FORCE_OWNER")
        if is_forced:
            over(job, now, 130, 2, "TERM_FORCE_OWNER")
        else:
            job.state = "ZOMBI"
    else:
        signal(job, name or "END", "TERM_OWNER")


def over(job: Job, at: float, code: int, number: int, reason: str) -> None:
    """Note a job's end. A job that was killed before it started has no exit code."""
    job.state = "DONE" if not code and not reason else "EXIT"
    job.ended_at, job.exit_code, job.signal, job.reason = at, code, number, reason
    used = f"The CPU time used is {job.cpu_s:.1f} seconds"
    if job.state == "DONE":
        job.tell(at, f"Done successfully. {used};")
        return
    how = f"by signal {number}. {used}" if number else f"with exit code {code}. {used}" if code else ""
    job.tell(at, f"Exited {how}".strip() + ";")


def bstop(request: Request, jobs: Sequence[Job], signal: Signal) -> tuple[str, str, int]:
    """Suspend: PEND to PSUSP, RUN to USUSP (lsf_command_ref/bstop.1)."""
    return _suspend(request, jobs, signal, {"PEND": "PSUSP", "RUN": "USUSP"}, "STOP", "stopped")


def bresume(request: Request, jobs: Sequence[Job], signal: Signal) -> tuple[str, str, int]:
    """The other way round (lsf_command_ref/bresume.1)."""
    return _suspend(request, jobs, signal, {"PSUSP": "PEND", "USUSP": "RUN"}, "CONT", "resumed")


def _suspend(
    request: Request, jobs: Sequence[Job], signal: Signal, to: dict[str, str], name: str, word: str
) -> tuple[str, str, int]:
    options = Options.of(request.argv, "-J -q -u -m -app -g", "-a -d")
    found, missing = _asked(options, jobs, request.user)
    out, err = [], [f"Job <{text}>: No matching job found" for text in missing]
    for job in found:
        if job.state not in to:
            err.append(f"Job <{job.shown_id}>: {'Job has already finished' if job.is_over else 'Illegal operation'}")
            continue
        if job.state in ON_HOSTS:
            signal(job, name, "-")
        job.state = to[job.state]
        out.append(f"Job <{job.shown_id}> is being {word}")
    return "".join(f"{line}\n" for line in out), "".join(f"{line}\n" for line in err), 255 if err else 0


def _asked(options: Options, jobs: Sequence[Job], user: str) -> tuple[list[Job], list[str]]:
    if options.names and options.names != ("0",):
        by_name = {name: [job for job in jobs if name in (str(job.id), job.shown_id)] for name in options.names}
        return [job for found in by_name.values() for job in found], [name for name, found in by_name.items() if not found]
    found = [job for job in jobs if not job.is_over and options.values.get("-u", user) in ("all", job.user)]
    if "-J" in options.values:
        found = [job for job in found if options.values["-J"] in (job.name, job.shown_name)]
    if "-q" in options.values:
        found = [job for job in found if job.queue == options.values["-q"]]
    if not options.names and "-J" not in options.values:
        return [], []
    return found, []
