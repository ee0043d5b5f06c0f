"""The shell texts of an LSF site, pure: the script that a job is, and those that read and clean what it leaves.

Below the site's storage lies `.fed/lsf/<federation>`: `records/<run>@<job id>`, one line for each thing a job has to tell past
its exit code; `runs/<run>`, its working directory and output; `forgotten/<run>@<job id>`, an empty file for each job whose end
is stored and that LSF still lists. Messages of `bpost` do not do for this: they cannot be read once a job is over
(https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_command_ref/bread.1.html).
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from adapters.base import EndReason, Run
from adapters.shell import LEAVE, claim_lines, document_of, program_lines, ready_lines, variable_lines

LEFT_CODE = 125
"""What a job that left ends with. What counts is its record: a program may end so too."""
ABSENT_CODE = 44
"""What our scripts end with where the storage is not mounted."""


@dataclass(frozen=True, slots=True)
class PackedJob:
    """One request of a job pack."""

    name: str
    options: Sequence[str]
    script: str


def base_of(mount: PurePosixPath, federation: str) -> PurePosixPath:
    """The directory of a federation's jobs."""
    return mount / ".fed" / "lsf" / federation


def job_script(run: Run, mount: PurePosixPath, bin: str | None, cpus_per_task: int) -> str:
    """What `bsub` is given. Each task is a file of the run's own, started by `blaunch` on the host of the task's first slot."""
    base = base_of(mount, run.federation)
    own = shlex.quote(str(base / "runs" / run.name))
    command = "" if bin is None else shlex.quote(f"{bin}/")
    lines = f"""#!/bin/sh
fed_record={shlex.quote(str(base / "records" / run.name))}"@$LSB_JOBID"
{_TELL}
mkdir -p "${{fed_record%/*}}" || exit {LEFT_CODE}
"""
    # every start by LSF is another one: the claim is taken here, before any task, and by nothing else
    lines += claim_lines(run, mount, '"$LSB_JOBID.$(uname -n).$$.$(date +%s.%N)"')
    lines += ready_lines(run, mount, own)
    lines += f"""{_file('"$fed_own/task.$$"', _task(run, own))}
mv -f "$fed_own/task.$$" "$fed_own/task" || {LEAVE} {EndReason.NODE_LOST} "the site's storage cannot be written"
"""
    if run.tasks == 1:
        lines += 'fed_start() { exec /bin/sh "$fed_own/task" "$1" "$fed_record"; }\n'
    else:
        slot = f"$(($1 * {cpus_per_task} + 1))"
        lines += f"""fed_start() {{
    fed_host=$(sed -n "{slot}p" "$LSB_DJOB_HOSTFILE")
    exec {command}blaunch "$fed_host" /bin/sh "$fed_own/task" "$1" "$fed_record"
}}
"""
    watch = ""
    if run.walltime_s is not None:
        watch = f"""(
    trap 'kill "$fed_sleep" 2>/dev/null; exit' TERM
    sleep {run.walltime_s:g} & fed_sleep=$!
    wait "$fed_sleep" || exit
    fed_tell walltime
    {command}bkill "$LSB_JOBID" > /dev/null 2>&1
) &
fed_watch=$!
"""
    return unspoken(lines + _RUN.format(tasks=run.tasks, watch=watch, bkill=f"{command}bkill"))


def pack_script(base: PurePosixPath, pack: str, jobs: Sequence[PackedJob]) -> str:
    """What a shell reads to put each job's script into a file and their requests into `packs/<pack>`, one in a line."""
    lines = [f"mkdir -p {shlex.quote(str(base / 'packs'))} && cd {shlex.quote(str(base))} || exit 1"]
    requests = ""
    for job in jobs:
        path = base / "runs" / job.name / "job"
        lines.append(f"mkdir -p {shlex.quote(f'runs/{job.name}')} || exit 1")
        lines.append(_file(shlex.quote(f"runs/{job.name}/job"), job.script))
        requests += shlex.join([*job.options, "/bin/sh", str(path)]) + "\n"
    lines.append(_file(shlex.quote(f"packs/{pack}"), requests))
    return "\n".join(lines) + "\n"


def _file(path: str, content: str) -> str:
    """Shell text that writes `content`, which ends with a line end, to a path that is a shell word."""
    return f"cat > {path} {document_of(content, ' || exit 1')}"


def unspoken(script: str) -> str:
    """The script without lines that `bsub` would take for options of its own: it reads every line that begins with `#BSUB`
    (https://www.ibm.com/docs/en/SSWRJV_10.1.0/lsf_command_ref/bsub.1.html). Such a line can only be one within single quotes."""
    return script.replace("\n#BSUB", "\n''#BSUB")


