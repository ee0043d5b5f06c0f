"""blaunch: the tasks of a parallel job. All hosts are this machine. Stands alone (`python -IS`).

IBM, LSF 10.1, "blaunch" (topic=reference-blaunch): `blaunch [-n] [-u host_file | -z host_name ... | host_name]
[-use-login-shell | -no-shell] command`; works only in a job; "when no host names are specified, LSF runs tasks on all
allocated hosts, one remote task per job slot"; standard input is /dev/null. Tasks are numbered from 1 in LSF_PM_TASKID,
as Open MPI and PRRTE read it. A task that fails does not end the others (lsb.applications "RTASK_GONE_ACTION",
default). Which of several exit codes it ends with is not documented: here the first in order that is not 0.
"""

import os
import subprocess
import sys


def main(argv: list[str]) -> int:
    if "LSB_JOBID" not in os.environ:
        print("blaunch: Failed in lsb_launch: this command works only under LSF", file=sys.stderr)
        return 255
    allocated = os.environ["LSB_HOSTS"].split()
    hosts, words, through_shell = None, list(argv), True
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "-z":
            hosts = words.pop(0).split()
        elif option == "-u":
            with open(words.pop(0)) as file:
                hosts = file.read().split()
        elif option == "-no-shell":
            through_shell = False
    if hosts is None and words and words[0] in allocated:
        hosts = [words.pop(0)]
    hosts = allocated if hosts is None else hosts
    for host in hosts:
        if host not in allocated:
            print(f"blaunch: Failed in lsb_launch: Host <{host}> is not in the job's allocation", file=sys.stderr)
            return 255
    command = ["/bin/sh", "-c", " ".join(words)] if through_shell else words
    tasks = []
    for number, _ in enumerate(hosts, 1):
        env = {**os.environ, "LSF_PM_TASKID": str(number)}
        tasks.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL))
    codes = [task.wait() for task in tasks]
    return next((code if code > 0 else 128 - code for code in codes if code), 0)
