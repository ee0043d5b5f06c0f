"""The application master's words: protocol buffers, tokens, digests, endings."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.yarn.carried import master_zip
from adapters.yarn.master.application import addresses, ending_of
from adapters.yarn.master.rpc import digest
from adapters.yarn.master.scheduler import Ended, Size, ask_for, container_name, launch_of
from adapters.yarn.master.task import Ending, environment_of
from adapters.yarn.master.wire import BadBytes, Token, field, inner, int32, integer, messages, parse, read_tokens, text, zigzag


def test_numbers_and_words_are_encoded_as_the_documentation_shows():
    # https://protobuf.dev/programming-guides/encoding/: a 150 in field 1, "testing" in field 2, a message of the first in field 3
    assert field(1, 150) == bytes.fromhex("089601")
    assert field(2, "testing") == bytes.fromhex("120774657374696e67")
    assert field(3, field(1, 150)) == bytes.fromhex("1a03089601")
    assert field(1, -2) == bytes.fromhex("08feffffffffffffffff01")
    assert field(1, None) == b""
    assert [zigzag(number) for number in (0, -1, 1, -2, -33)] == [0, 1, 2, 3, 65]


def test_what_was_encoded_is_read():
    message = field(1, -5) + field(2, "words") + field(3, field(1, 7)) + field(4, True) + field(5, 0.5) + field(3, field(1, 8))
    fields = parse(message)
    assert (integer(fields, 1), text(fields, 2), integer(fields, 4), integer(fields, 9, 3)) == (-5, "words", 1, 3)
    assert [integer(parse(each), 1) for each in messages(fields, 3)] == [7, 8]
    assert integer(inner(fields, 3), 1) == 8
    assert int32(parse(field(1, 0xFFFFFF98)), 1) == -104


@pytest.mark.parametrize("broken", [b"\x08", b"\x0a\x05ab", b"\x0b", b"\xff" * 11])
def test_broken_bytes_are_told(broken):
    with pytest.raises(BadBytes):
        parse(broken)


def test_tokens_are_read_as_hadoop_writes_them():
    # lengths up to 127 are a byte; longer ones follow one that says so: 0x8f for one byte, here 200
    def part(words: bytes) -> bytes:
        return (bytes([len(words)]) if len(words) < 128 else bytes([0x8F, len(words)])) + words

    long = b"i" * 200
    parts = (b"", long, b"secret", b"YARN_AM_RM_TOKEN", b"host:8030")
    written = b"HDTS\x00\x01" + b"".join(map(part, parts)) + b"\x00"
    assert read_tokens(written) == [Token(long, b"secret", "YARN_AM_RM_TOKEN")]
    for broken in (b"HDTS\x01\x00", written[:50]):
        with pytest.raises(BadBytes):
            read_tokens(broken)


def test_a_challenge_is_answered_as_rfc_2831_says():
    # the example of its section 4
    challenge = 'realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8'
    answer, proof = digest("chris", "secret", challenge, "imap/elwood.innosoft.com", "OA6MHXh6VqTrRk")
    assert "response=d388dad90d4bbd760a152321f2143af7" in answer
    assert proof == "ea40f60335c427b5527b84dbabcdfffd"
    with pytest.raises(ConnectionError):
        digest("", "", 'realm="default"', "/", "x")


def test_a_container_is_named_as_yarn_does():
    def raw(number: int) -> bytes:
        attempt = field(1, field(1, 7) + field(2, 1795410942091)) + field(2, 1)
        return field(2, attempt) + field(3, number)

    assert container_name(raw(2)) == "container_1795410942091_0007_01_000002"
    assert container_name(raw(3 << 40 | 12)) == "container_e03_1795410942091_0007_01_000012"


def test_containers_are_asked_for_by_number_size_and_label():
    asked = inner(parse(ask_for(3, Size(512, 2, {"yarn.io/gpu": 1}), "gpu-nodes")), 1)
    assert (text(asked, 2), integer(asked, 4), text(asked, 6)) == ("*", 3, "gpu-nodes")
    size = inner(asked, 3)
    assert (integer(size, 1), integer(size, 2), text(inner(size, 3), 1), integer(inner(size, 3), 2)) == (512, 2, "yarn.io/gpu", 1)
    assert 6 not in inner(parse(ask_for(3, Size(512, 2, {}), "")), 1)


def test_a_container_is_started_with_its_environment_and_command():
    launch = parse(launch_of({"A": "b"}, "true"))
    assert (text(inner(launch, 4), 1), text(inner(launch, 4), 2), text(launch, 5)) == ("A", "b", "true")


def test_an_ending_is_found_in_what_yarn_makes_of_it():
    ending = Ending(3, None, None, 'said "no"\nand left')
    around = f"Exception from container-launch.\nLast 4096 bytes of stderr :\n10:00:00 hello\n{ending.line()}\n\nFor more"
    assert Ending.read(around) == ending
    assert Ending.read(f"Attempt recovered after RM restart{ending.line()}") == ending
    assert Ending.read("fed up with it\nfed {broken}") is None
    assert Ending.read("") is None


@pytest.mark.parametrize(
    ("status", "diagnostics", "expected"),
    [
        (1, Ending(exit_code=3).line(), Ending(exit_code=3, message="task 2")),
        (1, Ending(signal=9).line(), Ending(signal=9, message="task 2")),
        (1, Ending(reason="start-failed", message="no").line(), Ending(reason="start-failed", message="task 2: no")),
        (-104, "over", Ending(reason="out-of-memory", message="task 2: over its memory")),
        (-102, "", Ending(reason="preempted", message="task 2: its container was preempted")),
        (137, "", Ending(signal=9, message="task 2: its container was ended")),
        (1, "no python", Ending(reason="start-failed", message="task 2: container exit status 1: no python")),
    ],
)
def test_how_a_task_in_another_container_ended(status, diagnostics, expected):
    assert ending_of(2, Ended("container", status, diagnostics)) == expected


def test_programs_see_nothing_of_the_master():
    assert environment_of({"FED_MASTER_CODE": "x", "FED_MASTER_ORDER_0": "y", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("site", "expected"),
    [
        ({"yarn.resourcemanager.hostname": "rm"}, ["rm:8030"]),
        ({"yarn.resourcemanager.hostname": "rm", "yarn.resourcemanager.scheduler.address": "rm:9"}, ["rm:9"]),
        (
            {
                "yarn.resourcemanager.ha.rm-ids": "a, b",
                "yarn.resourcemanager.hostname.a": "rma",
                "yarn.resourcemanager.scheduler.address.b": "rmb:9",
            },
            ["rma:8030", "rmb:9"],
        ),
    ],
)
def test_the_resource_manager_is_where_the_nodes_configuration_says(tmp_path, site, expected):
    lines = "".join(f"<property><name>{name}</name><value>{value}</value></property>" for name, value in site.items())
    (tmp_path / "yarn-site.xml").write_text(f"<configuration>{lines}</configuration>")

    class Said:
        scheduler = None

    assert list(addresses(Said(), {"HADOOP_CONF_DIR": str(tmp_path)})) == expected


def test_the_master_runs_with_the_standard_library_alone(tmp_path: Path):
    archive = tmp_path / "fed.zip"
    archive.write_bytes(base64.b64decode(master_zip()))
    ended = subprocess.run([sys.executable, "-S", "-E", str(archive)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "in read" in ended.stderr  # it looks for its order, and there is none
