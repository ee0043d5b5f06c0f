"""A run as a batch job: the script that Slurm starts, and what is asked of Slurm for it. Pure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from adapters.base import EndReason, Run, RunName
from adapters.shell import LEAVE, claim_lines, program_lines, ready_lines, variable_lines
from adapters.slurm.codec import LEAVE_SIGNALS, MIB_PER_GIB, mib_per_cpu, tag_text, whole_cpus
from adapters.slurm.settings import Place, SlurmSettings

LIMIT_MARGIN_S = 60.0
"""Slurm's own limit is in minutes and checked every half minute: it stands behind the script's, which is exact."""
SRUN_OWN_CODE = 160
"""From here on an exit code of srun is no signal (1 to 31, plus 128) but the low byte of an error of Slurm's: one that a node
answers to a launch, from 4000 on (slurm/slurm_errno.h). 4004, of a job that is being cancelled, is 164 and would be signal 36."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What is asked of Slurm. Memory is in MiB, per node for a single task and per cpu for a gang; 0 leaves it to Slurm.
    GPUs are of each task, by Slurm's types."""

    name: RunName
    comment: str
    script: str
    place: Place
    tasks: int
    cpus_per_task: int
    memory_per_node_mib: int
    memory_per_cpu_mib: int
    limit_min: int | None
    gpus: Mapping[str, int]
    path: str

    @property
    def gpu_words(self) -> str:
        """`a100:2,h100:1`; `2` for a GPU without a type."""
        return ",".join(f"{kind}:{count}" if kind else str(count) for kind, count in self.gpus.items())

    @property
    def gres_words(self) -> str:
        """`gpu:a100:2,gpu:h100:1`."""
        return ",".join(f"gpu:{kind}:{count}" if kind else f"gpu:{count}" for kind, count in self.gpus.items())


def submission(run: Run, storage: PurePosixPath, settings: SlurmSettings) -> Submission:
    """The batch job that a run is."""
    is_gang = run.tasks > 1
    limit = None if run.walltime_s is None else math.ceil((run.walltime_s + LIMIT_MARGIN_S) / 60)
    return Submission(
        name=run.name,
        comment=tag_text(run.federation, run.pool),
        script=script(run, storage),
        place=settings.place(run.pool, run.tenant),
        tasks=run.tasks,
        cpus_per_task=whole_cpus(run.per_task),
        memory_per_node_mib=0 if is_gang else int(run.per_task.memory_gib * MIB_PER_GIB),
        memory_per_cpu_mib=mib_per_cpu(run.per_task) if is_gang else 0,
        limit_min=limit,
        gpus={settings.gpus.get(kind, kind): count for kind, count in run.per_task.gpus},
        path=settings.path,
    )


def own_directory(storage: PurePosixPath, name: RunName) -> PurePosixPath:
    """Where a run works and what it prints is kept: the same for all its tasks, and seen by whoever reads it back."""
    return storage / ".fed" / "runs" / name


def log_path(storage: PurePosixPath, name: RunName, task: int) -> PurePosixPath:
    """What this task prints."""
    return own_directory(storage, name) / f"task-{task}.log"


def log_end_path(storage: PurePosixPath, name: RunName, task: int) -> PurePosixPath:
    """Is there once the task printed its last."""
    return own_directory(storage, name) / f"task-{task}.end"


def end_path(storage: PurePosixPath, name: RunName) -> PurePosixPath:
    """What the batch script noted of its end: `<job id> <exit code as a shell's> <began> <ended>`, in epoch seconds."""
    return own_directory(storage, name) / "ended"


