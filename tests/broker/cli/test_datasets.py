"""`fed dataset`, and `fed submit --workdir`."""

import pytest


@pytest.fixture
def tree(tmp_path):
    """A directory with two files."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.txt").write_text("one two")
    (tmp_path / "tree/b.txt").write_text("x" * 2048)
    return tmp_path / "tree"


@pytest.fixture(scope="module")
def fed(fed, tmp_path_factory):
    """With two sites."""
    folder = tmp_path_factory.mktemp("storage")
    for name in ("ams", "fra"):
        (folder / name).mkdir()
        site = f'{{kind: Site, name: {name}, engine: {{kind: process}}, storage: {{url: "file://{folder / name}"}}, '
        pools = "pools: [{name: cpu, nodes: 1, per_node: {cpus: 4, memory_gib: 8}}]}"
        assert fed("apply", "-f", "-", stdin=site + pools).code == 0
    return fed


def test_a_directory_is_put_listed_and_removed(fed, tree):
    assert fed("dataset", "put", "corpus", tree, "--site", "fra", "-o", "name").out.startswith("corpus@")
    table = fed("dataset", "ls", "corpus").out
    assert "2.0 KiB" in table
    assert "fra" in table
    assert fed("dataset", "rm", "corpus").code == 0
    assert fed("dataset", "ls", "corpus", "-o", "name").out == ""
    assert fed("dataset", "rm", "corpus").code == 3


def test_a_dataset_that_is_read_stays(fed, tree):
    fed("dataset", "put", "busy@1", tree / "a.txt", "--site", "ams")
    job = fed("submit", "-o", "name", "--input", "busy", "--", "sleep").out.strip()
    done = fed("dataset", "rm", "busy@1")
    assert (done.code, job in done.err) == (4, True)
    fed("cancel", job)
    fed("wait", job)
    assert fed("dataset", "rm", "busy@1").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("put", "corpus", "/nowhere"), 2, "/nowhere"),
        (("put", "Corpus", "TREE"), 2, "a-z"),
        (("put", "corpus", "TREE", "--site", "mars"), 2, "no site is named mars"),
        (("put", "corpus", "TREE", "--tenant", "nobody"), 2, "nobody"),
        (("put", "corpus"), 2, "argument 'path'"),
        (("rm", "nothing"), 3, "nothing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(fed, tree, arguments, code, words):
    done = fed("dataset", *(tree if each == "TREE" else each for each in arguments))
    assert (done.code, words in done.err) == (code, True), done.err


def test_a_job_is_sent_with_its_directory(fed, tree):
    done = fed("submit", "--workdir", tree, "--site", "fra", "--wait", "-o", "json", "--", "exit", "0")
    assert done.code == 0
    spec = fed("get", "job", done.json["id"], "-o", "json").json["spec"]
    assert spec["workdir"].startswith("default/workdir@")
    assert spec["command"] == ["exit", "0"]
    assert "inputs" not in spec or spec["inputs"] == []


def test_what_is_no_directory_is_told_and_no_job_made(fed, tree):
    done = fed("submit", "--workdir", tree / "a.txt", "--", "exit", "0")
    assert (done.code, "--workdir" in done.err) == (2, True)
