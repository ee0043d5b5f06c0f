"""The shell script that is the first process of every task. Pure text.

It gathers a gang, takes the claim, starts the program, hands signals on to it, ends it with its walltime or its gang, and
writes to the container's termination message what the engine cannot tell:
`left REASON MESSAGE` for a program that never ran, `ended CODE FROM TO [CAUSE]` for one that did. FROM and TO are seconds of
the node's uptime; CAUSE is `walltime`, or `gang` where another task of the gang had failed before.
https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from adapters.base import EndReason, Run
from adapters.shell import LEAVE, claim_lines, program_lines, ready_lines, variable_lines

OWN = "/fed"
"""Where the volume of the task's own is."""
LOG = "/dev/termination-log"
LEFT, ENDED = "left", "ended"
CAUSE_WALLTIME, CAUSE_GANG = "walltime", "gang"
JOB_UID, POD_UID = "FED_JOB_UID", "FED_POD_UID"
"""Environment variables that the downward API sets."""
INDEX = "JOB_COMPLETION_INDEX"
"""https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode"""


def script_of(run: Run, storage: PurePosixPath, grace_s: float, gather_s: float, index: str = INDEX) -> str:
    """The whole script. A gang gathers first, so that its claim is taken when all of it has a place.
    `index` is the environment variable that tells which task of it this is."""
    is_gang = run.tasks > 1
    # the same for each task of a gang; one task is known by its pod, as Kubernetes may start a second one in its place
    start = f'"${JOB_UID}"' if is_gang else f'"${POD_UID}"'
    return "".join(
        (
            _BEGINNING.format(log=LOG, leave=LEAVE, left=LEFT, claimed=EndReason.CLAIMED, index=index),
            _gathering(run, storage, gather_s) if is_gang else "",
            claim_lines(run, storage, start),
            ready_lines(run, storage, OWN),
            f"unset {JOB_UID} {POD_UID} {index} fed_claim fed_start fed_draft\nexport FED_TASK\n",
            program_lines(run),
            f'read -r fed_from fed_rest < /proc/uptime\n(\n{variable_lines(run)}exec "$@"\n) &\n',
            _PROGRAM.format(grace=f"{grace_s:g}"),
            _walltime(run.walltime_s) if run.walltime_s is not None else "",
            _GANG_WATCH if is_gang else "",
            _END.format(log=LOG, ended=ENDED, walltime=CAUSE_WALLTIME, gang=CAUSE_GANG, tasks=run.tasks),
        )
    )


_BEGINNING = """fed_gang=
{leave}() {{
    [ -z "$fed_gang" ] || [ "$1" = {claimed} ] || : > "$fed_gang/over"
    printf '{left} %s %s' "$1" "$2" > {log}
    exit 1
}}
trap 'exit 143' TERM
FED_TASK=${index}
"""


def _gathering(run: Run, storage: PurePosixPath, gather_s: float) -> str:
    """Each task puts a file that it alone can have made; when there are as many as tasks, all have a place."""
    return f"""fed_gang={shlex.quote(str(storage))}/.fed/gangs/${JOB_UID}
mkdir -p "$fed_gang" || {LEAVE} {EndReason.NODE_LOST} "the site's storage cannot be written"
(set -C; printf '%s' "${POD_UID}" > "$fed_gang/in.$FED_TASK") 2>/dev/null || {{ fed_gang=
    {LEAVE} {EndReason.CLAIMED} "this task of the gang was started before"; }}
fed_until=$(($(date +%s) + {max(1, round(gather_s))}))
while :; do
    set -- "$fed_gang"/in.*
    [ $# -lt {run.tasks} ] || break
    [ ! -e "$fed_gang/over" ] || {LEAVE} {EndReason.PREEMPTED} "another task of the gang left"
    [ "$(date +%s)" -lt "$fed_until" ] ||
        {LEAVE} {EndReason.PREEMPTED} "the gang did not come together: $# of {run.tasks} tasks had a place"
    sleep 0.1 2>/dev/null || sleep 1
done
"""


_PROGRAM = """fed_child=$!
exec 2> /dev/null  # shells tell of a child that was ended by a signal, among its output
fed_end() {{ kill -TERM "$fed_child" 2>/dev/null; sleep {grace}; kill -KILL "$fed_child" 2>/dev/null; }}
trap 'kill -TERM "$fed_child" 2>/dev/null' TERM
"""


def _walltime(walltime_s: float) -> str:
    return f'(sleep {walltime_s:g} || sleep {int(walltime_s) + 1} || exit; : > "$fed_own/walltime"; fed_end) > /dev/null 2>&1 &\n'


_GANG_WATCH = """(while sleep 1; do
    [ ! -e "$fed_gang/over" ] || { : > "$fed_own/gang"; fed_end; exit; }
done) > /dev/null 2>&1 &
"""

# wait returns when a signal is handled, too: then the program is still there, or waits to be waited for
_END = """while :; do
    fed_code=0
    wait "$fed_child" || fed_code=$?
    kill -0 "$fed_child" 2>/dev/null || break
done
read -r fed_to fed_rest < /proc/uptime
fed_cause=
[ ! -e "$fed_own/gang" ] || fed_cause=" {gang}"
[ ! -e "$fed_own/walltime" ] || fed_cause=" {walltime}"
if [ -n "$fed_gang" ]; then
    [ "$fed_code$fed_cause" = 0 ] || : > "$fed_gang/over"
    : > "$fed_gang/out.$FED_TASK"
    set -- "$fed_gang"/out.*
    [ $# -lt {tasks} ] || rm -rf "$fed_gang"
fi
printf '{ended} %s %s %s%s' "$fed_code" "$fed_from" "$fed_to" "$fed_cause" > {log}
[ -z "$fed_cause" ] || [ "$fed_code" != 0 ] || fed_code=124
exit "$fed_code"
"""
