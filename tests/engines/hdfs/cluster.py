"""A real HDFS on loopback: one name node and one data node, with WebHDFS (hdfs-default.xml of Hadoop 3.4 has the properties)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from broker.store.embedded import free_ports
from tests.engines.yarn.cluster import JAVA_OPTIONS, Daemon, jars
from tests.engines.yarn.cluster import missing as missing_for_yarn

START_TIMEOUT_S = 90.0
HDFS = "org.apache.hadoop.hdfs.server"
STATE = "jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"


def missing() -> str:
    """What this machine lacks to start one; empty when nothing. The jars are YARN's."""
    if reason := missing_for_yarn():
        return reason
    found = jars()
    return "" if found and list(found.glob("hadoop-hdfs-[0-9]*.jar")) else "HDFS is not among the jars: run `make engines`"


class HdfsCluster:
    """Without permissions: any user may do anything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rpc, self.port, transfer, self._data_web, data_rpc = free_ports(5)
        self.host = "127.0.0.1"
        self.url = f"hdfs://{self.host}:{self._rpc}"
        site = {
            "dfs.replication": 1,
            "dfs.permissions.enabled": "false",
            "dfs.namenode.name.dir": folder / "names",
            "dfs.datanode.data.dir": folder / "blocks",
            "dfs.namenode.http-address": f"{self.host}:{self.port}",
            "dfs.datanode.address": f"{self.host}:{transfer}",
            "dfs.datanode.http.address": f"{self.host}:{self._data_web}",
            "dfs.datanode.ipc.address": f"{self.host}:{data_rpc}",
            "dfs.datanode.hostname": self.host,
            "dfs.namenode.safemode.extension": 0,
        }
        core = {"fs.defaultFS": self.url, "hadoop.tmp.dir": folder / "tmp"}
        self.name_node = Daemon("names", f"{HDFS}.namenode.NameNode", folder / "name", 256)
        self.data_node = Daemon("blocks", f"{HDFS}.datanode.DataNode", folder / "data", 256)
        for daemon in (self.name_node, self.data_node):
            conf = daemon.folder / "conf"
            for pages in ("hdfs", "datanode", "static"):
                (conf / "webapps" / pages).mkdir(parents=True)  # the jars hold no web pages, and the nodes ask for these folders
            (conf / "core-site.xml").write_text(_properties(core))
            (conf / "hdfs-site.xml").write_text(_properties(site))

    def start(self) -> HdfsCluster:
        """Make the file system and start both; returns once it can be written."""
        self._format()
        self.name_node.start()
        self.data_node.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            running = self.name_node.is_running and self.data_node.is_running
            if not running or time.monotonic() > deadline:
                logs = "".join((node.folder / "log").read_text()[-2000:] for node in (self.name_node, self.data_node))
                self.stop()
                raise RuntimeError(f"HDFS does not start: {logs}")
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        """End both."""
        self.data_node.end()
        self.name_node.end()

    def _format(self) -> None:
        java = shutil.which("java")
        assert java
        classpath = f"{self.name_node.folder / 'conf'}:{jars()}/*"
        command = [java, *JAVA_OPTIONS, "-Xmx256m", "-cp", classpath, f"{HDFS}.namenode.NameNode", "-format", "-nonInteractive"]
        done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(f"HDFS cannot be formatted: {done.stderr[-2000:]}")

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
            with urllib.request.urlopen(f"http://{self.host}:{self.port}/{STATE}", timeout=5) as reply:
                state = json.loads(reply.read())["beans"][0]
            return state["NumLiveDataNodes"] == 1 and state["FSState"] == "Operational"
        return False


def _properties(values: dict[str, object]) -> str:
    lines = "".join(f"<property><name>{name}</name><value>{value}</value></property>" for name, value in values.items())
    return f"<configuration>{lines}</configuration>\n"
