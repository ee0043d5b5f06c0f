"""bhist and bacct: what they know of a job after CLEAN_PERIOD.

IBM, LSF 10.1: "bhist" (lsf_command_ref/bhist.1), "bacct" (bacct.1, "Termination reasons"), "Understanding LSF job exit
information" (lsf_admin): the event lines and the summaries. Lines are cut at 80 characters, as the long formats do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.engines.lsf.records import Job
from tests.engines.lsf.show_jobs import reason_text
from tests.engines.lsf.submit import Request
from tests.engines.lsf.tables import Options, long_time, wrapped

LINE = "-" * 78


def _asked(options: Options, jobs: Sequence[Job], user: str) -> list[Job]:
    found = [job for job in jobs if not options.names or {str(job.id), job.shown_id} & set(options.names)]
    users = options.values.get("-u", user)
    if not options.names and users != "all":
        found = [job for job in found if job.user == users]
    if "-J" in options.values:
        found = [job for job in found if options.values["-J"] in (job.name, job.shown_name)]
    return found


def bhist(request: Request, jobs: Sequence[Job]) -> tuple[str, str, int]:
    """History of jobs: a table of the seconds spent in each state, or all events with -l."""
    options = Options.of(request.argv, "-n -u -J -q -P -m -t -C -S -D -app", "-l -a -w -b -d -e -p -r -s -cname")
    found = _asked(options, jobs, request.user)
    if not options.names and not {"-a", "-d", "-e"} & options.flags:
        found = [job for job in found if not job.is_over]
    if not found:
        return "", "No matching job found\n", 255
    if "-l" in options.flags:
        return f"\n{LINE}\n\n".join(map(_long, found)), "", 0
    rows = "".join(f"{job.shown_id:<8}{job.user[:7]:<8}{job.shown_name[:9]:<10}{_spent(job)}\n" for job in found)
    head = "JOBID   USER    JOB_NAME  PEND    PSUSP   RUN     USUSP   SSUSP   UNKWN   TOTAL\n"
    return "Summary of time in seconds spent in various states:\n" + head + rows, "", 0


def _spent(job: Job) -> str:
    end = job.ended_at or time.time()
    pend = (job.started_at or end) - job.submitted_at
    run = end - job.started_at if job.started_at else 0
    return "".join(f"{int(value):<8}" for value in (pend, 0, run, 0, 0, 0, pend + run)).rstrip()


def _long(job: Job) -> str:
    head = f"{job.title}, Command <{job.command}>"
    if job.description:
        head += f", Job Description <{job.description}>"
    events = "".join(wrapped(f"{long_time(at)}: {text}") for at, text in job.history)
    summary = f"Summary of time in seconds spent in various states by  {long_time(time.time())}\n"
    return f"\n{wrapped(head)}{events}\n{summary}  PEND    PSUSP   RUN     USUSP   SSUSP   UNKWN   TOTAL\n  {_spent(job)}\n"


def bacct(request: Request, jobs: Sequence[Job]) -> tuple[str, str, int]:
    """Accounting of jobs that are over; each of them with -l."""
    options = Options.of(request.argv, "-u -J -q -P -m -C -S -D -f -app", "-l -b -d -e -w -x")
    found = [job for job in _asked(options, jobs, request.user) if job.is_over]
    if options.names and not found:
        return "", "No matching job found\n", 255
    parts = [f"""
Accounting information about jobs that are:
  - submitted by {"all users." if options.values.get("-u") == "all" else "users " + request.user + ","}
  - accounted on all projects.
  - completed normally or exited
  - executed on all hosts.
  - submitted to all queues.
  - accounted on all service classes.
{LINE}
"""]
    if "-l" in options.flags:
        parts += [_accounted(job) for job in found]
    done = sum(job.state == "DONE" for job in found)
    parts.append(f"""
SUMMARY:      ( time unit: second )
 Total number of done jobs:{done:>8}      Total number of exited jobs:{len(found) - done:>6}
 Total CPU time consumed:{sum(job.cpu_s for job in found):>10.1f}
""")
    return "".join(parts), "", 0


def _accounted(job: Job) -> str:
    status = "done" if job.state == "DONE" else "exit"
    head = f"{job.title}, Status <{job.state}>, Queue <{job.queue}>, Command <{job.command}>"
    ended = job.ended_at or job.submitted_at
    before = [(at, text) for at, text in job.history if not text.startswith(("Exited", "Done", "Termination"))]
    lines = [wrapped(f"{long_time(at)}: {text}") for at, text in before]
    tail = f"; {reason_text(job)}." if job.reason else "."
    lines.append(wrapped(f"{long_time(ended)}: Completed <{status}>{tail}"))
    wait, turnaround = (job.started_at or ended) - job.submitted_at, ended - job.submitted_at
    return f"""
{wrapped(head)}{"".join(lines)}
Accounting information about this job:
     CPU_T     WAIT     TURNAROUND   STATUS     HOG_FACTOR    MEM    SWAP
{job.cpu_s:>10.2f}{wait:>9.0f}{turnaround:>15.0f}{status:>9}{0:>15.4f}{job.max_mem_mb:>6.0f}M{0:>7}M
{LINE}
"""
