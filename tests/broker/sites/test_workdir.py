"""Programs in a copy of a dataset, as a shell runs them."""

import os
import subprocess

import pytest

from broker.packing import packed_workdir
from broker.sites.workdir import in_workdir


@pytest.fixture
def run(tmp_path):
    """Runs a command where an engine would: in a directory of the run's own, with its inputs beside it."""
    (tmp_path / "work").mkdir()

    def run(command, task="0", path=os.environ["PATH"]):
        env = {"PATH": path, "FED_INPUTS": str(tmp_path / "inputs"), "FED_TASK": task}
        shell = ["/bin/sh", *command[1:]]
        return subprocess.run(shell, cwd=tmp_path / "work", env=env, capture_output=True, text=True, timeout=30, check=False)

    return run


@pytest.fixture
def packed(tmp_path):
    """The input `code`: a packed directory with a program."""
    source, target = tmp_path / "source", tmp_path / "inputs/code"
    source.mkdir()
    target.mkdir(parents=True)
    (source / "hello").write_text("#!/bin/sh\necho \"hello $*\" from $(basename \"$PWD\"); exit 7\n")
    (source / "hello").chmod(0o755)
    with packed_workdir(source) as parcel:
        for name, (path, _) in parcel.files.items():
            (target / name).write_bytes(path.read_bytes())


def test_a_program_of_the_directory_runs_with_its_arguments_and_exit_code(packed, run):
    done = run(in_workdir("code", ("./hello", "a b", "$HOME;'"), None), task="3")
    assert (done.stdout, done.returncode) == ("hello a b $HOME;' from task-3\n", 7)


@pytest.mark.parametrize("script", ["./hello there\n", "#!/bin/sh\nexec ./hello there\n"])
def test_a_script_runs_in_it(packed, run, script):
    assert run(in_workdir("code", (), script)).stdout == "hello there from task-0\n"


def test_a_run_that_is_started_again_finds_it_as_at_first(packed, run):
    for _ in range(2):
        assert run(in_workdir("code", ("sh", "-c", "./hello; echo changed > hello"), None)).stdout == "hello  from task-0\n"


def test_any_other_dataset_is_copied(tmp_path, run):
    (tmp_path / "inputs/code").mkdir(parents=True)
    (tmp_path / "inputs/code/data.txt").write_text("words\n")
    done = run(in_workdir("code", ("sh", "-c", "cat data.txt; echo more >> data.txt"), None))
    assert done.stdout == "words\n"
    assert (tmp_path / "inputs/code/data.txt").read_text() == "words\n"


def test_a_path_of_the_programs_own_hides_no_tool_of_ours(packed, run):
    done = run(in_workdir("code", ("/bin/sh", "-c", "echo $PATH"), None), path="/nowhere")
    assert done.stdout == "/nowhere\n"


def test_what_cannot_be_unpacked_is_said(tmp_path, run):
    done = run(in_workdir("code", ("true",), None))
    assert done.returncode == 126
    assert "cannot be unpacked here" in done.stderr