def script(run: Run, storage: PurePosixPath) -> str:
    """What Slurm runs once on the first node of the allocation: claim, inputs and outputs, program or the gang's step."""
    tag = shlex.quote(f"{tag_text(run.federation, run.pool)} ")
    signals = "\n".join(f"        {reason}) kill -{number} $$ ;;" for reason, number in LEAVE_SIGNALS.items())
    ours = "|".join(str(number) for number in LEAVE_SIGNALS.values())
    return f"""#!/bin/sh
# {run.name}
ulimit -c 0
umask 022
fed_scontrol=$(command -v scontrol)
fed_srun=$(command -v srun)
if [ -z "${{HOME:-}}" ]; then
    USER=$(id -un)
    LOGNAME=$USER
    HOME=$(getent passwd "$USER" | cut -d: -f6)
    export USER LOGNAME HOME
fi
fed_end_self() {{
    case $1 in
{signals}
    esac
    exit 1
}}
{LEAVE}() {{
    "${{fed_scontrol:-scontrol}}" update "JobId=$SLURM_JOB_ID" Comment={tag}"$1 $2" > /dev/null 2>&1
    fed_end_self "$1"
}}
fed_began=$(date +%s)
{claim_lines(run, storage, '"$SLURM_JOB_ID.${SLURM_RESTART_CNT:-0}.$$.$fed_began"')}
{ready_lines(run, storage, shlex.quote(str(own_directory(storage, run.name))))}
{_limit_lines(run)}{_gang_lines(run) if run.tasks > 1 else _single_lines(run)}
printf '%s %s %s %s\\n' "$SLURM_JOB_ID" "$fed_code" "$fed_began" "$(date +%s)" > "$fed_own/ended.draft" &&
    mv -f "$fed_own/ended.draft" "$fed_own/ended"
if [ "$fed_code" -gt 128 ] && [ "$fed_code" -le 192 ]; then
    fed_signal=$((fed_code - 128))
    case $fed_signal in
        {ours}) ;;
        *) kill "-$fed_signal" $$ ;;
    esac
fi
exit "$fed_code"
"""


def _limit_lines(run: Run) -> str:
    """A run that takes too long ends itself to the second; Slurm ends what is left of it."""
    if run.walltime_s is None:
        return ""
    return f"(sleep {run.walltime_s:.3f} && fed_end_self {EndReason.WALLTIME}) &\n"


def _single_lines(run: Run) -> str:
    return f"export FED_TASK=0\n{_program_lines(run)}"


def _program_lines(run: Run) -> str:
    """In a subshell, or the run's environment would be that of our own commands too, and what the shell says of a program that
    was terminated would be among the program's words."""
    return f"""{program_lines(run)}(
{variable_lines(run)}exec "$@"
) > "$fed_own/task-$FED_TASK.log" 2>&1 < /dev/null
fed_code=$?
: > "$fed_own/task-$FED_TASK.end"
"""


def _gang_lines(run: Run) -> str:
    """The tasks, all at once; the first that fails says how the gang ended, and ends it."""
    task = f"""FED_TASK=$SLURM_PROCID
export FED_TASK
fed_first() {{
    (set -C; printf '%s\\n' "$*" > "$fed_own/first") 2> /dev/null
}}
{LEAVE}() {{
    fed_first "leave $1 $2"
    exit 1
}}
{_program_lines(run)}[ "$fed_code" = 0 ] || fed_first "exit $fed_code"
exit "$fed_code"
"""
    shape = f"--ntasks={run.tasks} --cpus-per-task={whole_cpus(run.per_task)}"
    if run.per_task.gpu_count:
        shape += f" --gpu-bind=per_task:{run.per_task.gpu_count}"  # or each task sees all of the node's
    return f"""export fed_own
printf '%s' {shlex.quote(task)} > "$fed_own/task.sh"
"${{fed_srun:-srun}}" {shape} --kill-on-bad-exit=1 --output=none --input=none \\
    /bin/sh "$fed_own/task.sh" 2> "$fed_own/srun.log"
fed_code=$?
if [ "$fed_code" != 0 ]; then
    fed_how= fed_what= fed_more=
    [ ! -e "$fed_own/first" ] || read -r fed_how fed_what fed_more < "$fed_own/first"
    case $fed_how in
        leave) {LEAVE} "$fed_what" "$fed_more" ;;
        exit) fed_code=$fed_what ;;
        # no task said anything: either signals ended them all, or srun could not start them and its code is Slurm's
        *) [ "$fed_code" -gt 128 ] && [ "$fed_code" -lt {SRUN_OWN_CODE} ] ||
            {LEAVE} {EndReason.NODE_LOST} "$(grep -m 1 'srun: error' "$fed_own/srun.log")" ;;
    esac
fi
"""
