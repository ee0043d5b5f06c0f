"""What the README tells people to type, typed."""

import os
import re
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
INSTALL = "make install && . .venv/bin/activate\n"
LONGEST_S = 240
BEGIN = "trap 'kill $!; wait $!' EXIT\n"
"""Whatever happens, the broker that is started in the background ends."""


def block(heading, number=0):
    """One of the shell blocks below a heading."""
    below = (ROOT / "README.md").read_text().split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", below, re.DOTALL)[number]


def free_port():
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def shell(tmp_path, etcd_program, engines_end):
    """Types lines in a folder that has what a checkout has, on another port than the README's, until one fails; what was
    shown."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "fed").write_text(f'#!/bin/sh\nexec {sys.executable} -m broker "$@"\n')
    (programs / "fed").chmod(0o755)
    for name in ("README.md", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}

    def typed(port, *blocks):
        ours = free_port()
        lines = BEGIN + "\n".join(blocks).replace(str(port), str(ours))
        given = {**environment, "FED_URL": f"http://127.0.0.1:{ours}"}
        command = ["bash", "-e", "-o", "pipefail", "-c", lines]
        done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=LONGEST_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return typed


def test_the_way_by_hand_leads_to_a_result(shell):
    lines = block("Try it", 1)
    assert lines.startswith(INSTALL)
    said = shell(7777, lines.removeprefix(INSTALL))
    words = len((ROOT / "README.md").read_text().split())
    assert said.splitlines()[-1] == str(words)


def test_an_admin_registers_sites_and_who_is_on_call_works_them(shell):
    said = shell(7778, block("For admins"), block("On call"))
    assert "one two three\n" in said, said
    assert "oslo is drained" in said
    assert "rotate" not in said
    assert "records" in said.splitlines()[-1]
