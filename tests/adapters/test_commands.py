"""Commands at a site: the same claims here and at a real login node, and what only a login node can do to us."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import uvloop
from pydantic import TypeAdapter, ValidationError

from adapters.base import Layer, LoginFailed, Unreachable
from adapters.commands import (
    NOT_FOUND,
    Commands,
    LocalCommands,
    LocalTransport,
    SshTransport,
    Transport,
    probe_login,
    remote_line,
)
from adapters.ssh import SshCommands
from adapters.transports import open_commands
from tests.engines.running import running
from tests.engines.ssh.server import LoginNode, make_key, missing

TIME_S = 20.0
SSH = pytest.param("ssh", marks=[pytest.mark.engines, pytest.mark.skipif(bool(missing()), reason=missing())])
needs_ssh = pytest.mark.parametrize("where", [SSH])


def login_node() -> LoginNode:
    """The one of this test session."""

    def start(folder: Path) -> LoginNode:
        node = LoginNode(folder)
        node.start()
        return node

    return running("ssh", start)


def to(node: LoginNode, **changed) -> SshTransport:
    given = {
        "kind": "ssh",
        "host": node.host,
        "port": node.port,
        "user": node.user,
        "key": {"file": str(node.key)},
        "known_hosts": str(node.known_hosts),
        "env": {"SITE": "ams $1"},
    }
    return SshTransport.model_validate({**given, **changed})


@pytest.fixture(params=["local", SSH])
def where(request) -> str:
    return request.param


@pytest.fixture
async def commands(where) -> AsyncIterator[Commands]:
    transport = LocalTransport(env={"SITE": "ams $1"}) if where == "local" else to(login_node())
    commands = open_commands(transport)
    yield commands
    await commands.close()


async def text_of(commands: Commands, *argv: str) -> str:
    return (await commands.run(argv, timeout_s=TIME_S)).stdout.decode()


async def test_a_command_gets_its_words_and_input_as_they_are_and_answers_with_all_it_wrote(commands):
    odd = ("a b", "'", '"', "$HOME", "*", "\\n", "", "~", "!", "ü", "; exit 9")
    body = 'cat; printf "%s|" "$@"; echo err >&2; exit 3'
    done = await commands.run(["sh", "-c", body, "sh", *odd], stdin=b"\0in", timeout_s=TIME_S)
    assert (done.code, done.stderr) == (3, b"err\n")
    assert done.stdout.decode() == "\0in" + "".join(f"{word}|" for word in odd)
    assert done.said.startswith("err ")


async def test_a_command_gets_the_sites_variables(commands):
    assert await text_of(commands, "printenv", "SITE") == "ams $1\n"


async def test_a_command_sees_nothing_of_the_brokers_environment(commands, monkeypatch):
    monkeypatch.setenv("A_SECRET_OF_THE_BROKER", "x")
    assert "A_SECRET_OF_THE_BROKER" not in await text_of(commands, "env")


async def test_a_command_that_is_not_there_is_an_answer(commands):
    done = await commands.run(["no-such-command"], timeout_s=TIME_S)
    assert done.code == NOT_FOUND
    assert "no-such-command" in done.said


async def test_a_signal_that_ended_a_command_is_less_than_zero(commands):
    assert (await commands.run(["sh", "-c", "kill -9 $$"], timeout_s=TIME_S)).code == -9


async def test_large_input_and_output_pass_at_once(commands):
    content = os.urandom(1_000_000)
    assert (await commands.run(["cat"], stdin=content, timeout_s=TIME_S)).stdout == content


async def test_input_that_a_command_does_not_read_is_no_error(commands):
    assert (await commands.run(["true"], stdin=b"x" * 1_000_000, timeout_s=TIME_S)).code == 0


async def test_a_command_that_does_not_end_in_its_time_is_left(commands):
    began = time.monotonic()
    with pytest.raises(Unreachable, match="sleep did not end within"):
        await commands.run(["sleep", "60"], timeout_s=0.4)
    assert time.monotonic() - began < 5


async def test_output_without_end_ends_the_command(where):
    commands = LocalCommands(most_bytes=1000) if where == "local" else SshCommands(to(login_node()), most_bytes=1000)
    with pytest.raises(Unreachable, match="yes writes without end"):
        await commands.run(["yes"], timeout_s=TIME_S)
    await commands.close()


async def test_many_commands_at_once_each_have_their_answer(commands):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(text_of(commands, "echo", str(number))) for number in range(24)]
    assert [task.result() for task in tasks] == [f"{number}\n" for number in range(24)]


async def test_a_local_command_ends_with_its_time_and_all_that_it_started(tmp_path):
    commands, pids = LocalCommands(), tmp_path / "pids"
    with pytest.raises(Unreachable):
        await commands.run(["sh", "-c", f"sleep 60 & echo $! $$ > {pids}; wait"], timeout_s=1)
    for pid in map(int, pids.read_text().split()):
        while _runs(pid):
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def test_a_site_that_lets_us_in_answers_in_both_layers(commands):
    assert [(check.layer, check.is_ok) for check in (await probe_login(commands, TIME_S)).checks] == [
        (Layer.REACH, True),
        (Layer.LOGIN, True),
    ]


@needs_ssh
async def test_one_connection_carries_all_commands(where):
    node = login_node()
    commands = SshCommands(to(node))
    told = [(await text_of(commands, "printenv", "SSH_CONNECTION")) for _ in range(3)]
    assert len(set(told)) == 1
    await commands.close()


@needs_ssh
async def test_a_connection_cut_in_mid_command_is_no_answer_and_the_next_command_has_a_new_one(where):
    node = login_node()
    commands = SshCommands(to(node))
    before = await text_of(commands, "printenv", "SSH_CONNECTION")
    async with asyncio.TaskGroup() as group:
        cut = group.create_task(_unreachable(commands, "echo begun; sleep 30"))
        await asyncio.sleep(0.3)
        node.cut()
    assert "cut while sh ran" in cut.result()
    assert await text_of(commands, "printenv", "SSH_CONNECTION") != before
    await commands.close()


async def _unreachable(commands: Commands, body: str) -> str:
    with pytest.raises(Unreachable) as raised:
        await commands.run(["sh", "-c", body], timeout_s=TIME_S)
    return str(raised.value)


@needs_ssh
async def test_a_login_node_that_is_down_cannot_be_reached_until_it_is_up(where, tmp_path):
    node = LoginNode(tmp_path)
    commands = SshCommands(to(node))
    (check,) = (await probe_login(commands, TIME_S)).checks
    assert (check.layer, check.is_ok, check.is_misconfigured) == (Layer.REACH, False, False)
    node.start()
    try:
        assert await text_of(commands, "echo", "up") == "up\n"
        node.freeze()
        (check,) = (await probe_login(commands, 0.5)).checks
        assert (check.layer, check.is_ok, check.is_misconfigured) == (Layer.REACH, False, False)
        node.thaw()
        assert await text_of(commands, "echo", "up") == "up\n"
    finally:
        node.stop()
        await commands.close()


@needs_ssh
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("key", "not accepted"),
        ("user", "not accepted"),
        ("no key", "cannot be read"),
        ("not a key", "private key cannot be used"),
        ("host key", "its host key is not the one in"),
        ("unknown host", "its host key is not the one in"),
        ("no known hosts", "known_hosts cannot be used"),
    ],
)
async def test_a_login_that_our_settings_get_wrong_is_told_as_that(where, wrong, words, tmp_path):
    node = login_node()
    make_key(tmp_path / "other")
    public = (tmp_path / "other.pub").read_text()
    (tmp_path / "text").write_text("no key\n")
    (tmp_path / "none").write_text("")
    (tmp_path / "hosts").write_text(f"[{node.host}]:{node.port} {public}")
    changed = {
        "key": {"key": {"file": str(tmp_path / "other")}},
        "user": {"user": "nobody-of-this-name"},
        "no key": {"key": {"file": str(tmp_path / "nowhere")}},
        "not a key": {"key": {"file": str(tmp_path / "text")}},
        "host key": {"known_hosts": str(tmp_path / "hosts")},
        "unknown host": {"known_hosts": str(tmp_path / "none")},
        "no known hosts": {"known_hosts": str(tmp_path / "nowhere")},
    }[wrong]
    commands = SshCommands(to(node, **changed))
    with pytest.raises(LoginFailed, match=words):
        await commands.run(["true"], timeout_s=TIME_S)
    reach, login = (await probe_login(commands, TIME_S)).checks
    assert (reach.is_ok, login.is_ok, login.is_misconfigured) == (True, False, True)
    await commands.close()


@needs_ssh
async def test_a_key_that_was_changed_is_read_again(where, tmp_path):
    node, key = login_node(), tmp_path / "key"
    commands = SshCommands(to(node, key={"file": str(key)}))
    with pytest.raises(LoginFailed):
        await commands.run(["true"], timeout_s=TIME_S)
    key.write_text(node.key.read_text())
    assert (await commands.run(["true"], timeout_s=TIME_S)).code == 0
    await commands.close()


@pytest.mark.parametrize("missing", ["host", "user", "key", "known_hosts"])
def test_ssh_needs_all_that_tells_us_and_the_node_who_we_are(missing):
    given = {"kind": "ssh", "host": "a", "user": "b", "key": {"env": "K"}, "known_hosts": "/k"}
    TypeAdapter(Transport).validate_python(given)
    del given[missing]
    with pytest.raises(ValidationError):
        TypeAdapter(Transport).validate_python(given)


def test_a_line_for_a_remote_shell_quotes_every_word():
    assert remote_line(["echo", "a b", "it's", ""], {}) == """echo 'a b' 'it'"'"'s' ''"""
    assert remote_line(["bjobs"], {"LSF_ENVDIR": "/opt/my lsf"}) == "env 'LSF_ENVDIR=/opt/my lsf' bjobs"


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_command_that_has_ended_before_it_was_given_its_input_is_no_error(run):
    class Slow(LocalCommands):
        """Slower than the command."""

        async def _spawn(self, argv: Sequence[str]) -> asyncio.subprocess.Process:
            process = await super()._spawn(argv)
            await process.wait()
            return process

    done = run(Slow().run(["true"], stdin=b"some words", timeout_s=TIME_S))
    assert (done.code, done.stdout) == (0, b"")
