"""bsub: its options, and the jobs that come of them.

IBM, LSF 10.1: "bsub" (lsf_command_ref/bsub.man_top.1), "-J" (arrays), "-env", "-pack", "-W", "-M", "-gpu"; messages as
real sites print them (public projects that read them). What an option needs and we do not have is refused rather than
taken silently.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.engines.lsf.placing import Gpus
from tests.engines.lsf.records import Config, Job
from tests.engines.lsf.resreq import BadRequirement, megabytes, parse

WITH_VALUE = frozenset(
    (
        "-J", "-U", "-Jd", "-q", "-n", "-R", "-W", "-We", "-gpu", "-app", "-P", "-G", "-m", "-M", "-v", "-c", "-o", "-oo",
        "-e", "-eo", "-i", "-cwd", "-env", "-g", "-sp", "-u", "-Lp", "-outdir", "-L", "-sla", "-a", "-E", "-Ep",
        "-ext", "-hostfile", "-data",
    )
)
FLAGS = frozenset(
    ["-r", "-rn", "-x", "-N", "-B", "-H", "-ar", "-cn", "-notify", "-Ne"]
)
TAKEN_AND_UNHEEDED = frozenset(
    ["-We", "-v", "-c", "-g", "-sp", "-u", "-Lp", "-outdir", "-L", "-N", "-B", "-rn", "-ar", "-Ne"]
)
HEEDED = frozenset(
    (
        "-J", "-Jd", "-q", "-n", "-R", "-W", "-gpu", "-app", "-P", "-G", "-m", "-M", "-o", "-oo", "-e", "-eo", "-i",
        "-cwd", "-env", "-r", "-x", "-H",
    )
)
ARRAY = re.compile(r"(.*?)\[([\d,:\-]+)\](?:%(\d+))?$")
MINUTE_S = 60.0
PLAIN = re.compile(r"[\w@%+=:,./\-]+")


class NotSubmitted(Exception):
    """Why not, in LSF's words."""


@dataclass(frozen=True)
class Request:
    """A command as its client sent it."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    user: str
    host: str
    stdin: str | None = None


def needs_stdin(argv: Sequence[str]) -> bool:
    """Whether the command line names no command, so that it comes on standard input."""
    return not (set(argv) & {"-V", "-h", "-pack"}) and not _split(argv)[1]


def jobs_of(request: Request, config: Config, first_id: int) -> list[Job]:
    """The job, or the elements of the array, that a command line asks for. Raises NotSubmitted."""
    options, command = _split(request.argv)
    script = None
    if not command:
        script = request.stdin or ""
        found = [match[1] for line in script.splitlines() if (match := re.match(r"#BSUB\s+(.*)", line))]
        embedded = [word for line in found for word in shlex.split(line)]
        options = [*_split(embedded)[0], *options]
        if not script.strip():
            raise NotSubmitted("Empty job. Job not submitted.")
    last = dict(options)
    requirements = [value for name, value in options if name == "-R"]
    try:
        requirement = parse(requirements, config.unit, config.reserve_per_task)
        Gpus.of(last.get("-gpu", ""), requirement)
    except BadRequirement as error:
        raise NotSubmitted("Bad resource requirement syntax. Job not submitted.") from error
    name, elements = _array(last.get("-J", ""), config)
    _check(last, request, config, _slots(last))
    now = time.time()
    shown = _one_line(script) if script is not None else _command_line(command)
    job = Job(
        first_id, 0, name or shown, request.user, last.get("-q", config.default_queue), shown, now,
        last.get("-cwd", request.cwd), _environment(last.get("-env", "all"), request.env), script,
        description=last.get("-Jd", ""), project=last.get("-P", "default"), application=last.get("-app", ""),
        user_group=last.get("-G", ""), slots=_slots(last), requirements=requirements, gpu=last.get("-gpu", ""),
        hosts_asked=last.get("-m", "").split(), is_exclusive="-x" in last, is_rerunnable="-r" in last,
        run_limit_s=_run_limit(last), mem_limit_mb=_mem_limit(last, config), output=last.get("-oo", last.get("-o", "")),
        output_overwrites="-oo" in last, error=last.get("-eo", last.get("-e", "")), error_overwrites="-eo" in last,
        input=last.get("-i", ""), state="PSUSP" if "-H" in last else "PEND",
    )  # fmt: skip
    job.tell(now, f"Submitted from host <{request.host}>, to Queue <{job.queue}>, CWD <{job.cwd}>{_asked(job)};")
    if not elements:
        return [job]
    return [replace(job, index=index, history=list(job.history)) for index in elements]


def said(jobs: Sequence[Job], is_default: bool) -> str:
    """What bsub prints of what it submitted."""
    return f"Job <{jobs[0].id}> is submitted to {'default ' if is_default else ''}queue <{jobs[0].queue}>.\n"


def names_queue(argv: Sequence[str], stdin: str | None) -> bool:
    """Whether the submission says which queue."""
    return "-q" in argv or bool(re.search(r"^#BSUB\s.*-q\s", stdin or "", re.MULTILINE))


def _split(argv: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Options with their values, and the command behind them. Raises NotSubmitted."""
    options: list[tuple[str, str]] = []
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            return options, [word, *words]
        if word in WITH_VALUE:
            value = next(words, None)
            if value is None:
                raise NotSubmitted(f"bsub: option requires an argument -- {word}")
            options.append((word, value))
        elif word in FLAGS:
            options.append((word, ""))
        else:
            raise NotSubmitted(f"bsub: illegal option -- {word.lstrip('-')}")
    for name, _ in options:
        if name not in HEEDED | TAKEN_AND_UNHEEDED:
            raise NotSubmitted(f"{name}: the stand-in has no such thing. Job not submitted.")
    return options, []


