"""The batch script as a shell runs it, with a srun that does what real ones did."""

import subprocess
from pathlib import PurePosixPath

import pytest

from adapters.base import EndReason, Run
from adapters.slurm import batch, codec
from topology.resources import Resources


@pytest.fixture
def ends(tmp_path):
    """How the script of a gang ends, as of subprocess, and what it says to scontrol; its srun is this."""

    def ends(srun):
        for name, body in (("srun", srun), ("scontrol", f'printf "%s" "$3" > {tmp_path}/said')):
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)
        run = Run("fed-j-a1", "fed", "j", "default", 3, Resources(1, 1), "cpu", ("true",))
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": "/", "SLURM_JOB_ID": "7"}
        script = batch.script(run, tmp_path / "storage")
        done = subprocess.run(["sh", "-c", script], env=environment, timeout=20, check=False)
        said = tmp_path / "said"
        return done.returncode, said.read_text() if said.exists() else ""

    return ends


FIRST = f"{batch.own_directory(PurePosixPath('storage'), 'fed-j-a1')}/first"


def test_a_gang_that_a_node_did_not_take_is_no_program_that_was_ended_by_a_signal(ends):
    # 4004, an invalid job credential, as srun of 24.11 says it of a job that is being cancelled: 4004 - 15 * 256 = 164
    words = "srun: error: Task launch for StepId=7.0 failed on node n2: Invalid job credential"
    srun = f'echo "{words}" >&2; echo "srun: Job step aborted" >&2; exit 164'
    assert ends(srun) == (-codec.LEAVE_SIGNALS[EndReason.NODE_LOST], f"Comment=fed fed cpu {EndReason.NODE_LOST} {words}")


@pytest.mark.parametrize(("code", "number"), [(137, 9), (143, 15), (159, 31)])
def test_a_gang_that_was_ended_by_a_signal_with_all_its_shells_tells_it(ends, code, number):
    assert ends(f"exit {code}") == (-number, "")


def test_a_real_time_signal_that_ended_a_task_is_told_by_the_task(ends, tmp_path):
    assert ends(f'echo "exit 164" > "{tmp_path}/{FIRST}"; exit 164') == (-36, "")
