"""Archives taken apart: what is whole and decent is written as it is, all else is refused with what is wrong."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import Invalid, TooLarge
from broker.storage import Folder
from broker.untar import MOST_HEADER_BYTES, untar
from topology.site import Storage

MOST = 2**20


def archive(*members, form=tarfile.PAX_FORMAT, kind=tarfile.REGTYPE):
    """A tar archive of (name, content) pairs."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as made:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            made.addfile(member, io.BytesIO(content))
    return raw.getvalue()


class Trickle(io.BytesIO):
    """Gives a few bytes at a time, whatever is asked for."""

    def read(self, size=-1):
        return super().read(min(size, 700) if size >= 0 else 700)


@pytest.fixture
def folder(tmp_path):
    return Folder(Storage(f"file://{tmp_path}"))


def take(folder, raw, most=MOST):
    return untar(Trickle(raw), folder, "place", most, lambda: None)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_files_are_written_and_summed_up_as_they_lie_there(folder, tmp_path, form):
    tree = take(folder, archive(("a/b.txt", b"words"), ("./c", b"x" * 3000), ("empty", b""), form=form))
    assert (tmp_path / "place/a/b.txt").read_bytes() == b"words"
    assert tree == folder.measure("place")
    assert tree.size_bytes == 3005


PARTS = st.text("abü ", min_size=1, max_size=3)


@given(st.dictionaries(st.lists(PARTS, min_size=1, max_size=3).map("/".join), st.binary(max_size=2000), min_size=1, max_size=5))
def test_an_archive_is_taken_whole_unless_a_file_is_where_a_folder_is(tmp_path_factory, files):
    folder = Folder(Storage(f"file://{tmp_path_factory.mktemp('site')}"))
    raw = archive(*files.items())
    if any(one != other and other.startswith(f"{one}/") for one in files for other in files):
        with pytest.raises(Invalid, match="as a file and as a folder"):
            take(folder, raw)
    else:
        assert take(folder, raw) == folder.measure("place")
        assert {name: (folder.open(f"place/{name}", "rb").read()) for name in files} == files


@given(st.integers(min_value=0))
def test_an_archive_that_was_cut_off_is_never_taken_for_whole(tmp_path_factory, cut):
    raw = archive(("a", b"1" * 600), ("b", b"2" * 512), ("c" * 120, b"3"))
    folder = Folder(Storage(f"file://{tmp_path_factory.mktemp('site')}"))
    content_ends = len(raw.rstrip(b"\0")) // 512 * 512 + 512  # one block of zeros more is an end
    with pytest.raises(Invalid, match="no whole tar archive"):
        take(folder, raw[: cut % content_ends])


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (archive(), "holds no file"),
        (b"", "empty"),
        (b"no archive at all", "tar -c"),
        (b"\x1f\x8b" + bytes(600), "tar -c"),
        (archive(("/etc/passwd", b"")), "points out of"),
        (archive(("a/../../b", b"")), "points out of"),
        (archive(("a", b""), ("./a", b"")), "twice"),
        (archive(("a", b""), ("a/b", b"")), "twice"),
        (archive(("a/b", b""), ("a", b"")), "twice"),
        (archive(("a\nb", b"")), "printable"),
        (archive(("\u202egnp.exe", b"")), "printable"),
        (archive(("n" * 256, b"")), "too long"),
        (archive(("/".join(["d" * 200] * 6), b"")), "too long"),
        (archive(("a", b""), kind=tarfile.SYMTYPE), "neither a plain file"),
        (archive(("a", b""), kind=tarfile.LNKTYPE), "neither a plain file"),
        (archive(("a", b""), kind=tarfile.FIFOTYPE), "neither a plain file"),
        (archive(("a", b""), kind=tarfile.CHRTYPE), "neither a plain file"),
        (archive(("pax", b"x" * (MOST_HEADER_BYTES + 1)), kind=tarfile.XHDTYPE), "too long"),
    ],
)  # fmt: skip
def test_what_can_be_no_dataset_is_refused_by_name(folder, raw, words):
    with pytest.raises(Invalid, match=words):
        take(folder, raw, 2 * MOST)


def test_too_many_bytes_are_refused_before_they_are_written(folder, tmp_path):
    with pytest.raises(TooLarge):
        take(folder, archive(("a", b"x" * 1000), ("b", b"x" * 1000)), most=1500)
    assert not (tmp_path / "place/b").exists()
