"""What a YARN under test is configured with: Hadoop's XML files, from plain mappings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

QUEUES = {"batch": 80, "prio": 20}
"""Queue to its share in percent; each may take all that is free."""
GPU_TYPES = ("a100", "h100")
"""Resource types beside memory and vcores, so that GPUs that are not there can be counted."""
LOG4J = """log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n
"""


@dataclass(frozen=True)
class Node:
    """What one node manager offers, and the partition it is in ("" is the default one)."""

    memory_mib: int = 8192
    vcores: int = 4
    gpus: Mapping[str, int] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class ManagerPorts:
    """Of a resource manager."""

    scheduler: int
    tracker: int
    client: int
    admin: int
    web: int


@dataclass(frozen=True)
class NodePorts:
    """Of a node manager."""

    rpc: int
    localizer: int
    web: int
    collector: int


def manager_properties(folder: Path, ports: ManagerPorts, largest: Node, expiry_s: float, has_labels: bool) -> Mapping[str, str]:
    """yarn-site.xml of the resource manager. It recovers its applications from disk; a node manager that is not heard of for
    `expiry_s` is lost."""
    return {
        **_addresses(ports),
        "yarn.resourcemanager.cluster-id": "fed",
        "yarn.resourcemanager.scheduler.class": (
            "org.apache.hadoop.yarn.server.resourcemanager.scheduler.capacity.CapacityScheduler"
        ),
        "yarn.resourcemanager.am.max-attempts": "1",
        "yarn.am.liveness-monitor.expiry-interval-ms": "60000",
        "yarn.nm.liveness-monitor.expiry-interval-ms": str(int(expiry_s * 1000)),
        "yarn.cluster.max-application-priority": "10",
        "yarn.resourcemanager.max-completed-applications": "5000",
        "yarn.resourcemanager.recovery.enabled": "true",
        # the store in files starts a process of its own for each file that it writes
        "yarn.resourcemanager.store.class": "org.apache.hadoop.yarn.server.resourcemanager.recovery.LeveldbRMStateStore",
        "yarn.resourcemanager.leveldb-state-store.path": f"{folder}/store",
        "yarn.resourcemanager.work-preserving-recovery.scheduling-wait-ms": "500",
        "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": "200",
        "yarn.scheduler.minimum-allocation-mb": "64",
        "yarn.scheduler.maximum-allocation-mb": str(largest.memory_mib),
        "yarn.scheduler.maximum-allocation-vcores": str(largest.vcores),
        "yarn.scheduler.include-port-in-node-name": "true",
        "yarn.node-labels.enabled": str(has_labels).lower(),
        "yarn.node-labels.fs-store.root-dir": f"file://{folder}/labels",
    }


def node_properties(folder: Path, manager: ManagerPorts, ports: NodePorts, node: Node) -> Mapping[str, str]:
    """yarn-site.xml of a node manager. Containers outlive it, and their memory is watched by polling: there are no cgroups."""
    return {
        **_addresses(manager),
        "yarn.nodemanager.hostname": "127.0.0.1",
        "yarn.nodemanager.bind-host": "127.0.0.1",
        "yarn.nodemanager.address": f"127.0.0.1:{ports.rpc}",
        "yarn.nodemanager.localizer.address": f"127.0.0.1:{ports.localizer}",
        "yarn.nodemanager.webapp.address": f"127.0.0.1:{ports.web}",
        "yarn.nodemanager.collector-service.address": f"127.0.0.1:{ports.collector}",
        "yarn.nodemanager.resource.memory-mb": str(node.memory_mib),
        "yarn.nodemanager.resource.cpu-vcores": str(node.vcores),
        "yarn.nodemanager.local-dirs": f"{folder}/local",
        "yarn.nodemanager.log-dirs": f"{folder}/logs",
        "yarn.nodemanager.recovery.enabled": "true",
        "yarn.nodemanager.recovery.dir": f"{folder}/recovery",
        "yarn.nodemanager.recovery.supervised": "true",
        "yarn.nodemanager.vmem-check-enabled": "false",
        "yarn.nodemanager.pmem-check-enabled": "true",
        "yarn.nodemanager.resource.memory.enforced": "false",
        "yarn.nodemanager.container-monitor.interval-ms": "500",
        "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99.9",
        "yarn.nodemanager.env-whitelist": "JAVA_HOME,HADOOP_CONF_DIR,PATH,LANG,TZ",
        "yarn.nodemanager.log.retain-seconds": "86400",
        "yarn.log-aggregation-enable": "false",
    }


def scheduler_properties(labels: frozenset[str]) -> Mapping[str, str]:
    """capacity-scheduler.xml: application masters may fill a queue, and each queue takes what is free in each partition."""
    root = "yarn.scheduler.capacity.root"
    properties = {
        "yarn.scheduler.capacity.maximum-applications": "5000",
        "yarn.scheduler.capacity.maximum-am-resource-percent": "1.0",
        "yarn.scheduler.capacity.resource-calculator": "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator",
        "yarn.scheduler.capacity.node-locality-delay": "-1",
        f"{root}.queues": ",".join(QUEUES),
        f"{root}.accessible-node-labels": "*",
        **{f"{root}.accessible-node-labels.{label}.capacity": "100" for label in labels},
    }
    for queue, share in QUEUES.items():
        name = f"{root}.{queue}"
        properties |= {
            f"{name}.capacity": str(share),
            f"{name}.maximum-capacity": "100",
            f"{name}.user-limit-factor": "100",
            f"{name}.accessible-node-labels": "*",
        }
        for label in labels:
            properties[f"{name}.accessible-node-labels.{label}.capacity"] = str(share)
            properties[f"{name}.accessible-node-labels.{label}.maximum-capacity"] = "100"
    return properties


def write(folder: Path, site: Mapping[str, str], labels: frozenset[str], file_system: str, gpus: Mapping[str, int]) -> None:
    """Every file that Hadoop looks for, into a folder that is named by HADOOP_CONF_DIR."""
    folder.mkdir(parents=True, exist_ok=True)
    common = {"fs.defaultFS": file_system, "hadoop.tmp.dir": f"{folder.parent}/tmp", "hadoop.security.authentication": "simple"}
    # without it every user's groups are asked of a shell
    common["hadoop.user.group.static.mapping.overrides"] = "dr.who=;broker=broker"
    offered = {f"yarn.nodemanager.resource-type.{gpu}": str(count) for gpu, count in gpus.items()}
    for name, properties in {
        "core-site": common,
        "yarn-site": site,
        "capacity-scheduler": scheduler_properties(labels),
        "resource-types": {"yarn.resource-types": ",".join(GPU_TYPES)},
        "node-resources": offered,
    }.items():
        (folder / f"{name}.xml").write_text(xml(properties))
    (folder / "log4j.properties").write_text(LOG4J)


def xml(properties: Mapping[str, str]) -> str:
    """A Hadoop configuration file."""
    pairs = [(escape(name), escape(value)) for name, value in properties.items()]
    lines = [f"<property><name>{name}</name><value>{value}</value></property>" for name, value in pairs]
    return "\n".join(["<?xml version='1.0'?>", "<configuration>", *lines, "</configuration>", ""])


def _addresses(ports: ManagerPorts) -> Mapping[str, str]:
    return {
        "yarn.resourcemanager.hostname": "127.0.0.1",
        "yarn.resourcemanager.bind-host": "127.0.0.1",
        "yarn.resourcemanager.scheduler.address": f"127.0.0.1:{ports.scheduler}",
        "yarn.resourcemanager.resource-tracker.address": f"127.0.0.1:{ports.tracker}",
        "yarn.resourcemanager.address": f"127.0.0.1:{ports.client}",
        "yarn.resourcemanager.admin.address": f"127.0.0.1:{ports.admin}",
        "yarn.resourcemanager.webapp.address": f"127.0.0.1:{ports.web}",
        # 30 s otherwise: for so long nodes and masters would wait for one that was killed and is there again
        "yarn.resourcemanager.connect.retry-interval.ms": "500",
    }
