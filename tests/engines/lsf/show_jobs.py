"""bjobs and bpeek.

IBM, LSF 10.1: "bjobs" and its categories (lsf_command_ref/bjobs.1, bjobs.o.1, bjobs.json.1), "Termination reasons
displayed by bacct, bhist, and bjobs" (lsf_admin/termination_reasons_lsf), "LSF terms and concepts" (the states). As
real sites show it: EXIT_CODE is empty for 0, ids that are gone are records with an ERROR, an array's elements all have
the array's JOBID.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Mapping, Sequence

from tests.engines.lsf.records import UNFINISHED, WAITING, Job
from tests.engines.lsf.submit import Request
from tests.engines.lsf.tables import Field, Misused, Options, as_json, as_table, columns, long_time, short_time, wrapped

REASONS: Mapping[str, str] = {
    "TERM_ADMIN": "job killed by root or LSF administrator",
    "TERM_CWD_NOTEXIST": "current working directory is not accessible or does not exist on the execution host",
    "TERM_EXTERNAL_SIGNAL": "job killed by a signal external to LSF",
    "TERM_FORCE_OWNER": "job killed by owner without time for cleanup",
    "TERM_MEMLIMIT": "job killed after reaching LSF memory usage limit",
    "TERM_OWNER": "job killed by owner",
    "TERM_PREEMPT": "job killed after preemption",
    "TERM_REMOVE_HUNG_JOB": "job removed from LSF",
    "TERM_RUNLIMIT": "job killed after reaching LSF run time limit",
    "TERM_UNKNOWN": "unknown reason",
    "TERM_ZOMBIE": "job exited while LSF is not available",
}
LIST_FIELDS = "jobid:7 user:7 stat:5 queue:10 from_host:11 exec_host:11 job_name:10 submit_time:12"
WIDE_FIELDS = "jobid user stat queue from_host exec_host job_name submit_time"
ALIASES = {
    "id": "jobid", "name": "job_name", "proj": "proj_name", "app": "application", "desc": "job_description",
    "ugroup": "user_group",
    "cmd": "command", "ehost": "exec_host", "nslot": "slots", "pri": "job_priority", "dep": "dependency", "exitcode": "exit_code",
}  # fmt: skip
WITH_VALUE = "-o -u -q -J -P -m -app -G -g -cname -Jd"
WITHOUT = "-a -w -l -UF -r -p -s -d -json -noheader -hms -X -A -W -N"
Table = Mapping[str, Field[Job]]


def reason_text(job: Job) -> str:
    """As EXIT_REASON shows it."""
    return f"{job.reason}: {REASONS[job.reason]}" if job.reason else ""


def exec_hosts(job: Job) -> str:
    """`hostA:hostB`, `4*hostA:hostB`."""
    return ":".join(name if slots == 1 else f"{slots}*{name}" for name, slots in job.hosts)


def _table(has_year: bool, hms: bool) -> Table:
    def seconds(value: float | None) -> str:
        if value is None:
            return ""
        return f"{int(value) // 3600:02d}:{int(value) // 60 % 60:02d}:{int(value) % 60:02d}" if hms else f"{int(value)} second(s)"

    def run_limit(job: Job) -> str:
        if job.run_limit_s is None:
            return ""
        return seconds(job.run_limit_s) if hms else f"{job.run_limit_s / 60:.1f}"

    def run_time(job: Job) -> float:
        return (job.ended_at or time.time()) - job.started_at if job.started_at else 0.0

    def finish(job: Job) -> str:
        if job.ended_at is not None:
            return f"{short_time(job.ended_at, has_year)} L"
        if job.started_at is None or job.run_limit_s is None:
            return ""
        return f"{short_time(job.started_at + job.run_limit_s, has_year)} L"

    def memory(value: float) -> str:
        return f"{value:.0f} Mbytes" if value else ""

    values: dict[str, tuple[int, Callable[[Job], str]]] = {
        "jobid": (7, lambda job: str(job.id)),
        "jobindex": (8, lambda job: str(job.index)),
        "stat": (5, lambda job: job.state),
        "user": (7, lambda job: job.user),
        "user_group": (15, lambda job: job.user_group),
        "queue": (10, lambda job: job.queue),
        "job_name": (10, lambda job: job.shown_name),
        "job_description": (17, lambda job: job.description),
        "proj_name": (11, lambda job: job.project),
        "application": (13, lambda job: job.application),
        "service_class": (13, lambda job: ""),
        "job_group": (10, lambda job: ""),
        "job_priority": (12, lambda job: ""),
        "dependency": (15, lambda job: ""),
        "pend_reason": (11, lambda job: job.pend_reason if job.state in WAITING else ""),
        "command": (15, lambda job: job.command),
        "from_host": (11, lambda job: "login"),
        "first_host": (11, lambda job: job.hosts[0][0] if job.hosts else ""),
        "exec_host": (11, exec_hosts),
        "nexec_host": (10, lambda job: str(len(job.hosts)) if job.hosts else ""),
        "alloc_slot": (20, exec_hosts),
        "nalloc_slot": (10, lambda job: str(sum(slots for _, slots in job.hosts)) if job.hosts else ""),
        "slots": (5, lambda job: str(job.slots)),
        "min_req_proc": (12, lambda job: str(job.slots)),
        "max_req_proc": (12, lambda job: str(job.slots)),
        "effective_resreq": (17, lambda job: " ".join(job.requirements)),
        "combined_resreq": (20, lambda job: " ".join(job.requirements)),
        "submit_time": (15, lambda job: short_time(job.submitted_at, has_year)),
        "start_time": (15, lambda job: short_time(job.started_at, has_year)),
        "finish_time": (16, finish),
        "run_time": (15, lambda job: seconds(run_time(job))),
        "pend_time": (12, lambda job: f"{int((job.started_at or job.ended_at or time.time()) - job.submitted_at)}"),
        "time_left": (11, lambda job: ""),
        "runtimelimit": (12, run_limit),
        "memlimit": (10, lambda job: f"{job.mem_limit_mb:g} M" if job.mem_limit_mb else ""),
        "mem": (15, lambda job: memory(job.max_mem_mb) if job.state == "RUN" else ""),
        "max_mem": (15, lambda job: memory(job.max_mem_mb)),
        "avg_mem": (15, lambda job: memory(job.max_mem_mb)),
        "cpu_used": (10, lambda job: f"{job.cpu_s:.1f} second(s)"),
        "exit_code": (10, lambda job: str(job.exit_code) if job.state == "EXIT" and job.exit_code else ""),
        "exit_reason": (50, reason_text),
        "exception": (13, lambda job: ""),
        "kill_reason": (11, lambda job: ""),
        "suspend_reason": (15, lambda job: ""),
        "sub_cwd": (10, lambda job: job.cwd),
        "exec_cwd": (10, lambda job: job.cwd if job.started_at else ""),
        "input_file": (10, lambda job: job.input),
        "output_file": (11, lambda job: job.output),
        "error_file": (10, lambda job: job.error),
        "pids": (20, lambda job: str(job.pid) if job.pid and job.state == "RUN" else ""),
        "pgids": (20, lambda job: str(job.pid) if job.pid and job.state == "RUN" else ""),
        "gpu_num": (10, lambda job: str(sum(map(len, job.gpus.values()))) if job.gpus else ""),
        "gpu_mode": (20, lambda job: "shared" if job.gpus else ""),
        "gpu_alloc": (30, lambda job: "".join(f"{{{h}:{','.join(map(str, ids))}}}" for h, ids in job.gpus.items())),
        "j_exclusive": (11, lambda job: ""),
        "resize_time": (11, lambda job: ""),
        "esub": (20, lambda job: ""),
        "rsvid": (40, lambda job: ""),
    }
    return {name: Field(width, value) for name, (width, value) in values.items()}


def bjobs(request: Request, jobs: Sequence[Job]) -> tuple[str, str, int]:
    """Standard output, standard error and exit code."""
    options = Options.of(request.argv, WITH_VALUE, WITHOUT)
    env = request.env
    has_year = "Y" in (env.get("LSB_DISPLAY_YEAR", "").upper(), env.get("LSB_BJOBS_DISPLAY_YEAR", "").upper())
    table = _table(has_year, "-hms" in options.flags)
    spec = options.values.get("-o") or env.get("LSB_BJOBS_FORMAT", "")
    if "-json" in options.flags and not spec:
        raise Misused("bjobs: -json must be used with -o")
    shown, delimiter = columns(spec or (WIDE_FIELDS if "-w" in options.flags else LIST_FIELDS), table, ALIASES)
    found, missing = _asked(options, jobs, request.user)
    gone = [f"Job <{name}> is not found" for name in missing]
    if "-json" in options.flags and (found or missing):
        records = [{column.name.upper(): table[column.name].value(job) for column in shown} for job in found]
        records += [{"JOBID": name, "ERROR": text} for name, text in zip(missing, gone, strict=True)]
        return as_json("bjobs", "JOBS", records), "", 255 if gone else 0
    err = "".join(f"{text}\n" for text in gone)
    if not found:
        return "", err or _nothing(options), 255 if gone else 0
    if "-l" in options.flags or "-UF" in options.flags:
        return "\n".join(map(_long, found)), err, 255 if gone else 0
    rows = [[table[column.name].value(job) for column in shown] for job in found]
    return as_table(shown, delimiter, rows, "-noheader" not in options.flags), err, 255 if gone else 0


def _nothing(options: Options) -> str:
    if "-J" in options.values:
        return f"Job <{options.values['-J']}> is not found\n"
    return "No job found\n" if {"-a", "-d"} & options.flags else "No unfinished job found\n"


def _asked(options: Options, jobs: Sequence[Job], user: str) -> tuple[list[Job], list[str]]:
    """The jobs that the options choose, and the ids given that there are none of. Ids choose finished jobs as well."""
    if options.names:
        found, missing = [], []
        for name in options.names:
            matching = [job for job in jobs if name in (str(job.id), job.shown_id)]
            found += matching
            missing += [] if matching else [name]
        return found, missing
    states = set(UNFINISHED)
    if "-a" in options.flags:
        states |= {"DONE", "EXIT", "ZOMBI"}
    chosen = {"-r": {"RUN"}, "-p": set(WAITING), "-s": {"PSUSP", "USUSP", "SSUSP"}, "-d": {"DONE", "EXIT"}}
    if narrow := [chosen[flag] for flag in chosen if flag in options.flags]:
        states = set().union(*narrow)
    users = options.values.get("-u", user)
    wanted: list[Callable[[Job], bool]] = [lambda job: job.state in states, lambda job: users in ("all", job.user)]
    if "-J" in options.values:
        pattern = options.values["-J"]
        wanted.append(lambda job: any(fnmatch.fnmatchcase(name, pattern) for name in (job.name, job.shown_name)))
    for option, attribute in (("-q", "queue"), ("-P", "project"), ("-app", "application"), ("-G", "user_group")):
        if option in options.values:
            wanted.append(lambda job, a=attribute, v=options.values[option]: getattr(job, a) == v)
    if "-m" in options.values:
        hosts = set(options.values["-m"].split())
        wanted.append(lambda job: bool(hosts & {name for name, _ in job.hosts}))
    return [job for job in jobs if all(test(job) for test in wanted)], []


def _long(job: Job) -> str:
    head = f"{job.title}, Status <{job.state}>, Queue <{job.queue}>, Command <{job.command}>"
    lines = [wrapped(head), *(wrapped(f"{long_time(at)}: {text}") for at, text in job.history)]
    if job.state in WAITING:
        lines.append(f" PENDING REASONS:\n {job.pend_reason}\n")
    return "".join(lines)


def bpeek(request: Request, jobs: Sequence[Job], output_of: Callable[[Job], str]) -> tuple[str, str, int]:
    """What a job that runs has written so far (lsf_command_ref/bpeek.1)."""
    options = Options.of(request.argv, "-q -m -J", "-f")
    for job in jobs:
        if options.names and options.names[0] in (str(job.id), job.shown_id):
            if job.state in WAITING:
                return "", f"Job <{job.shown_id}> : Not yet started.\n", 255
            if job.is_over:
                return "", f"Job <{job.shown_id}> : Already finished.\n", 255
            return f"<< output from stdout >>\n{output_of(job)}", "", 0
    return "", f"Job <{' '.join(options.names)}> is not found\n", 255
