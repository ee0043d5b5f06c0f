"""One node: a containerd and a kubelet of its own, below a folder of its own, at a loopback address of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import ruamel.yaml

from broker.store.embedded import clean_environment, ending_with_us
from tests.engines.kubernetes.images import PAUSE

START_S = 60.0
_STARTER = ThreadPoolExecutor(1, "starter")
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class NodeSpec:
    """What a node is to have: labels, and resources beyond cpus and memory."""

    labels: Mapping[str, str] = field(default_factory=dict)
    extended: Mapping[str, int] = field(default_factory=dict)
    cpus: int = 2
    memory_gib: int = 8


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """A process that ends with this one: it is told to when the thread that started it ends, so that one thread starts all."""

    def begin() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                ending_with_us(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=clean_environment(),
                start_new_session=True,
            )  # fmt: skip

    return _STARTER.submit(begin).result()


def end(process: subprocess.Popen[bytes] | None, number: int = signal.SIGTERM, patience_s: float = 10.0) -> None:
    """End it and wait; SIGKILL after a while."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.send_signal(number)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Node:
    """A node whose processes can be killed and started again."""

    def __init__(self, spec: NodeSpec, folder: Path, kubeconfig: Path, programs: Path) -> None:
        self.spec, self._folder, self._kubeconfig, self._programs = spec, folder, kubeconfig, programs
        self._number = next(_NUMBERS)
        # an address may not be a loopback one, a name may: the server reaches the kubelet by it
        self.name = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}.{self._number}"
        self.containerd: subprocess.Popen[bytes] | None = None
        self.kubelet: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)

    @property
    def socket(self) -> Path:
        return self._folder / "containerd.sock"

    def start(self) -> None:
        """Both processes. Does not wait for the node to be ready."""
        self._write_config()
        command = [str(shutil.which("containerd")), "-c", str(self._folder / "containerd.toml")]
        self.containerd = start(command, self._folder / "containerd.log")
        deadline = time.monotonic() + START_S
        while self._ctr("version").returncode:
            assert time.monotonic() < deadline, f"containerd does not answer: see {self._folder}/containerd.log"
            time.sleep(0.05)

    def load(self, images: Sequence[Path]) -> None:
        """Give it images."""
        for image in images:
            done = self._ctr("-n", "k8s.io", "images", "import", str(image))
            assert done.returncode == 0, done.stderr

    def start_kubelet(self) -> None:
        labels = ",".join(f"{name}={value}" for name, value in self.spec.labels.items())
        command = [
            str(self._programs / "kubelet"), f"--config={self._folder / 'kubelet.yaml'}", f"--kubeconfig={self._kubeconfig}",
            f"--root-dir={self._folder / 'kubelet'}", f"--cert-dir={self._folder / 'kubelet-pki'}",
            f"--hostname-override={self.name}", f"--node-ip={own_address()}", f"--node-labels={labels}",
        ]  # fmt: skip
        self.kubelet = start(command, self._folder / "kubelet.log")

    def pause(self) -> None:
        """As if the machine hung: the kubelet answers nothing and tells nothing. Its containers go on."""
        assert self.kubelet
        self.kubelet.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.kubelet
        self.kubelet.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As if its power was cut: kubelet, containers and containerd are gone at once."""
        end(self.kubelet, signal.SIGKILL)
        self._kill_containers()
        end(self.containerd, signal.SIGKILL)
        self._kill_shims()
        self.kubelet = self.containerd = None

    def stop(self) -> None:
        """End all of it and leave no mount behind."""
        self.kill()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if f" {self._folder}/" in line]
        for mount in sorted(mounts, reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        logs = Path("/var/log/containers")  # the kubelet leaves links to its logs there
        for link in logs.iterdir() if logs.is_dir() else ():
            if link.is_symlink() and str(link.readlink()).startswith(f"{self._folder}/"):
                link.unlink(missing_ok=True)

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "-a", str(self.socket), "--timeout", "20s", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _kill_containers(self) -> None:
        for path in (self._folder / "run").glob("io.containerd.runtime.v2.task/k8s.io/*/init.pid"):
            _kill(int(path.read_text()))

    def _kill_shims(self) -> None:
        """They outlive containerd. Each has the address of its containerd, which is ours alone, among its arguments."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"containerd-shim" in arguments[0] and str(self.socket).encode() in arguments:
                _kill(int(process.name))

    def _write_config(self) -> None:
        folder = self._folder
        (folder / "cni").mkdir(exist_ok=True)
        subnet = f"10.{64 + os.getpid() % 128}.{self._number}.0/24"
        (folder / "cni" / "10-pods.conflist").write_text(
            '{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": false, "ipam":'
            f' {{"type": "host-local", "subnet": "{subnet}", "dataDir": "{folder}/cni-ipam"}}}}]}}'
        )
        # restrict_oom_score_adj: runc may not lower it where it lacks CAP_SYS_RESOURCE
        (folder / "containerd.toml").write_text(
            f"""version = 2
root = "{folder}/containerd"
state = "{folder}/run"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""
        )
        memory_kib = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
        reserved = {
            "cpu": str((os.cpu_count() or 0) - self.spec.cpus),
            "memory": f"{memory_kib - self.spec.memory_gib * 2**20}Ki",
        }
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.name,
            "port": 10250,
            "healthzPort": 0,
            "readOnlyPort": 0,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": "/",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "systemReserved": reserved,
            "failCgroupV1": False,
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "evictionHard": {},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "podLogsDir": f"{folder}/pods",
            "volumePluginDir": f"{folder}/plugins",
            "resolvConf": "",
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": 8,  # renewed four times as often: who is silent for --node-monitor-grace-period is lost
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
        }
        with (folder / "kubelet.yaml").open("w") as file:
            ruamel.yaml.YAML().dump(config, file)


def own_address() -> str:
    """An address of this machine that is not loopback, which Kubernetes wants of a node; nothing listens at it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
