"""A login node: a real OpenSSH server on a loopback port, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from broker.store.embedded import ending_with_us, free_ports

SSHD = Path("/usr/sbin/sshd")
START_TIMEOUT_S = 20.0
PRIVILEGE_SEPARATION = Path("/run/sshd")
"""A directory that sshd asks for, and that a running system's own service makes."""


def missing() -> str:
    """What this machine lacks for a login node; empty when nothing."""
    if not SSHD.exists() or shutil.which("ssh-keygen") is None:
        return "no OpenSSH server: run tests/engines/ssh/build.sh as root"
    if not PRIVILEGE_SEPARATION.exists() and os.geteuid() != 0:
        return f"{PRIVILEGE_SEPARATION} is missing, and only root can make it"
    return ""


class LoginNode:
    """Its files are below `folder`; the user who runs the tests may log in with `key`, and nobody else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = "127.0.0.1"
        self.user = getpass.getuser()
        (self.port,) = free_ports(1)
        self.key = folder / "user_key"
        self.known_hosts = folder / "known_hosts"
        self._host_key = folder / "host_key"
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        make_key(self.key)
        make_key(self._host_key)
        shutil.copy(self.key.with_suffix(".pub"), folder / "authorized_keys")
        self.write_known_hosts(self._host_key)
        (folder / "sshd_config").write_text(self._config())

    def write_known_hosts(self, host_key: Path) -> None:
        """Clients are to believe that this is the server's key."""
        kind, key = host_key.with_suffix(".pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {kind} {key}\n")

    def start(self) -> None:
        """Start it, or start it again at the same port; returns once it greets."""
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ending_with_us([str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._greets():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd does not start: {(self.folder / 'sshd.log').read_text()}")
            time.sleep(0.02)

    def cut(self) -> None:
        """End every connection there is, as a network that breaks would; the server goes on and takes new ones."""
        for pid in self._sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the server and its connections."""
        if self._process is not None:
            self.cut()
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def freeze(self) -> None:
        """From now on neither the server nor its connections answer."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """They go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process
        for pid in (self._process.pid, *self._sessions()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _sessions(self) -> list[int]:
        """Processes of sshd itself below the listening one: not the commands that they run."""
        assert self._process
        children: dict[int, list[int]] = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # "pid (name) state parent ...", and a name may hold anything
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if os.path.realpath(process / "exe") == str(SSHD.resolve()):
                    children.setdefault(parent, []).append(int(process.name))
        found, parents = [], [self._process.pid]
        while parents:
            below = children.get(parents.pop(), [])
            found += below
            parents += below
        return found

    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=1) as client:
            return client.recv(4) == b"SSH-"
        return False

    def _config(self) -> str:
        return f"""Port {self.port}
ListenAddress {self.host}
HostKey {self._host_key}
PidFile none
AuthorizedKeysFile {self.folder / "authorized_keys"}
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
StrictModes no
PrintMotd no
PrintLastLog no
MaxStartups 100
Subsystem sftp internal-sftp
LogLevel VERBOSE
"""


def make_key(path: Path) -> None:
    """A new Ed25519 key without a passphrase; its public half is beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, stdin=subprocess.DEVNULL)
