"""Bad input at the command: its exit code, a line that names what is wrong, nothing stored, and no traceback."""

import json
import logging
import sys
import threading
from contextlib import contextmanager
from socket import create_server

import pytest

from broker.cli.main import main
from tests.broker.documents.examples import SITE, TENANT
from tests.broker.documents.mistakes import DOCUMENTS, JOBS, bomb, without
from tests.running import Said


@pytest.fixture
def fed(url, monkeypatch, capsys, caplog):
    """The command, run in this process: `fed` as a process is tried elsewhere, and costs half a second a call."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("FED_URL", url)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fed", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err + caplog.text
        return Said(int(ended.value.code or 0), out, err)

    return call


def stored(fed):
    """What a user sees of all that is stored."""
    return [fed(*words, "-o", "json").out for words in (("get", kind) for kind in ("sites", "links", "datasets", "tenants"))] + [
        fed("jobs", "-o", "name").out
    ]


def test_each_mistake_in_a_file_of_documents_is_told_with_its_line_and_field(fed, tmp_path):
    before, file = stored(fed), tmp_path / "federation.yaml"
    for text, field, line, cure in DOCUMENTS:
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        said = fed("apply", "-f", file)
        assert said.code == 2, text
        assert f"line {line}: {field}: " in said.err or not line, said.err
        assert cure in said.err
    assert stored(fed) == before


def test_each_mistake_in_a_file_of_jobs_is_told_with_its_field(fed, tmp_path):
    before, file = stored(fed), tmp_path / "job.yaml"
    for change, field, _ in JOBS:
        if field == "kind":
            continue  # in a file that is how a document says what it is
        file.write_text(json.dumps(without(change)))
        said = fed("submit", "-f", file)
        assert said.code == 2, change
        assert f": {field}: " in said.err
    assert stored(fed) == before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe\x00", "utf-8"),
        (b"kind: Tenant\nname: a\x00b\n", "special characters"),
        (bomb().encode(), "write it out"),
        (b"[" * 100_000, "write it flatter"),
        (b"{" * 100_000, "write it flatter"),
        (b"#" * 10 * 2**20, "are too many"),
        ((SITE + "---\n").encode() * 2, "declared already"),
        ((TENANT + "---\nkind: Link\nfrom: ams\nto: nowhere\nbandwidth_gbps: 1\n").encode(), "nowhere"),
        (b"", "begin with `kind: Site`"),
    ],
)
def test_a_file_that_is_no_documents_is_told(fed, tmp_path, content, told):
    file = tmp_path / "federation.yaml"
    file.write_bytes(content)
    said = fed("apply", "-f", file)
    assert said.code == 2
    assert told in said.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("apply", "-f", "/"), 2, "directory"),
        (("apply", "-f", "/proc/self/mem"), 2, "/proc/self/mem"),
        (("submit", "--count", "0", "--", "true"), 2, "--count"),
        (("submit", "--count", "1e3", "--", "true"), 2, "--count"),
        (("submit", "--tasks", "true", "--", "true"), 2, "--tasks"),
        (("submit", "--tasks", "-1", "--", "true"), 2, "tasks"),
        (("submit", "--cpus", "nan", "--", "true"), 2, "--cpus"),
        (("submit", "--cpus", "1e400", "--", "true"), 2, "--cpus"),
        (("submit", "--memory", "-1", "--", "true"), 2, "--memory"),
        (("submit", "--gpus", "a100:-1", "--", "true"), 2, "--gpus"),
        (("submit", "--env", "NO", "--", "true"), 2, "--env"),
        (("submit", "--env", "FED_JOB=1", "--", "true"), 2, "env.FED_JOB"),
        (("submit", "--set", "colour: blue", "--", "true"), 2, "colour"),
        (("submit", "--set", "{", "--", "true"), 2, "--set"),
        (("submit", "--set", "env: &a [*a]", "--", "true"), 2, "write it out"),
        (("submit", "--name", "../../x", "--", "true"), 2, "name"),
        (("submit", "--name", "a\u202eb", "--", "true"), 2, "name"),
        (("submit", "--name", "$(id)", "--", "true"), 2, "name"),
        (("submit", "--tenant", "nobody", "--", "true"), 2, "tenant"),
        (("submit", "--input", "absent", "--", "true"), 2, "inputs.0.dataset"),
        (("submit", "--walltime", "-5m", "--", "true"), 2, "walltime"),
        (("submit", "--objective", "best", "--", "true"), 2, "objective"),
        (("submit",), 2, ""),
        (("jobs", "--phase", "flying"), 2, "phase"),
        (("jobs", "-l", "a=b=c"), 2, "label"),
        (("jobs", "--since", "tomorrow"), 2, "since"),
        (("logs", "../../etc/passwd"), 3, "passwd"),
        (("logs", "%2e%2e"), 3, ""),
        (("describe", "job", "\x1b[31m"), 3, ""),
        (("why", ""), 3, ""),
        (("cancel", "$(reboot)"), 3, "reboot"),
        (("get", "planets"), 2, ""),
        (("delete", "site", "nowhere"), 3, "nowhere"),
        (("cordon", "nowhere"), 3, "nowhere"),
        (("topology", "path", "nowhere", "nowhere"), 3, "nowhere"),
        (("--url", "ftp://127.0.0.1", "jobs"), 2, "URL"),
        (("--token", "a\nb", "jobs"), 2, "token"),
        (("--patience", "-1", "jobs"), 2, "--patience"),
        (("fly",), 2, "fly"),
    ],
)
def test_each_mistake_in_the_arguments_has_its_exit_code_and_its_words(fed, arguments, code, told):
    before = stored(fed)
    said = fed(*arguments)
    assert (said.code, said.out) == (code, ""), said
    assert told in said.err
    assert stored(fed) == before


@contextmanager
def answering(talk):
    """The port of a server that does this with the first connection."""
    with create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(20)


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"\x15\x03\x01\x00\x02\x02\x46", b"SSH-2.0-OpenSSH_9.6\r\n"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_endpoint_that_is_none_is_said_to_be(fed, scheme, said):
    def talk(connection):
        connection.recv(2**16)
        connection.sendall(said)

    with answering(talk) as port:
        told = fed("--url", f"{scheme}://127.0.0.1:{port}", "--patience", "0", "jobs")
    assert told.code == 5
    assert f"127.0.0.1:{port}" in told.err


def test_a_plain_endpoint_asked_by_tls_is_not_reached(fed, url):
    told = fed("--url", url.replace("http://", "https://"), "--patience", "0", "jobs")
    assert told.code == 5
    assert "127.0.0.1" in told.err
