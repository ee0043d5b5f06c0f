"""The batch script as a shell runs it, with a srun that does what real ones did."""

import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from adapters.base import EndReason, Run
from adapters.slurm import batch, codec
from topology.resources import Resources

NAME = "fed-j-a1"
LEFT = codec.LEAVE_SIGNALS


@dataclass
class Node:
    """A node whose Slurm is two scripts."""

    folder: Path

    def place(self, name):
        """Of what the run left, or is to find."""
        return self.folder / batch.own_directory(PurePosixPath("storage"), NAME) / name

    def ends(self, srun="false", **run):
        """How the batch script of this run ends, as of subprocess, and the words that it leaves in its job's comment."""
        for name, body in (("srun", srun), ("scontrol", f'printf "%s" "$3" > {self.folder}/said')):
            (self.folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (self.folder / name).chmod(0o755)
        words = {"tasks": 1, "per_task": Resources(1, 1), "pool": "cpu", "command": ("true",), **run}
        script = batch.script(Run(NAME, "fed", "j", "default", **words), PurePosixPath(self.folder / "storage"))
        environment = {"PATH": f"{self.folder}:/usr/bin:/bin", "HOME": "/", "SLURM_JOB_ID": "7"}
        done = subprocess.run(["sh", "-c", script], env=environment, timeout=20, check=False)
        said = self.folder / "said"
        return done.returncode, said.read_text().removeprefix("Comment=fed fed cpu ") if said.exists() else ""


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def test_a_gang_that_a_node_did_not_take_is_no_program_that_was_ended_by_a_signal(node):
    # 4004, an invalid job credential, as srun of 24.11 says it of a job that is being cancelled: 4004 - 15 * 256 = 164
    words = "srun: error: Task launch for StepId=7.0 failed on node n2: Invalid job credential"
    srun = f'echo "{words}" >&2; echo "srun: Job step aborted" >&2; exit 164'
    assert node.ends(srun, tasks=3) == (-LEFT[EndReason.NODE_LOST], f"{EndReason.NODE_LOST} {words}")


@pytest.mark.parametrize(("code", "number"), [(137, 9), (143, 15), (159, 31)])
def test_a_gang_that_was_ended_by_a_signal_with_all_its_shells_tells_it(node, code, number):
    assert node.ends(f"exit {code}", tasks=3) == (-number, "")


def test_a_real_time_signal_that_ended_a_task_is_told_by_the_task(node):
    assert node.ends(f'echo "exit 164" > "{node.place("first")}"; exit 164', tasks=3) == (-36, "")


HOSTILE = {"PATH": "/nowhere", "IFS": "0123456789/"}
"""None of our own commands is found in it, and none of our own words stays whole."""


@pytest.mark.parametrize("tasks", [1, 2])
def test_the_environment_of_a_run_is_none_of_our_own_commands(node, tasks):
    srun = 'for last; do :; done; SLURM_PROCID=0 sh "$last"'
    program = ("/bin/sh", "-c", "echo $PATH; exit 7")
    assert node.ends(srun, tasks=tasks, command=program, env=HOSTILE) == (7, "")
    assert node.place("task-0.log").read_text() == "/nowhere\n"
    assert node.place("task-0.end").exists()
    assert codec.report_of_note(NAME, node.place("ended").read_text()).exit_code == 7


def test_a_program_that_the_environment_of_its_run_hides_is_told(node):
    told = f"{EndReason.START_FAILED} there is no program printenv"
    assert node.ends(command=("printenv",), env=HOSTILE) == (-LEFT[EndReason.START_FAILED], told)


def test_what_a_shell_says_of_a_program_that_was_terminated_is_not_among_its_words(node):
    assert node.ends(command=("/bin/sh", "-c", "echo mine; kill -TERM $$")) == (-15, "")
    assert node.place("task-0.log").read_text() == "mine\n"
