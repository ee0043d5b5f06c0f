"""A real Slurm cluster on loopback: its own munge, controller, three nodes, REST daemon and, if asked, accounting."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from broker.store.embedded import ending_with_us, free_ports
from tests.engines.running import cache
from tests.engines.slurm.configuration import NODE_COUNT, Words, gres_conf, slurm_conf, slurmdbd_conf

PATIENCE_S = 60.0
STOP_S = 20.0
PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmrestd", "slurmdbd", "mariadbd", "mariadb-install-db", "sbatch", "sacct")
REST_USER = ("--reuid=nobody", "--regid=nogroup")
"""slurmrestd refuses to be root."""


def missing() -> str:
    """What this machine lacks to run it; empty when nothing."""
    lacks = [program for program in PROGRAMS if _path_of(program) is None]
    return f"no {', '.join(lacks)}: run tests/engines/slurm/build.sh as root" if lacks else ""


def newer_tree() -> Path:
    """Where build.sh puts Slurm 24.11."""
    return cache() / "slurm-24.11"


def missing_newer() -> str:
    """What this machine lacks to run Slurm 24.11; empty when nothing."""
    if not (newer_tree() / "usr/sbin/slurmctld").exists():
        return "no Slurm 24.11: run tests/engines/slurm/build.sh as root"
    return "" if os.getuid() == 0 else "Slurm 24.11 needs root: its daemons are started in a tree of their own"


class Cluster:
    """One cluster with all it needs below `folder`. Ends what it started by pid, and nothing else. With `tree`, its programs
    are those of that tree, in which they see the folder at its own path."""

    def __init__(self, folder: Path, name: str = "alpha", has_accounting: bool = False, tree: Path | None = None) -> None:
        self.folder = folder
        self._tree = tree
        self.name = name
        self.has_accounting = has_accounting
        self.user = pwd.getpwuid(os.getuid()).pw_name
        controller_port, self._dbd_port, self.rest_port, *node_ports = free_ports(3 + NODE_COUNT)
        dbd_port = self._dbd_port if has_accounting else None
        self._words = Words(folder, name, self.user, controller_port, node_ports, dbd_port)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for part in ("etc", "state", "log", "run", "spool", "rest"):
            (folder / part).mkdir(parents=True)
        folder.chmod(0o755)

    @property
    def conf(self) -> Path:
        """Its slurm.conf."""
        return self.folder / "etc" / "slurm.conf"

    @property
    def url(self) -> str:
        """Of slurmrestd."""
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def node_names(self) -> Sequence[str]:
        """In the order of `NODES`."""
        return self._words.node_names

    def start(self) -> None:
        """Start all of it, and wait until every node is idle and REST answers."""
        self._write_keys()
        self._write_conf()
        self._start("munged", self._munged())
        self._wait("munge's socket", (self.folder / "run" / "munge.sock").exists)
        if self.has_accounting:
            self._start_accounting()
        self.start_controller()
        for node in self.node_names:
            self.start_node(node)
        self.start_rest()
        self.wait_idle()

    def stop(self) -> None:
        """See `RealEngine.stop`: jobs first, then daemons, the last started first."""
        if self.is_running("slurmctld"):
            self.send("slurmctld", signal.SIGCONT)
            self.command("scancel", f"--user={self.user}", check=False)
            self._wait("end of all jobs", lambda: not self.command("squeue", "-h", "-o", "%A", check=False).strip())
        for name in reversed(list(self._processes)):
            self.send(name, signal.SIGCONT)
            self.end(name)

    def command(self, *argv: str, check: bool = True) -> str:
        """What a Slurm command prints."""
        done = subprocess.run(self._placed(argv), env=self.environment, capture_output=True, text=True, timeout=60, check=check)
        return done.stdout

    def end_jobs(self, federation: str) -> None:
        """Cancel what this federation left."""
        rows = (line.split(" ", 1) for line in self.command("squeue", "-h", "-o", "%A %j").splitlines())
        ids = [number for number, name in rows if name.startswith(f"{federation}-")]
        if ids:
            self.command("scancel", *ids)

    def node_of(self, job_name: str) -> str:
        """The node on which the job of this name runs."""
        return self.command("squeue", "-h", f"--name={job_name}", "-o", "%N").strip()

    @property
    def environment(self) -> Mapping[str, str]:
        """In which Slurm's commands find this cluster."""
        return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "SLURM_CONF": str(self.conf), "LC_ALL": "C.UTF-8"}

    def token(self, lifespan_s: int = 86400) -> str:
        """A JWT of our user."""
        said = self.command("scontrol", "token", f"username={self.user}", f"lifespan={lifespan_s}")
        return said.strip().removeprefix("SLURM_JWT=")

    def start_controller(self) -> None:
        """Start slurmctld and wait until it answers."""
        self._start("slurmctld", ["slurmctld", "-D", "-f", str(self.conf)])
        self._wait("slurmctld", lambda: "UP" in self.command("scontrol", "ping", check=False))

    def start_node(self, node: str) -> None:
        """Start the slurmd of this node."""
        (self.folder / "spool" / node).mkdir(exist_ok=True)
        self._start(node, ["slurmd", "-D", "-f", str(self.conf), "-N", node])

    def start_rest(self) -> None:
        """Start slurmrestd and wait until it listens."""
        apis = "openapi/v0.0.38,openapi/dbv0.0.38" if self.has_accounting else "openapi/v0.0.38"
        if self._tree is not None:
            apis = "openapi/slurmctld"
        command = ["slurmrestd", "-f", str(self.conf), "-a", "rest_auth/jwt", "-s", apis]
        if os.getuid() == 0:
            # who changes user loses the wish to end with us, so it is made again after that
            command = ["setpriv", *REST_USER, "--clear-groups", "--pdeathsig=TERM", *command]
        self._start("slurmrestd", [*command, f"127.0.0.1:{self.rest_port}"], SLURM_JWT="daemon")
        self._wait("slurmrestd", lambda: _listens(self.rest_port))

    def wait_idle(self) -> None:
        """Wait until every node can take jobs."""

        def all_up() -> bool:
            states = self.command("sinfo", "-h", "-N", "-o", "%T", check=False).split()
            return len(states) == len(self.node_names) and all(state in ("idle", "mixed", "allocated") for state in states)

        self._wait("nodes", all_up)

    def wait_saved(self) -> None:
        """Wait until slurmctld has written to disk all that it knows now; it does so within five seconds of a change."""
        state, began = self.folder / "state" / "job_state", time.time()
        self.command("scancel", "--name=changing")
        held = self.command("sbatch", "--parsable", "--hold", "--job-name=changing", "--output=/dev/null", "--wrap=true").strip()

        def is_saved() -> bool:
            # a change in the second of the last save may be passed over
            self.command("scontrol", "update", f"JobId={held}", f"Comment={time.time()}")
            return state.exists() and state.stat().st_mtime > began

        self._wait("saved state", is_saved)

    def remember(self, min_age_s: int) -> None:
        """Set for how long jobs that are over are still listed."""
        text = "".join(f"{line}\n" for line in self.conf.read_text().splitlines() if not line.startswith("MinJobAge="))
        self.conf.write_text(f"{text}MinJobAge={min_age_s}\n")
        self.command("scontrol", "reconfigure")

    def is_running(self, name: str) -> bool:
        """Whether this daemon was started and lives."""
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def send(self, name: str, number: int) -> None:
        """To one daemon: `slurmctld`, `slurmrestd`, `munged`, the name of a node ..."""
        if self.is_running(name):
            self._processes[name].send_signal(number)

    def end(self, name: str, number: int = signal.SIGTERM) -> None:
        """End one daemon and wait until it is gone."""
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start_munge(self) -> None:
        """Start munged again."""
        self._start("munged", self._munged())
        self._wait("munge's socket", (self.folder / "run" / "munge.sock").exists)

    def _start(self, name: str, command: Sequence[str], **environment: str) -> None:
        assert not self.is_running(name), f"{name} runs already"
        if self._tree is None:
            command = [str(_path_of(command[0])), *command[1:]]
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                ending_with_us(self._placed(command)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environment, **environment},
                start_new_session=True,
            )

    def _placed(self, command: Sequence[str]) -> Sequence[str]:
        """The command, in the tree where there is one. What is mounted there is this process's alone and ends with it."""
        if self._tree is None:
            return command
        place = tempfile.gettempdir()
        (self._tree / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", _ENTER, str(self._tree), place, *command]

    def _wait(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"{self.name}: no {what} within {PATIENCE_S} s; see {self.folder}/log"
            time.sleep(0.02)

    def _munged(self) -> Sequence[str]:
        run, log = self.folder / "run", self.folder / "log"
        return [
            "munged",
            "--foreground",
            *(["--force"] if os.getuid() == 0 else []),
            f"--key-file={self.folder}/etc/munge.key",
            f"--socket={run}/munge.sock",
            f"--pid-file={run}/munged.pid",
            f"--log-file={log}/munged.log",
            f"--seed-file={run}/munged.seed",
            "--num-threads=4",
        ]

    def _write_keys(self) -> None:
        for name, size in (("munge.key", 1024), ("jwt.key", 32)):
            path = self.folder / "etc" / name
            path.touch(mode=0o600)
            path.write_bytes(os.urandom(size))

    def _write_conf(self) -> None:
        etc = self.folder / "etc"
        if self._tree is not None:
            (etc / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
            shutil.copy("/etc/hosts", self._tree / "etc" / "hosts")
        (etc / "gres.conf").write_text(gres_conf(self._words, self._device))
        self.conf.write_text(slurm_conf(self._words))

    def _device(self, name: str) -> str:
        """A character device that stands for a GPU: a private copy of /dev/null where we may make one."""
        path = self.folder / "etc" / name
        if os.getuid() != 0:
            harmless = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
            return harmless[hash(name) % len(harmless)]
        os.mknod(path, 0o20666, os.makedev(1, 3))
        return str(path)

    def _start_accounting(self) -> None:
        place, sock = self.folder / "mysql", self.folder / "run" / "mysql.sock"
        install = ["--no-defaults", f"--user={self.user}", f"--datadir={place}", "--auth-root-authentication-method=normal"]
        subprocess.run(
            [_path_of("mariadb-install-db"), *install, "--skip-test-db", "--innodb-log-file-size=8M"],
            capture_output=True,
            check=True,
        )
        small = ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"]
        small += ["--innodb-lock-wait-timeout=900", "--performance-schema=off", "--skip-log-bin", "--skip-networking"]
        own = [f"--user={self.user}", f"--datadir={place}", f"--socket={sock}", f"--pid-file={self.folder}/run/mysql.pid"]
        self._start("mariadbd", ["mariadbd", "--no-defaults", *own, *small])
        sql = "create database slurm_acct; create user slurm@localhost identified by 'slurm';"
        sql += "grant all on slurm_acct.* to slurm@localhost;"
        client = ("mariadb", "--no-defaults", "-uroot", "-S", str(sock), "-e")
        self._wait("MariaDB", lambda: subprocess.run([*client, "select 1"], capture_output=True, check=False).returncode == 0)
        self.command(*client, sql)
        conf = self.folder / "etc" / "slurmdbd.conf"
        conf.touch(mode=0o600)
        conf.write_text(slurmdbd_conf(self._words))
        self._start("slurmdbd", ["slurmdbd", "-D"], MYSQL_UNIX_PORT=str(sock))
        self._wait("slurmdbd", lambda: _listens(self._dbd_port))
        for what in (["cluster", self.name], ["account", "research"], ["user", self.user, "account=research"]):
            self.command("sacctmgr", "-i", "add", *what, check=False)  # root and its account are there already


_ENTER = """mount -t proc proc "$0/proc" && mount --rbind "$1" "$0$1" || exit 1
shift
exec chroot "$0" "$@"
"""
def _path_of(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
