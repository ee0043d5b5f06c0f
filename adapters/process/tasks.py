"""The processes of runs: made ready, started, found again, and ended. All of it blocks and is called from threads.

Each task runs under a shell of its own, in a session of its own, that outlives the daemon. The shell's first act is to create
`<task>.pid` exclusively with its line of /proc/<pid>/stat, so that of two shells started for one task one leaves at once; its
last is to write the exit code to `<task>.exit`, with a minus where the program could not be started: a trap on EXIT runs only if
`exec` failed, so that a program's own 126 and 127 are told apart from the shell's.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from adapters.base import EndReason, Run
from adapters.process.schedule import Place

MARK = "FED_RUN"
"""In the environment of all processes of a run: `<engine's life>/<native id>`, by which those that left its process group are
found."""

SHELL = "/bin/sh"
_WRAPPER = """{ set -C; read -r me < /proc/self/stat && printf '%s\\n' "$me" > "$1.pid"; } 2>/dev/null || exit 0
set +C; trap : HUP INT QUIT USR1 USR2 TERM; task=$1; cd "$2" && ulimit -S -n "$3" || exit 1; shift 3
(trap ': > "$task.unstarted"' EXIT; exec "$@") 2>&1
code=$?; [ ! -e "$task.unstarted" ] || code=-$code
printf '%s\\n' "$code" > "$task.exit"
"""
_SOFT_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
"""What tasks get: the daemon raises its own."""
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NotStarted(Exception):
    """The run cannot be started; what was started of it by this call was ended."""

    def __init__(self, reason: EndReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a daemon keeps the files of its runs."""

    storage: Path
    state: Path

    def of(self, run: str) -> Path:
        """A run's own, gone once it is forgotten."""
        return self.state / "runs" / run

    def log(self, run: str, task: int) -> Path:
        """Output of one task; it stays for a while."""
        return self.state / "logs" / f"{run}.{task}"


@dataclass(frozen=True, slots=True)
class Launch:
    """A run to be started: its id, its places, the tasks that are still to be started, whether its nodes have GPUs, and the life
    of the engine."""

    run: Run
    id: str
    places: tuple[Place, ...]
    tasks: tuple[int, ...]
    has_gpus: bool
    engine: str


@dataclass(frozen=True, slots=True)
class Process:
    """A task's shell. `handle` is a pidfd: readable once it has ended. `is_child`: it is ours to reap."""

    pid: int
    handle: int
    is_child: bool


def launch(folders: Folders, order: Launch) -> dict[int, Process]:
    """Claim, make ready, and start all missing tasks. Raises NotStarted. May be repeated, and may be cut off anywhere."""
    run = order.run
    try:
        if run.claim and not take_claim(folders.storage / run.claim, f"{run.federation} {run.name} {order.id}\n"):
            raise NotStarted(EndReason.CLAIMED, "its claim exists already")
        command = _make_ready(folders, run)
    except OSError as error:
        raise NotStarted(EndReason.NODE_LOST, f"the site's storage: {error}") from error
    env = _environment(folders, order)
    _find_program(command[0], env["PATH"], folders.of(run.name) / "work")
    started: dict[int, Process] = {}
    try:
        for task in order.tasks:
            started[task] = _spawn(folders, run, command, {**env, **_of_task(order, task)}, task)
    except OSError as error:
        for process in started.values():
            signal_group(process, signal.SIGKILL)
            let_go(process)
        raise NotStarted(EndReason.NODE_LOST, f"task {len(started)} cannot be started: {error.strerror}") from error
    return started


def take_claim(path: Path, content: str) -> bool:
    """Create the claim with its content at once; True when it is ours, now or since an earlier call."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{content.split()[-1]}")
    draft.write_text(content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return path.read_text(errors="replace") == content
    finally:
        draft.unlink()
    return True


def _make_ready(folders: Folders, run: Run) -> tuple[str, ...]:
    """A directory to work in, links to inputs, places for outputs, the script; the command. Raises NotStarted and OSError."""
    own = folders.of(run.name)
    for name in ("work", "inputs", "outputs"):
        (own / name).mkdir(parents=True, exist_ok=True)
    outputs = _outputs_of(folders, run)
    for name, path in run.outputs.items():
        (folders.storage / path).mkdir(parents=True, exist_ok=True)
        if outputs / name != folders.storage / path:
            _link(outputs / name, folders.storage / path)
    for name, path in run.inputs.items():
        if not (folders.storage / path).exists():
            raise NotStarted(EndReason.NODE_LOST, f"input {name} is missing: nothing is at {path} of the site's storage")
        _link(own / "inputs" / name, folders.storage / path)
    if run.script is None:
        return run.command
    script = own / "script"
    script.write_text(run.script)
    script.chmod(0o700)
    return (str(script),) if run.script.startswith("#!") else (SHELL, str(script))


def _outputs_of(folders: Folders, run: Run) -> Path:
    """The folder with one for each output. Where they lie together in one that bears the run's name, it is that: what a program
    puts in an output's place is then the output. Elsewhere it is one of links."""
    paths = {PurePath(path).parent if PurePath(path).name == name else None for name, path in run.outputs.items()}
    folder = paths.pop() if len(paths) == 1 else None
    return folders.storage / folder if folder and folder.name == run.name else folders.of(run.name) / "outputs"


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _environment(folders: Folders, order: Launch) -> dict[str, str]:
    """What all tasks of a run see: little of the daemon's own, what the run brings, and our words last."""
    run, own = order.run, folders.of(order.run.name)
    return {
        "PATH": os.environ.get("PATH", _DEFAULT_PATH),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        **run.env,
        MARK: f"{order.engine}/{order.id}",
        "FED_JOB": run.job,
        "FED_ATTEMPT": run.name.rpartition("-a")[2],
        "FED_TASKS": str(run.tasks),
        "FED_INPUTS": str(own / "inputs"),
        "FED_OUTPUTS": str(_outputs_of(folders, run)),
    }


