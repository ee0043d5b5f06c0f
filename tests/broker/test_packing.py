"""What is sent: the sums are those that a site finds, and a working directory is the same archive whenever it is packed."""

import io
import os
import tarfile

import pytest

from broker.errors import Invalid, TooLarge
from broker.packing import packed_workdir, parcel_of
from broker.storage import Folder
from broker.untar import untar
from topology.site import Storage


@pytest.fixture
def tree(tmp_path):
    """A directory with a few files."""
    top = tmp_path / "tree"
    (top / "in").mkdir(parents=True)
    (top / "in/a.txt").write_text("words")
    (top / "run.sh").write_text("#!/bin/sh\necho here\n")
    (top / "run.sh").chmod(0o755)
    return top


def test_a_parcel_arrives_as_it_was_summed_up(tree, tmp_path):
    (tree / os.fsdecode(b"odd-\xff")).write_bytes(b"x" * 5000)
    parcel = parcel_of(tree)
    (tmp_path / "site").mkdir()
    folder = Folder(Storage(f"file://{tmp_path / 'site'}"))
    raw = b"".join(parcel.chunks())
    taken = untar(io.BytesIO(raw), folder, "place", 2**20, lambda: None)
    assert taken.checksum == parcel.checksum
    assert taken == folder.measure("place")


def test_one_file_keeps_its_name(tree):
    assert list(parcel_of(tree / "run.sh").files) == ["run.sh"]


@pytest.mark.parametrize("what", ["missing", "empty", "folder link", "broken link", "pipe"])
def test_what_cannot_be_sent_is_named(tree, what):
    match what:
        case "missing":
            tree = tree / "nothing"
        case "empty":
            tree = tree / "in" / "void"
            tree.mkdir()
        case "folder link":
            (tree / "link").symlink_to("in")
        case "broken link":
            (tree / "link").symlink_to("nothing")
        case "pipe":
            os.mkfifo(tree / "link")
    with pytest.raises(Invalid, match=r"nothing|void|link"):
        parcel_of(tree)


def test_a_file_that_shrinks_meanwhile_is_told(tree):
    parcel = parcel_of(tree)
    (tree / "in/a.txt").write_text("w")
    with pytest.raises(Invalid, match=r"a\.txt: became shorter"):
        list(parcel.chunks())


def test_a_working_directory_has_modes_and_links_and_not_what_is_ignored(tree, tmp_path):
    (tree / "latest").symlink_to("in/a.txt")
    (tree / ".git").mkdir()
    (tree / ".git/HEAD").write_text("ref")
    (tree / "build").mkdir()
    (tree / "build/large.o").write_text("o")
    (tree / "keep.o").write_text("o")
    (tree / ".gitignore").write_text("run.sh\n")
    (tree / ".fedignore").write_text("build/\n*.o\n!keep.o\n")
    with packed_workdir(tree) as parcel:
        first = parcel.checksum
        (path, _), = parcel.files.values()
        with tarfile.open(path) as archive:
            names = {member.name: member for member in archive}
    assert set(names) == {".fedignore", ".gitignore", "in", "in/a.txt", "keep.o", "latest", "run.sh"}
    assert names["run.sh"].mode & 0o111
    assert names["latest"].linkname == "in/a.txt"
    os.utime(tree / "run.sh", (1, 1))
    with packed_workdir(tree) as again:
        assert again.checksum == first
    assert not path.exists()


def test_a_large_working_directory_is_refused_with_the_cure(tree, monkeypatch):
    monkeypatch.setattr("broker.packing.MOST_WORKDIR_BYTES", 10)
    with pytest.raises(TooLarge, match=r"\.fedignore"), packed_workdir(tree):
        pass


def test_only_a_directory_can_be_worked_in(tree):
    with pytest.raises(Invalid, match="no directory"), packed_workdir(tree / "run.sh"):
        pass