_TELL = """fed_tell() { printf '%s %s\\n' "$(date +%s.%N)" "$*" >> "$fed_record"; }
fed_leave() { fed_tell left "$1" "$2"; exit 125; }"""

_RUN = """fed_here=$(mktemp -d) || fed_leave node-lost "the node has no room for a temporary directory"
mkfifo "$fed_here/ends" && exec 3<>"$fed_here/ends" || fed_leave node-lost "the node cannot make a pipe"
rm -rf "$fed_here"
fed_tell started || exit 125
fed_task() {{
    fed_start "$1" 3>&- & fed_pid=$!
    trap 'kill -TERM "$fed_pid" 2>/dev/null' INT TERM
    wait "$fed_pid"; fed_code=$?
    while kill -0 "$fed_pid" 2>/dev/null; do wait "$fed_pid"; fed_code=$?; done
    : > "$fed_own/end.$1"
    echo "$fed_code" >&3
}}
fed_watch=
{watch}fed_tasks=
fed_task_number=0
while [ "$fed_task_number" -lt {tasks} ]; do
    fed_task "$fed_task_number" & fed_tasks="$fed_tasks $!"
    fed_task_number=$((fed_task_number + 1))
done
fed_asked=
trap 'fed_asked=1; kill -TERM $fed_tasks 2>/dev/null' INT TERM
fed_left={tasks}
fed_code=0
while [ "$fed_left" -gt 0 ] && [ "$fed_code" = 0 ]; do
    fed_code=
    while [ -z "$fed_code" ]; do read -r fed_code <&3; done
    fed_left=$((fed_left - 1))
done
kill -TERM $fed_watch 2>/dev/null
if [ "$fed_left" -gt 0 ] && [ -z "$fed_asked" ]; then
    fed_tell failed "$fed_code"
    {bkill} "$LSB_JOBID" > /dev/null 2>&1
    kill -TERM $fed_tasks 2>/dev/null
fi
fed_tell ended "$fed_code"
exit "$fed_code"
"""


def _task(run: Run, own: str) -> str:
    """The file that each task runs, on whatever host, with nothing inherited; its number is its argument."""
    return f"""fed_own={own}
fed_record=$2
{_TELL}
export FED_TASK="$1"
exec > "$fed_own/log.$FED_TASK" 2>&1 < /dev/null
{program_lines(run)}{variable_lines(run)}exec "$@"
"""


READ = f"""cd "$1" 2>/dev/null || exit {ABSENT_CODE}
date +%s
cd "$2" 2>/dev/null || exit 0
ls forgotten 2>/dev/null
echo --
cd records 2>/dev/null && grep -rH '' .
exit 0
"""
"""Arguments: the mount, a federation's directory. Prints the site's time, the names of forgotten jobs, `--`, and the lines of
all records, each with its name before it."""

FORGET = f"""cd "$1" 2>/dev/null || exit {ABSENT_CODE}
mkdir -p "$2/forgotten" && cd "$2" || exit 1
while read -r fed_kind fed_name; do
    case $fed_kind in
        job) : > "forgotten/$fed_name" && rm -f "records/$fed_name" ;;
        run) rm -f "records/$fed_name@"*; rm -rf "runs/$fed_name" ;;
    esac || exit 1
done
find forgotten -type f -mmin "+$3" -exec rm -f {{}} +
"""
"""Arguments: the mount, a federation's directory, after how many minutes LSF no longer lists what it ended. Reads `job
<run>@<id>` and `run <run>` lines."""

LOG = f"""cd "$1" 2>/dev/null || exit {ABSENT_CODE}
cd "$2/runs/$3" 2>/dev/null || {{ echo none; exit 0; }}
if [ -e "end.$4" ] || cat "../../records/$3@"* 2>/dev/null | grep -qE '^[0-9.]+ (ended|left)'; then echo over; else echo open; fi
[ ! -e "log.$4" ] || tail -c "+$5" "log.$4" | head -c "$6"
"""
"""Arguments: the mount, a federation's directory, the run, the task, the first byte counted from 1, the most bytes. Prints
`over` where nothing more will be written, `open` or, where the run left nothing, `none`; then the bytes."""

WRITE_TEST = f"""cd "$1" 2>/dev/null || {{ echo "$1 is not there" >&2; exit {ABSENT_CODE}; }}
mkdir -p "$2" && : > "$2/probe.$$" && rm -f "$2/probe.$$"
"""
"""Arguments: the mount, a federation's directory."""


def forget_lines(runs: Collection[str], jobs: Collection[str]) -> str:
    """What `FORGET` reads."""
    return "".join(f"job {job}\n" for job in jobs) + "".join(f"run {run}\n" for run in runs)
