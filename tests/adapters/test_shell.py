import subprocess

import pytest

from adapters.base import EndReason, Run
from adapters.shell import LEAVE, claim_lines, exit_of, program_lines, ready_lines, variable_lines
from topology.resources import Resources


def a_run(**rest):
    defaults = {"tasks": 1, "per_task": Resources(1, 1), "pool": "cpu", "command": ()}
    return Run("fed-j1-a2", "fed", "j1", "default", **{**defaults, **rest})


def started(storage, run, start="1"):
    """What the script of a run prints, and its exit code."""
    script = (
        f'{LEAVE}() {{ echo "left: $1: $2"; exit 9; }}\n'
        + claim_lines(run, storage, start)
        + ready_lines(run, storage, f"'{storage}/own of it'")
        + program_lines(run)
        + variable_lines(run)
        + 'exec "$@"\n'
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    return done.stdout, done.returncode


def test_a_program_sees_its_inputs_its_outputs_and_who_it_is(tmp_path):
    (tmp_path / "in $1").mkdir()
    (tmp_path / "in $1" / "a").write_text("41 ")
    body = 'cat "$FED_INPUTS/corpus/a"; echo "$FED_JOB $FED_ATTEMPT $FED_TASKS $ODD"; echo 42 > "$FED_OUTPUTS/words/n"'
    env = {"ODD": "it's $HOME", "FED_JOB": "another"}
    run = a_run(command=("sh", "-c", body), inputs={"corpus": "in $1"}, outputs={"words": "out/w"}, env=env)
    assert started(tmp_path, run) == ("41 j1 2 1 it's $HOME\n", 0)
    assert (tmp_path / "out/w/n").read_text() == "42\n"


def test_the_environment_of_a_run_is_that_of_its_program_alone(tmp_path):
    (tmp_path / "in").mkdir()
    env = {"PATH": "/nowhere"}
    run = a_run(command=("/bin/sh", "-c", "echo $PATH"), inputs={"i": "in"}, outputs={"o": "out"}, env=env)
    assert started(tmp_path, run) == ("/nowhere\n", 0)
    assert (tmp_path / "out").is_dir()


def test_a_script_is_written_by_our_own_commands(tmp_path):
    assert started(tmp_path, a_run(script="echo $PATH\n", env={"PATH": "/nowhere"})) == ("/nowhere\n", 0)


def test_a_program_is_looked_for_where_the_run_says(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mine").write_text("#!/bin/sh\necho mine\n")
    (tmp_path / "bin" / "mine").chmod(0o755)
    env = {"PATH": f"{tmp_path}/bin"}
    assert started(tmp_path, a_run(command=("mine",), env=env)) == ("mine\n", 0)
    assert started(tmp_path, a_run(command=("printenv",), env=env))[1] == 9


@pytest.mark.parametrize("script", ["echo $0; exit 7\n", "#!/bin/sh\necho $0; exit 7\n"])
def test_a_script_is_run_by_its_first_line_or_by_sh(tmp_path, script):
    assert started(tmp_path, a_run(script=script)) == (f"{tmp_path}/own of it/script\n", 7)


def test_a_second_start_finds_the_claim_and_the_same_start_goes_on(tmp_path):
    run = a_run(command=("echo", "ran"), claim=".fed/claims/fed-j1-a2")
    assert started(tmp_path, run, start="1") == ("ran\n", 0)
    assert started(tmp_path, run, start="1") == ("ran\n", 0)
    out, code = started(tmp_path, run, start="2")
    assert (code, out) == (9, f"left: {EndReason.CLAIMED}: its claim exists already\n")
    assert [path.name for path in (tmp_path / ".fed/claims").iterdir()] == ["fed-j1-a2"]


def test_one_of_many_starts_gets_the_claim(tmp_path):
    run = a_run(claim=".fed/claims/fed-j1-a2")
    scripts = [f'{LEAVE}() {{ echo left; exit 9; }}\n{claim_lines(run, tmp_path, str(n))}echo ran' for n in range(12)]
    running = [subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) for script in scripts]
    assert sorted(process.communicate()[0] for process in running) == ["left\n"] * 11 + ["ran\n"]


@pytest.mark.parametrize(
    ("rest", "reason", "told"),
    [
        ({"command": ("no-such-program",)}, EndReason.START_FAILED, "no program no-such-program"),
        ({"command": ("true",), "inputs": {"corpus": "nowhere"}}, EndReason.NODE_LOST, "input corpus is missing"),
    ],
)
def test_what_cannot_start_is_left_with_a_reason(tmp_path, rest, reason, told):
    out, code = started(tmp_path, a_run(**rest))
    assert code == 9
    assert out.startswith(f"left: {reason}: ")
    assert told in out


ENDS = ("exit 0", "exit 1", "exit 128", "exit 193", "exit 255", "kill -TERM $$", "kill -KILL $$", "kill -64 $$")


@pytest.mark.parametrize("script", ENDS)
def test_a_shells_code_tells_exits_and_signals(script):
    told = subprocess.run(["sh", "-c", f"sh -c '{script}'; echo $?"], capture_output=True, text=True, timeout=20, check=True)
    ended = subprocess.run(["sh", "-c", script], timeout=20, check=False).returncode
    assert exit_of(int(told.stdout)) == ((ended, None) if ended >= 0 else (None, -ended))
