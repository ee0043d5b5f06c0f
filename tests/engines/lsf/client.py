"""Every command but blaunch: sends its words to mbatchd and prints what comes back. Stands alone (`python -IS`).

While mbatchd does not listen it prints `Cannot connect to LSF. Please wait ...` and tries again, as real ones do;
LSB_NTRIES says how often (IBM, LSF 10.1, lsf.conf "LSB_NTRIES"). `switches.json` beside it holds what a test wants
printed first.

It imports little, and speaks marshal over a bare socket: a command that takes long to start is no good for tests with hundreds.
"""

import _socket
import marshal
import os
import pwd
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
        answer = answered(home, marshal.dumps(request))
        if answer:
            return marshal.loads(answer)
        tries -= 1
        if tries < 0:
            return {"out": "", "err": "Failed in an LSF library call: Batch daemon is not responding. Try later\n", "code": 255}
        print("Cannot connect to LSF. Please wait ...", file=sys.stderr, flush=True)
        time.sleep(RETRY_S)


def answered(home: str, request: bytes) -> bytes:
    """What mbatchd says; nothing when it does not listen, or was killed before it had said all."""
    with open(f"{home}/port") as file:
        port = int(file.read())
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        connection.connect(("127.0.0.1", port))
        send(connection, len(request).to_bytes(4, "big") + request)
        length = received(connection, 4)
        return received(connection, int.from_bytes(length, "big")) if length else b""
    except OSError:
        return b""
    finally:
        connection.close()


def send(connection, content: bytes) -> None:
    while content:
        content = content[connection.send(content) :]


def received(connection, count: int) -> bytes:
    content = b""
    while len(content) < count:
        chunk = connection.recv(count - len(content))
        if not chunk:
            return b""
        content += chunk
    return content


def read(path: str):
    if not os.path.exists(path):
        return {}
    import json

    with open(path) as file:
        return json.load(file)