def _of_task(order: Launch, task: int) -> Mapping[str, str]:
    """What one task sees beside that. Without GPUs of its own it is to see none of its node's."""
    seen = {"FED_TASK": str(task)}
    if order.has_gpus:
        seen["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, order.places[task].gpus))
    return seen


def _find_program(name: str, path: str, work: Path) -> None:
    """Raise NotStarted for a program that is not there: a shell would only tell by an exit code that programs use as well."""
    found = work / name if "/" in name else shutil.which(name, path=path)
    if found is None or not os.path.exists(found):
        raise NotStarted(EndReason.START_FAILED, f"there is no program {name}")
    if os.path.isdir(found) or not os.access(found, os.X_OK):
        raise NotStarted(EndReason.START_FAILED, f"{name} is no program that may be run")


def _spawn(folders: Folders, run: Run, command: tuple[str, ...], env: Mapping[str, str], task: int) -> Process:
    own = folders.of(run.name)
    pid = os.posix_spawn(
        SHELL,
        ["sh", "-c", _WRAPPER, "sh", str(own / str(task)), str(own / "work"), str(_SOFT_FILES), *command],
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folders.log(run.name, task)), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM],
    )
    try:
        return Process(pid, os.pidfd_open(pid), True)
    except OSError:  # no more files may be opened: nobody else knows of it
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def find(folders: Folders, run: str, task: int) -> Process | None:
    """A task's shell that another daemon started, if it lives."""
    try:
        line = (folders.of(run) / f"{task}.pid").read_text()
        pid = int(line.split(" ", 1)[0])
        handle = os.pidfd_open(pid)
    except (OSError, ValueError):
        return None  # not begun, gone, or cut off while it wrote the line
    if _start_time(line) == _start_time(_stat_of(pid)):
        return Process(pid, handle, False)
    os.close(handle)
    return None


def has_begun(folders: Folders, run: str, task: int) -> bool:
    """Whether a shell has taken the task."""
    return (folders.of(run) / f"{task}.pid").exists()


def end_of(folders: Folders, run: str, task: int) -> tuple[float, int] | None:
    """When a task ended (epoch seconds) and its exit code as a shell gives it; None while that is not written."""
    try:
        with (folders.of(run) / f"{task}.exit").open() as file:
            line = file.read()
            return (os.fstat(file.fileno()).st_mtime, int(line)) if line.endswith("\n") else None
    except FileNotFoundError:
        return None


def signal_group(process: Process, number: signal.Signals) -> None:
    """To the shell and all that is still in its process group. One that has ended is not an error."""
    try:
        signal.pidfd_send_signal(process.handle, 0)
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def let_go(process: Process) -> None:
    """Give back what we hold of a shell that has ended, and end what it left in its process group."""
    if process.is_child:
        signal_group(process, signal.SIGKILL)  # not yet reaped, so that its number is still its own
        os.waitpid(process.pid, 0)
    os.close(process.handle)


def marked() -> dict[int, tuple[str, str]]:
    """Every process of a run, wherever it went: its number, the engine that started its run, and the run's id."""
    found = {}
    mark = f"{MARK}=".encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read()
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            continue  # it has ended, or is another user's
        if mark in environment:
            word = next((word for word in environment.split(b"\0") if word.startswith(mark)), b"")
            engine, _, native_id = word.removeprefix(mark).decode(errors="replace").partition("/")
            found[int(name)] = (engine, native_id)
    return found


def sweep(is_wanted: Callable[[str, str], bool]) -> int:
    """SIGKILL to every process of the runs that are wanted, by their engine and id; how many there were."""
    found = [process for process, (engine, native_id) in marked().items() if is_wanted(engine, native_id)]
    for process in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
    return len(found)


def remove(folders: Folders, run: str) -> None:
    """A forgotten run's files, but for its output."""
    shutil.rmtree(folders.of(run), ignore_errors=True)


def _stat_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _start_time(line: str) -> str:
    """Field 22 of /proc/<pid>/stat; the name in the second may hold blanks."""
    fields = line.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def drop_logs(folders: Folders, keep: Collection[str], most_bytes: float, most_s: float, now: float) -> None:
    """Remove output of runs other than `keep`: all older than `most_s`, and the oldest until the rest is within `most_bytes`."""
    found = []
    for entry in os.scandir(folders.state / "logs"):
        if entry.name.rpartition(".")[0] not in keep:
            status = entry.stat()
            found.append((status.st_mtime, status.st_size, entry.path))
    total = 0
    for written_at, size, path in sorted(found, reverse=True):
        total += size
        if written_at < now and (total > most_bytes or written_at + most_s < now):
            os.unlink(path)
