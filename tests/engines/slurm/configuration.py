"""What a Slurm under test is configured with: its files as text."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MIN_JOB_AGE_S = 60
NODES: Sequence[tuple[str, int, Mapping[str, int]]] = (("cpu", 2, {}), ("gpu", 1, {"a100": 2, "h100": 1}))
"""Partition, nodes, GPUs of each. A node has 4 cpus and 8 GiB: what the contract's pools say."""
NODE_COUNT = sum(count for _, count, _ in NODES)


@dataclass(frozen=True)
class Words:
    """What one cluster does not have in common with others. Nodes are in the order of `NODES`."""

    folder: Path
    name: str
    user: str
    controller_port: int
    node_ports: Sequence[int]
    dbd_port: int | None
    """Of slurmdbd; None without accounting."""

    @property
    def node_names(self) -> Sequence[str]:
        """One for each port."""
        return [f"{self.name}-n{number}" for number in range(1, len(self.node_ports) + 1)]


def slurm_conf(words: Words) -> str:
    """slurm.conf."""
    etc, run, log = (words.folder / part for part in ("etc", "run", "log"))
    ports = dict(zip(words.node_names, words.node_ports, strict=True))
    nodes, partitions = [], []
    for partition, own, gpus in _partitions(words):
        has = ",".join(f"gpu:{kind}:{number}" for kind, number in gpus.items())
        nodes += [
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[name]} CPUs=4 RealMemory=8192"
            f"{' Gres=' + has if has else ''} State=UNKNOWN"
            for name in own
        ]
        partitions.append(
            f"PartitionName={partition} Nodes={','.join(own)} MaxTime=600 DefaultTime=60 DefMemPerCPU=100 State=UP"
            f"{' Default=YES' if partition == 'cpu' else ''}"
        )
    return _lines(
        f"ClusterName={words.name}",
        "SlurmctldHost=localhost(127.0.0.1)",
        f"SlurmUser={words.user}",
        f"SlurmdUser={words.user}",
        f"SlurmctldPort={words.controller_port}",
        "AuthType=auth/munge",
        f"AuthInfo=socket={run}/munge.sock",
        "CredType=cred/munge",
        "AuthAltTypes=auth/jwt",
        f"AuthAltParameters=jwt_key={etc}/jwt.key",
        f"StateSaveLocation={words.folder}/state",
        f"SlurmdSpoolDir={words.folder}/spool/%n",
        f"SlurmctldPidFile={run}/slurmctld.pid",
        f"SlurmdPidFile={run}/slurmd-%n.pid",
        f"SlurmctldLogFile={log}/slurmctld.log",
        f"SlurmdLogFile={log}/slurmd-%n.log",
        *_COMMON,
        f"MinJobAge={MIN_JOB_AGE_S}",
        *_accounting(words),
        # the controller then binds to the address of this machine's own name, which must be loopback
        *(["CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"] if _our_name_is_loopback() else []),
        *nodes,
        *partitions,
    )


def gres_conf(words: Words, device: Callable[[str], str]) -> str:
    """gres.conf; `device` gives the path of the file that stands for a GPU of this name."""
    return _lines(
        *(
            f"NodeName={name} Name=gpu Type={kind} File={device(f'{name}-{kind}{number}')}"
            for _, own, gpus in _partitions(words)
            for name in own
            for kind, total in gpus.items()
            for number in range(total)
        )
    )


def slurmdbd_conf(words: Words) -> str:
    """slurmdbd.conf, for a MariaDB that it finds by MYSQL_UNIX_PORT."""
    return _lines(
        "AuthType=auth/munge",
        f"AuthInfo=socket={words.folder}/run/munge.sock",
        "AuthAltTypes=auth/jwt",
        f"AuthAltParameters=jwt_key={words.folder}/etc/jwt.key",
        "DbdHost=localhost",
        "DbdAddr=127.0.0.1",
        f"DbdPort={words.dbd_port}",
        f"SlurmUser={words.user}",
        f"PidFile={words.folder}/run/slurmdbd.pid",
        f"LogFile={words.folder}/log/slurmdbd.log",
        "StorageType=accounting_storage/mysql",
        "StorageHost=localhost",
        "StorageUser=slurm",
        "StoragePass=slurm",
        "StorageLoc=slurm_acct",
    )


_COMMON = (
    "ProctrackType=proctrack/linuxproc",
    "TaskPlugin=task/none",
    "JobAcctGatherType=jobacct_gather/linux",
    "JobAcctGatherFrequency=1",
    "JobAcctGatherParams=OverMemoryKill",
    "MpiDefault=none",
    "SwitchType=switch/none",
    "SlurmdParameters=config_overrides",
    "SelectType=select/cons_tres",
    "SelectTypeParameters=CR_Core_Memory",
    "SchedulerType=sched/backfill",
    "SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0",
    "PriorityType=priority/basic",
    "KillWait=2",
    "CompleteWait=0",
    "ReturnToService=2",
    "MailProg=/bin/true",
    "EnforcePartLimits=ALL",
    "SlurmctldTimeout=30",
    "SlurmdTimeout=8",
    "InactiveLimit=0",
    "Waittime=0",
    "TCPTimeout=5",
    "MessageTimeout=10",
    "GresTypes=gpu",
)


def _partitions(words: Words) -> Iterator[tuple[str, Sequence[str], Mapping[str, int]]]:
    """Each with the names of its nodes, and the GPUs of one."""
    names = iter(words.node_names)
    for partition, count, gpus in NODES:
        yield partition, [next(names) for _ in range(count)], gpus


def _accounting(words: Words) -> Sequence[str]:
    if words.dbd_port is None:
        return ["AccountingStorageType=accounting_storage/none"]
    return [
        "AccountingStorageType=accounting_storage/slurmdbd",
        "AccountingStorageHost=127.0.0.1",
        f"AccountingStoragePort={words.dbd_port}",
        f"AccountingStoragePass={words.folder}/run/munge.sock",
        "AccountingStorageEnforce=associations,limits,qos",
        "AccountingStoreFlags=job_comment",
    ]


def _lines(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def _our_name_is_loopback() -> bool:
    try:
        return socket.gethostbyname(socket.gethostname()).startswith("127.")
    except OSError:
        return False
