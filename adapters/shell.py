"""The shell script by which a run starts at engines that have no daemon of ours: its claim, its inputs and outputs, its program.

Pure text. Who sends it gives three things to it: `storage`, the site's storage as tasks see it; `own`, a directory of the run's
own there or on the node; and `leave`, how the engine is told, past the program's own exit codes, that the program never ran.
"""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from adapters.base import EndReason, Run

LEAVE = "fed_leave"
"""Name of the shell function, defined by the caller, that takes an `EndReason` and a message and does not return."""
SIGNAL_BASE, SIGNAL_COUNT = 128, 64
"""A shell's code of a program that signal n ended is 128 + n
(https://pubs.opengroup.org/onlinepubs/9699919799/utilities/V3_chap02.html#tag_18_08_02 asks for more than 128); Linux has 64."""


def exit_of(code: int) -> tuple[int | None, int | None]:
    """Exit code and signal, one of them None, of what a shell calls `code`. A program that itself exits with more than 128 looks
    like one that was killed: shells tell them apart no better."""
    is_signal = SIGNAL_BASE < code <= SIGNAL_BASE + SIGNAL_COUNT
    return (None, code - SIGNAL_BASE) if is_signal else (code, None)


def document_of(content: str, after: str = "") -> str:
    """A here-document, from `<<` on, of text that ends with a line end: nothing in it ends it, or is read by the shell. `after`
    is what follows on the line of the command."""
    end = "FED_END"
    while end in content:
        end += "_"
    return f"<<'{end}'{after}\n{content}{end}"


def claim_lines(run: Run, storage: PurePosixPath, start: str) -> str:
    """Take the run's claim, or leave. `start` is a shell word that names this one start by the engine, the same for every task
    of the gang and another one if the engine starts the run again: who finds it in the claim goes on.

    The claim appears with its content, by a hard link; a file system without links gets exclusive creation."""
    if not run.claim:
        return ""
    claim = shlex.quote(str(storage / run.claim))
    return f"""fed_claim={claim}
fed_start="{run.federation} {run.name} "{start}
mkdir -p "${{fed_claim%/*}}" || {LEAVE} {EndReason.NODE_LOST} "the site's storage cannot be written"
fed_draft="$fed_claim.$$.$(uname -n)"
printf '%s\\n' "$fed_start" > "$fed_draft" || {LEAVE} {EndReason.NODE_LOST} "the site's storage cannot be written"
ln "$fed_draft" "$fed_claim" 2>/dev/null || [ -e "$fed_claim" ] ||
    (set -C; printf '%s\\n' "$fed_start" > "$fed_claim") 2>/dev/null
rm -f "$fed_draft"
[ "$(cat "$fed_claim")" = "$fed_start" ] || {LEAVE} {EndReason.CLAIMED} "its claim exists already"
"""


def ready_lines(run: Run, storage: PurePosixPath, own: str) -> str:
    """Make links to inputs, places for outputs and the directory to work in. `own` is a shell word."""
    unwritable = f"{LEAVE} {EndReason.NODE_LOST} \"the site's storage cannot be written\""
    lines = [f"fed_own={own}", f'mkdir -p "$fed_own/work" "$fed_own/inputs" "$fed_own/outputs" || {unwritable}']
    for name, path in run.inputs.items():
        place = shlex.quote(str(storage / path))
        missing = shlex.quote(f"input {name} is missing: nothing is at {path} of the site's storage")
        lines.append(f"[ -e {place} ] || {LEAVE} {EndReason.NODE_LOST} {missing}")
        lines.append(f'ln -sfn {place} "$fed_own/inputs/"{shlex.quote(name)} || {unwritable}')
    for name, path in run.outputs.items():
        place = shlex.quote(str(storage / path))
        lines.append(f'mkdir -p {place} && ln -sfn {place} "$fed_own/outputs/"{shlex.quote(name)} || {unwritable}')
    return "\n".join(lines) + "\n"


def program_lines(run: Run) -> str:
    """Go to the directory to work in and set the positional parameters to the program; leave where there is none of that name.
    What is to follow, and nothing of ours after it, is `variable_lines` and `exec "$@"`."""
    lines = ['cd "$fed_own/work"']
    if run.script is None:
        missing = shlex.quote(f"there is no program {run.command[0]}")
        path = f"PATH={shlex.quote(run.env['PATH'])}; " if "PATH" in run.env else ""
        lines.append(f"set -- {shlex.join(run.command)}")
        lines.append(f'({path}command -v "$1") > /dev/null || {LEAVE} {EndReason.START_FAILED} {missing}')
    else:
        # each task writes a draft of its own and moves it into place: one that runs is never written to
        lines.append(f"printf '%s' {shlex.quote(run.script)} > \"$fed_own/script.$$\" && chmod 700 \"$fed_own/script.$$\"")
        lines.append('mv -f "$fed_own/script.$$" "$fed_own/script"')
        lines.append('set -- "$fed_own/script"' if run.script.startswith("#!") else 'set -- /bin/sh "$fed_own/script"')
    return "\n".join(lines) + "\n"


def variable_lines(run: Run) -> str:
    """Set what every task sees but `FED_TASK`; `$fed_own` is set already. For a shell that does nothing more but the program: a
    run's PATH or LD_PRELOAD is for that alone. Words that begin with `FED_` are ours."""
    lines = [
        f"export FED_JOB={shlex.quote(run.job)} FED_ATTEMPT={run.name.rpartition('-a')[2]} FED_TASKS={run.tasks}",
        'export FED_INPUTS="$fed_own/inputs" FED_OUTPUTS="$fed_own/outputs"',
    ]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in run.env.items() if not name.startswith("FED_")]
    return "\n".join(lines) + "\n"
