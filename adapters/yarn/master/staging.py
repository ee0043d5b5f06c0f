"""What a run does where its site's storage is in HDFS and mounted nowhere: its claim, its inputs and its outputs over WebHDFS.

The carried program is called for it by the scripts (`act`): `claim` before anything starts, and `keep` around each task, which
brings copies of the inputs into the container's directory, runs the task, and stores the outputs when that succeeds.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Mapping, Sequence  # noqa: UP035 - runs on older Pythons

from adapters.yarn.master.hdfs import Absent, Hdfs, HdfsError
from adapters.yarn.master.task import LEFT

KEPT = "fed_kept"
"""Environment variable by which a task's script knows that it is run by `keep`."""
OWN = "fed"
"""A task's own directory, in its container's."""


@dataclass(frozen=True)
class Place:
    """Storage in HDFS: where its name nodes are ("host:port" of their web addresses), whom they take us for, and the folder."""

    name_nodes: Sequence[str]
    user: str
    root: str


class Unfit(Exception):
    """Something in the outputs can be no file of a dataset."""


@dataclass(frozen=True)
class Stage:
    """What one run has at a place. Paths are below its folder; `inputs` and `outputs` are by name."""

    place: Place
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """As `read` takes it."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def read(text: str) -> Stage:
        """What `text` wrote."""
        fields = json.loads(text)
        return Stage(**{**fields, "place": Place(**fields["place"])})

    def path(self, below: str) -> str:
        """Where something of the storage is in HDFS."""
        return f"{self.place.root.rstrip('/')}/{below}"

    def hdfs(self) -> Hdfs:
        """A way there."""
        return Hdfs(self.place.name_nodes, self.place.user)

    def bring(self, own: Path) -> None:
        """Copies of all inputs, and empty folders for outputs. Raises HdfsError."""
        for name in self.outputs:
            (own / "outputs" / name).mkdir(parents=True, exist_ok=True)
        hdfs = self.hdfs()
        (own / "inputs").mkdir(parents=True, exist_ok=True)
        for name, path in self.inputs.items():
            try:
                _bring(hdfs, self.path(path).rstrip("/"), own / "inputs" / name)
            except Absent as error:
                raise HdfsError(f"input {name} is missing: nothing is at {path} of the site's storage") from error

    def store(self, own: Path) -> None:
        """All that is in the folders for outputs. Raises HdfsError, OSError and Unfit."""
        hdfs = self.hdfs()
        for name, path in self.outputs.items():
            _store(hdfs, own / "outputs" / name, self.path(path).rstrip("/"), name)


def act(words: Sequence[str]) -> None:
    """Be called by a script: `claim STAGE PATH START` or `keep STAGE SCRIPT TASK`. Does not return. What went wrong is left in
    the file where the application master looks for it."""
    verb, stage, first, second = words
    if verb == "claim":
        sys.exit(_claim(Stage.read(stage), first, second))
    sys.exit(_keep(Stage.read(stage), first, second))


def _claim(stage: Stage, path: str, start: str) -> int:
    try:
        if stage.hdfs().take(stage.path(path), f"{start}\n"):
            return 0
    except HdfsError as error:
        return _leave("node-lost", f"the site's storage cannot be written: {error}")
    return _leave("claimed", "its claim exists already")


def _keep(stage: Stage, script: str, task: str) -> int:
    own = Path(OWN).absolute()
    try:
        stage.bring(own)
    except (HdfsError, OSError) as error:
        return _leave("node-lost", str(error))
    status = subprocess.run(["/bin/sh", script, task], env={**os.environ, KEPT: "1"}, check=False).returncode
    if status < 0:
        _end_by(signal.Signals(-status))
    if status > 0:
        return status
    try:
        stage.store(own)
    except Unfit as error:
        return _leave("program-failed", str(error))
    except (HdfsError, OSError) as error:
        return _leave("node-lost", f"outputs cannot be stored: {error}")
    return 0


def _leave(reason: str, message: str) -> int:
    Path(LEFT).write_text(f"{reason} {message}\n")
    return 1


def _end_by(number: signal.Signals) -> None:
    """End as the program did, without a core of our own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _bring(hdfs: Hdfs, path: str, to: Path) -> None:
    """A file, or a folder with all below it."""
    entries = hdfs.entries(path)
    if len(entries) == 1 and not entries[0].name:
        hdfs.bring(path, entries[0].size, to)
        return
    to.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        if entry.is_folder:
            _bring(hdfs, f"{path}/{entry.name}", to / entry.name)
        else:
            hdfs.bring(f"{path}/{entry.name}", entry.size, to / entry.name)


def _store(hdfs: Hdfs, folder: Path, path: str, name: str) -> None:
    """A folder with all below it. Links are followed to plain files, as a copy does."""
    hdfs.make_folder(path)
    for each in sorted(folder.iterdir()):
        if each.is_dir() and not each.is_symlink():
            _store(hdfs, each, f"{path}/{each.name}", f"{name}/{each.name}")
        elif each.exists() and stat.S_ISREG(each.stat().st_mode):
            hdfs.store(each, f"{path}/{each.name}")
        else:
            raise Unfit(f"output {name}: {each.name} is no plain file")