def _check(last: Mapping[str, str], request: Request, config: Config, slots: int) -> None:
    queue = config.queue(last.get("-q", config.default_queue))
    if queue is None:
        raise NotSubmitted(f"{last['-q']}: No such queue. Job not submitted.")
    if queue.users and request.user not in queue.users:
        raise NotSubmitted("User cannot use the queue. Job not submitted.")
    if queue.task_limit is not None and slots > queue.task_limit:
        raise NotSubmitted("Too many tasks requested. Job not submitted.")
    if "-app" in last and last["-app"] not in config.applications:
        raise NotSubmitted("Specified application profile does not exist. Job not submitted.")
    known = {name for host in config.hosts for name in (host.name, host.group)}
    if not set(last.get("-m", "").split()) <= known:
        raise NotSubmitted("Bad host name, host group name or cluster name. Job not submitted.")


def _slots(last: Mapping[str, str]) -> int:
    text = last.get("-n", "1")
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)?", text):
        raise NotSubmitted(f"{text}: Bad number of tasks. Job not submitted.")
    return int(text.split(",")[0])


def _run_limit(last: Mapping[str, str]) -> float | None:
    """Seconds of `[hour:]minute[/host]`."""
    if "-W" not in last:
        return None
    match = re.fullmatch(r"(?:(\d+):)?(\d+)(?:/\S+)?", last["-W"])
    if match is None or not (int(match[1] or 0) or int(match[2])):
        raise NotSubmitted(f"{last['-W']}: Bad RUNLIMIT specification. Job not submitted.")
    return (int(match[1] or 0) * 60 + int(match[2])) * MINUTE_S


def _mem_limit(last: Mapping[str, str], config: Config) -> float | None:
    try:
        return megabytes(last["-M"], config.unit) if "-M" in last else None
    except BadRequirement as error:
        raise NotSubmitted(f"{last['-M']}: Bad MEMLIMIT specification. Job not submitted.") from error


def _array(text: str, config: Config) -> tuple[str, list[int]]:
    """A job's name, and the indices of its array: `name[1-10:2,20]%5` (the limit behind % is not heeded)."""
    match = ARRAY.fullmatch(text)
    if match is None:
        return text, []
    indices: list[int] = []
    for part in match[2].split(","):
        span, _, step = part.partition(":")
        first, _, end = span.partition("-")
        indices += range(int(first), int(end or first) + 1, int(step or 1))
    if not indices or min(indices) < 1:
        raise NotSubmitted("Bad job name. Job not submitted.")
    if max(indices) > config.max_job_array:
        raise NotSubmitted("Job array index too large. Job not submitted.")
    return match[1], indices


def _environment(text: str, env: Mapping[str, str]) -> dict[str, str]:
    """What the job gets of the submitter's environment: `all`, `none`, `all, ~NAME`, `NAME, NAME=value` (bsub -env)."""
    parts = [part.strip() for part in _env_parts(text)]
    chosen: dict[str, str] = dict(env) if "all" in parts else {}
    for part in parts:
        name, has_value, value = part.partition("=")
        if part.startswith("~"):
            chosen.pop(part[1:], None)
        elif has_value:
            chosen[name] = value.strip("'")
        elif part not in ("all", "none") and part in env:
            chosen[part] = env[part]
    return chosen


def _env_parts(text: str) -> Iterator[str]:
    """Between commas that are not in single quotes."""
    yield from re.findall(r"(?:[^,']|'[^']*')+", text)


def _command_line(command: Sequence[str]) -> str:
    """One word is a command line; of several, those that a shell would change are quoted."""
    if len(command) == 1:
        return command[0]
    return " ".join(word if PLAIN.fullmatch(word) else shlex.quote(word) for word in command)


def _one_line(script: str) -> str:
    """A script as COMMAND shows it: its lines joined by semicolons."""
    return ";".join(line for line in script.splitlines() if line)


def _asked(job: Job) -> str:
    parts = [f"{job.slots} Task(s)"] if job.slots > 1 else []
    parts += [f"Requested Resources <{' '.join(job.requirements)}>"] if job.requirements else []
    parts += [f"Requested GPU <{job.gpu}>"] if job.gpu else []
    return "".join(f", {part}" for part in parts)


def pack_lines(path: str) -> list[list[str]]:
    """The command lines of a job pack: one request a line, `#` for comments (bsub -pack). Raises NotSubmitted."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise NotSubmitted(f"{path}: {error.strerror}. Job not submitted.") from error
    return [shlex.split(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]
