"""Every command but blaunch: sends its words to mbatchd and prints what comes back. Stands alone (`python -IS`).

While mbatchd does not listen it prints `Cannot connect to LSF. Please wait ...` and tries again, as real ones do;
LSB_NTRIES says how often (IBM, LSF 10.1, lsf.conf "LSB_NTRIES"). `switches.json` beside it holds what a test wants
printed first.
"""

import json
import os
import pwd
import socket
import sys
import time

RETRY_S = 0.25


def main(home: str, argv: list[str]) -> int:
    switches = read(f"{home}/switches.json")
    program = os.path.basename(argv[0])
    with open(f"{home}/calls", "a") as calls:
        calls.write(f"{program}\n")
    for line in switches.get("noise", []):
        print(line, file=sys.stderr if switches.get("noise_on") == "stderr" else sys.stdout, flush=True)
    if program == "bsub":
        for line in switches.get("esub", []):
            print(line, flush=True)
        if switches.get("esub_refuses"):
            print(f"{switches['esub_refuses']}\nRequest aborted by esub. Job not submitted.", file=sys.stderr)
            return 255
    if switches.get("lim_is_down") and program in ("lsid", "lshosts", "lsload"):
        print(f"{program}: ls_getclustername(): LIM is down; try later", file=sys.stderr)
        return 255
    request = {
        "argv": [program, *argv[1:]],
        "env": dict(os.environ),
        "cwd": os.getcwd(),
        "user": switches.get("user") or pwd.getpwuid(os.getuid()).pw_name,
        "host": "login",
    }
    answer = ask(home, request)
    if answer.get("needs") == "stdin":
        answer = ask(home, {**request, "stdin": sys.stdin.read()})
    sys.stdout.write(answer["out"])
    sys.stdout.flush()
    sys.stderr.write(answer["err"])
    return int(answer["code"])


def ask(home: str, request):
    tries = int(os.environ.get("LSB_NTRIES", "1000000"))
    while True:
        connection = connected(home)
        if connection:
            with connection, connection.makefile("rwb") as file:
                file.write(json.dumps(request).encode() + b"\n")
                file.flush()
                line = file.readline()
            if line.endswith(b"\n"):
                return json.loads(line)
        tries -= 1
        if tries < 0:
            return {"out": "", "err": "Failed in an LSF library call: Batch daemon is not responding. Try later\n", "code": 255}
        print("Cannot connect to LSF. Please wait ...", file=sys.stderr, flush=True)
        time.sleep(RETRY_S)


def connected(home: str):
    with open(f"{home}/port") as file:
        port = int(file.read())
    try:
        return socket.create_connection(("127.0.0.1", port))
    except OSError:
        return None


def read(path: str):
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}
