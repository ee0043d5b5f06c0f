"""What the carried program makes of a name node's words: a stand-in says them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters.yarn.master.hdfs import Absent, Hdfs, HdfsError
from adapters.yarn.master.staging import Place, Stage, act

Reply = tuple[int, bytes]
Says = Callable[[str, str, int], Reply]
"""Operation, path and the number of the request, to a status and a body; 307 sends elsewhere."""


@contextmanager
def name_node(says: Says) -> Iterator[str]:
    """The address of one that says this."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            operation = parse_qs(url.query)["op"][0]
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append(operation)
            status, body = says(operation, url.path.removeprefix("/webhdfs/v1"), len(seen))
            self.send_response(status)
            if status == 307:
                self.send_header("Location", body.decode())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_DELETE = do_GET

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refusal(kind: str, message: str, status: int = 403) -> Reply:
    """As HDFS says no."""
    return status, json.dumps({"RemoteException": {"exception": kind, "message": message}}).encode()


def test_a_standby_name_node_is_left_for_the_active_one():
    standby = refusal("StandbyException", "Operation category READ is not supported in state standby")
    with name_node(lambda *_: standby) as first, name_node(lambda *_: (200, b'{"boolean": true}')) as second:
        Hdfs([first, second], "fed").make_folder("/a")


def test_what_passes_is_waited_for_and_then_given_up():
    def says(operation: str, path: str, number: int) -> Reply:
        return refusal("RetriableException", "in safe mode") if number < 3 else (200, b"words")

    with name_node(says) as address:
        assert Hdfs([address], "fed").read("/a") == b"words"
    with name_node(lambda *_: (503, b"busy")) as address, pytest.raises(HdfsError, match="503"):
        Hdfs([address], "fed", patience_s=0).read("/a")
    with pytest.raises(HdfsError, match="OPEN /a"):
        Hdfs([address], "fed", patience_s=0).read("/a")


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (refusal("AccessControlException", "Permission denied: user=fed\n\tat a.b"), HdfsError, "Permission denied: user=fed"),
        (refusal("FileNotFoundException", "File does not exist: /a", 404), Absent, "does not exist"),
        ((401, b"<html>Authentication required</html>"), HdfsError, "Authentication required"),
        ((307, b"https://node:9865/a?op=OPEN"), HdfsError, "only plain HTTP"),
    ],
)
def test_what_no_repetition_changes_is_told_at_once(reply, error, words):
    with name_node(lambda *_: reply) as address, pytest.raises(error, match=words):
        Hdfs([address], "fed").read("/a")


def test_a_file_that_came_in_part_is_brought_again(tmp_path):
    with name_node(lambda operation, path, number: (200, b"who" if number == 1 else b"whole")) as address:
        Hdfs([address], "fed").bring("/a", 5, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_nothing_counts_as_written_that_went_to_no_data_node():
    with name_node(lambda *_: (200, b"")) as address, pytest.raises(HdfsError, match="no data node"):
        Hdfs([address], "fed", patience_s=0).write("/a", b"words")


def renames(there: dict[str, bytes], lost: list[str], server: list[str]) -> Says:
    """HDFS, of which the first answer to each operation in `lost` does not come."""

    def says(operation: str, path: str, number: int) -> Reply:
        if operation == "CREATE":
            there[path] = b"fed start\n"
            return (307, f"http://{server[0]}/webhdfs/v1{path}?op=WRITTEN".encode())
        if operation == "RENAME":
            is_done = path in there and "/claim" not in there
            if is_done:
                there["/claim"] = there.pop(path)
            if operation in lost:
                lost.remove(operation)
                return 500, b""
            return 200, json.dumps({"boolean": is_done}).encode()
        if operation == "DELETE":
            there.pop(path, None)
        if operation == "LISTSTATUS":
            listing = (200, b'{"FileStatuses": {"FileStatus": []}}')
            return listing if path in there else refusal("FileNotFoundException", "no", 404)
        return (200, there[path]) if operation == "OPEN" else (200, b'{"boolean": true}')

    return says


@pytest.mark.parametrize(("others", "lost"), [(b"", []), (b"", ["RENAME"]), (b"another\n", []), (b"another\n", ["RENAME"])])
def test_a_claim_is_whose_words_are_in_it_whatever_was_answered(others, lost):
    there = {"/claim": others} if others else {}
    server: list[str] = []
    with name_node(renames(there, lost, server)) as address:
        server.append(address)
        assert Hdfs([address], "fed").take("/claim", "fed start\n") is not bool(others)
    assert there == {"/claim": others or b"fed start\n"}


@pytest.mark.parametrize("lost", [[], ["RENAME"]])
def test_a_file_takes_the_place_of_one_that_is_there(tmp_path, lost):
    there = {"/claim": b"another\n"}
    server: list[str] = []
    (tmp_path / "a").write_text("fed start\n")
    with name_node(renames(there, lost, server)) as address:
        server.append(address)
        Hdfs([address], "fed").store(tmp_path / "a", "/claim")
    assert there == {"/claim": b"fed start\n"}


@pytest.mark.parametrize(
    ("reply", "left"),
    [
        (refusal("AccessControlException", "Permission denied"), "node-lost the site's storage cannot be written: "),
        ((200, b'{"boolean": false}'), "node-lost the site's storage cannot be written: "),
    ],
)
def test_a_claim_that_cannot_be_taken_is_told_to_the_master(tmp_path, monkeypatch, reply, left):
    monkeypatch.chdir(tmp_path)
    with name_node(lambda *_: reply) as address, pytest.raises(SystemExit) as ended:
        act(["claim", Stage(Place([address], "fed", "/")).text(), "claims/a", "fed fed-j1-a1 c1"])
    assert ended.value.code == 1
    assert Path("fed-left").read_text().startswith(left)


@pytest.mark.parametrize("code", [0, 3])
def test_a_task_ends_as_its_script_does(tmp_path, monkeypatch, code):
    monkeypatch.chdir(tmp_path)
    Path("task.sh").write_text(f'[ "$fed_kept" = 1 ] && [ "$1" = 7 ] && exit {code}\nexit 99\n')
    with pytest.raises(SystemExit) as ended:
        act(["keep", Stage(Place(["127.0.0.1:1"], "fed", "/")).text(), "task.sh", "7"])
    assert ended.value.code == code
