"""What sbatchd and res do for one job on its first host: run it, keep its limits, send it signals, and say how it ended.

Stands alone (`python -IS runner.py <job's folder>`), and goes on when mbatchd is killed. mbatchd leaves signals to send
as lines of the file `signals` and wakes it with SIGUSR1; `end.json` is the end.

IBM, LSF 10.1: bsub -W ("SIGUSR2, and is killed if it does not terminate within ten minutes"), bkill ("SIGINT and
SIGTERM ... before SIGKILL", apart by JOB_TERMINATE_INTERVAL), "Resource usage limits" (memory), bsub -o (the report in
the output file).
"""

import contextlib
import json
import os
import resource
import signal
import sys
import time

POLL_S = 0.1


def main(folder: str) -> None:
    os.chdir(folder)
    try:
        os.close(os.open("runner.pid", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return  # another start of it
    with open("job.json") as file:
        job = json.load(file)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGUSR1})
    began = time.time()
    pid = start(job)
    leave("runner.pid", {"runner": os.getpid(), "job": pid, "at": began})
    code, number, reason, most_mb = watch(job, pid, began)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    end = {"code": code, "signal": number, "reason": reason, "at": time.time()}
    end |= {"cpu": usage.ru_utime + usage.ru_stime, "mem": most_mb}
    deliver(job, end)
    leave("end.json", end)


def start(job) -> int:
    """The job's process, leader of a session of its own."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)  # whoever was started in the background by a shell ignores them
        own = os.getcwd()
        point(0, job["input"] or "/dev/null", os.O_RDONLY)
        point(1, f"{own}/out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        point(2, f"{own}/err" if job["error"] else f"{own}/out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.chdir(job["cwd"])
        except OSError:
            os.chdir("/tmp")  # bsub: "By default, if the current working directory is not accessible on the execution host"
        env = {**job["env"], "LS_JOBPID": str(os.getpid())}
        script = f"{own}/script"
        command = [script] if job["is_script"] else ["/bin/sh", script]
        os.execve(command[0], command, env)
    finally:
        os._exit(127)  # whatever went wrong: this process must not go on as a second runner


def point(number: int, path: str, flags: int) -> None:
    opened = os.open(path, flags, 0o644)
    os.dup2(opened, number)


def watch(job, pid: int, began: float):
    """Exit code, signal, reason, and the most memory in MB, once it ended."""
    due, heard, reason, most_mb, is_over_time = [], 0, "", 0.0, False
    limit = job["run_limit_s"]
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            send(pid, signal.SIGKILL)
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            code = 128 + number if number else os.WEXITSTATUS(status)
            if number and not reason:
                reason = "TERM_EXTERNAL_SIGNAL"
            return code, number, reason, most_mb
        now = time.time()
        lines = asked()
        for line in lines[heard:]:
            name, cause = line.split()
            reason = reason or ("" if cause == "-" else cause)
            due += ending(now, job) if name == "END" else [(now, getattr(signal, f"SIG{name}"))]
        heard = len(lines)
        if limit is not None and now - began >= limit and not is_over_time:
            is_over_time, reason = True, reason or "TERM_RUNLIMIT"
            due += [(now, signal.SIGUSR2), *ending(now + job["run_grace_s"], job)]
        if job["mem_limit_mb"] is not None:
            used = memory_mb(pid)
            most_mb = max(most_mb, used)
            if used > job["mem_limit_mb"] and not reason:
                reason = "TERM_MEMLIMIT"
                due += ending(now, job)
        for at, number in [item for item in due if item[0] <= now]:
            send(pid, number)
            due.remove((at, number))
        wait = 5.0 if job["mem_limit_mb"] is None else POLL_S
        wait = min([wait, *(at - now for at, _ in due)])
        wait = min(wait, began + limit - now) if limit is not None and not is_over_time else wait
        signal.sigtimedwait({signal.SIGCHLD, signal.SIGUSR1}, max(wait, 0.001))


def ending(now: float, job):
    """SIGINT, SIGTERM, SIGKILL."""
    step = job["terminate_interval_s"]
    return [(now, signal.SIGINT), (now + step, signal.SIGTERM), (now + 2 * step, signal.SIGKILL)]


def asked():
    try:
        with open("signals") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def members(session: int):
    """Processes of a session, with their resident pages."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                yield int(name), int(fields[21])


def memory_mb(session: int) -> float:
    return sum(pages for _, pages in members(session)) * os.sysconf("SC_PAGE_SIZE") / 2**20


def send(session: int, number: int) -> None:
    for pid, _ in members(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def deliver(job, end) -> None:
    """Output goes to the files of -o and -e when the job is over, below a report (LSB_STDOUT_DIRECT is not set)."""
    if job["output"] and job["output"] != "/dev/null":
        with open("out", "rb") as file:
            put(job["output"], report(job, end).encode() + file.read() + b"\n", job["output_overwrites"])
    if job["error"] and job["error"] != "/dev/null":
        with open("err", "rb") as file:
            put(job["error"], file.read(), job["error_overwrites"])


def put(path: str, content: bytes, overwrites: bool) -> None:
    try:
        with open(path, "wb" if overwrites else "ab") as file:
            file.write(content)
    except OSError:
        pass  # LSF mails it instead


def report(job, end) -> str:
    how = "Successfully completed." if not end["code"] else f"Exited with exit code {end['code']}."
    term = f"{end['reason']}: {job['reasons'].get(end['reason'], '')}.\n" if end["reason"] else ""
    return f"""Sender: LSF System <lsfadmin@{job["host"]}>
Subject: Job {job["id"]}: <{job["name"]}> in cluster <{job["cluster"]}> {"Done" if not end["code"] else "Exited"}

Job <{job["name"]}> was submitted from host <login> by user <{job["user"]}> in cluster <{job["cluster"]}>.
Job was executed on host(s) <{job["host"]}>, in queue <{job["queue"]}>, as user <{job["user"]}> in cluster <{job["cluster"]}>.

Your job looked like:

------------------------------------------------------------
# LSBATCH: User input
{job["command"]}
------------------------------------------------------------

{term}{how}

Resource usage summary:

    CPU time :                                   {end["cpu"]:.2f} sec.
    Max Memory :                                 {end["mem"]:.0f} MB

The output (if any) follows:

"""


def leave(path: str, content) -> None:
    with open(f"{path}.new", "w") as file:
        json.dump(content, file)
    os.replace(f"{path}.new", path)


if __name__ == "__main__":
    main(sys.argv[1])
