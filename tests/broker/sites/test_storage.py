"""Site storage and the copying, on real files."""

import asyncio
import hashlib
import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.api.tar import archive
from broker.sites.layout import incoming_path, output_path, replica_path
from broker.sites.mover import FileMover, Order, adopt
from broker.storage import GIVEN_UP, Folder, SiteStorages, StorageError, Unfit
from topology.dataset import DatasetId
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

CORPUS = DatasetId("vision", "corpus", "1")
ARRIVING = incoming_path(CORPUS)


class JumpingClock:
    """Sleeping takes no time and moves this clock."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def boottime(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


def a_site(name: str, root: Path) -> Site:
    return Site(name, Engine("process"), (Pool("cpu", 1, Resources(1, 1)),), Storage(f"file://{root / name}"))


class Link:
    """Two sites' storage with a corpus of two files at fra, and a mover between them."""

    def __init__(self, root: Path) -> None:
        self.clock = JumpingClock()
        self.fra, self.ams = a_site("fra", root), a_site("ams", root)
        self.source, self.target = root / "fra" / "corpus", root / "ams"
        self.target.mkdir(parents=True)
        (self.source / "deep").mkdir(parents=True)
        (self.source / "a.txt").write_bytes(b"a" * 300_000)
        (self.source / "deep" / "b.txt").write_bytes(b"b" * 100_000)
        self.storages = SiteStorages()
        self.moved: list[int] = []
        self.mover = FileMover(self.storages, self.clock, lambda source, target, count: self.moved.append(count))

    def order(self, epoch: int = 5, checksum: str | None = None, bytes_per_s: float = 1e9) -> Order:
        return Order(CORPUS, self.fra, "corpus/", self.ams, epoch, bytes_per_s, checksum)

    @property
    def replica(self) -> Path:
        return self.target / replica_path(CORPUS)


@pytest.fixture
def link(tmp_path):
    link = Link(tmp_path)
    yield link
    link.storages.close()


def test_of_many_who_take_a_claim_at_once_all_brokers_hold_it_and_no_run_does(tmp_path):
    folder = Folder(Storage(f"file://{tmp_path}"))
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: folder.create_claim(".fed/claims/fed-j1-a1"), range(64)))
    claims = tmp_path / ".fed" / "claims"
    assert (claims / "fed-j1-a1").read_bytes() == GIVEN_UP
    assert [each.name for each in claims.iterdir()] == ["fed-j1-a1"]


def test_a_claim_that_a_run_made_is_the_runs(tmp_path):
    (tmp_path / "claim").touch()
    assert Folder(Storage(f"file://{tmp_path}")).create_claim("claim") is False


def test_a_trees_checksum_is_that_of_its_paths_and_its_files(link):
    lines = [(b"a.txt", b"a" * 300_000), (b"deep/b.txt", b"b" * 100_000)]
    expected = hashlib.sha256(b"".join(path + b"\0" + hashlib.sha256(body).digest() for path, body in lines)).hexdigest()
    tree = Folder(link.fra.storage).measure("corpus/")
    assert (tree.size_bytes, tree.checksum) == (400_000, f"sha256:{expected}")


def test_nothing_there_is_an_answer_and_outside_is_not(link):
    folder = Folder(link.fra.storage)
    assert folder.measure("elsewhere") is None
    with pytest.raises(StorageError, match="outside"):
        folder.measure("../ams")


def test_a_dataset_may_not_publish_what_lies_outside_of_it(link, tmp_path):
    (tmp_path / "secret").write_text("token")
    folder = Folder(link.fra.storage)
    (link.source / "beside").symlink_to("a.txt")
    assert folder.measure("corpus").size_bytes == 700_000
    (link.source / "leak").symlink_to(tmp_path / "secret")
    with pytest.raises(Unfit, match="leak"):
        folder.measure("corpus")
    (link.source / "leak").unlink()
    os.mkfifo(link.source / "pipe")
    with pytest.raises(Unfit, match="pipe"):
        folder.measure("corpus")


async def test_names_that_are_no_text_are_measured_brought_and_archived(link):
    odd = os.fsdecode(b"\xff.txt")
    (link.source / odd).write_bytes(b"odd")
    lines = [(b"a.txt", b"a" * 300_000), (b"deep/b.txt", b"b" * 100_000), (b"\xff.txt", b"odd")]
    expected = hashlib.sha256(b"".join(path + b"\0" + hashlib.sha256(body).digest() for path, body in lines)).hexdigest()
    brought = await link.mover.bring(link.order())
    assert brought.tree.checksum == f"sha256:{expected}"
    assert (link.replica / odd).read_bytes() == b"odd"
    sent = io.BytesIO(b"".join(archive(link.ams.storage, {"corpus": replica_path(CORPUS)}, 0.0)))
    with tarfile.open(fileobj=sent) as tar:
        assert f"corpus/{odd}" in tar.getnames()


def test_what_cannot_be_published_is_told_as_text_whatever_its_name(link):
    os.mkfifo(os.fsencode(link.source) + b"/\xff")
    with pytest.raises(Unfit) as refusal:
        Folder(link.fra.storage).measure("corpus")
    assert str(refusal.value) == "\\xff is no plain file"


def test_an_output_that_a_program_made_a_link_is_not_published(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("token")
    output = tmp_path / output_path("fed-j1-a1", "words")
    output.parent.mkdir(parents=True)
    output.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unfit, match="a link lies there"):
        Folder(Storage(f"file://{tmp_path}")).measure(output_path("fed-j1-a1", "words"))


async def test_a_dataset_arrives_whole_and_under_its_name(link):
    brought = await link.mover.bring(link.order())
    assert brought.tree == Folder(link.fra.storage).measure("corpus")
    assert sum(link.moved) == brought.moved_bytes == 400_000
    assert (link.replica / "deep" / "b.txt").read_bytes() == b"b" * 100_000
    assert not list((link.target / ARRIVING).iterdir())


async def test_a_dataset_of_one_file_stays_a_file(link):
    order = Order(CORPUS, link.fra, "corpus/a.txt", link.ams, 5, 1e9)
    await link.mover.bring(order)
    assert link.replica.read_bytes() == b"a" * 300_000


async def test_the_booked_share_is_kept(link):
    # 400,000 bytes at 100,000 bytes/s: 4 s, of which 0.1 s may be saved up
    brought = await link.mover.bring(link.order(bytes_per_s=100_000))
    assert brought.seconds == pytest.approx(4.0, abs=0.1)
    assert max(link.moved) <= 10_000


async def test_a_new_owner_keeps_what_is_whole_and_begins_the_broken_file_anew(link):
    old = link.target / ARRIVING
    (old / "3" / "deep").mkdir(parents=True)
    (old / "3" / "deep" / "b.txt").write_bytes(b"b" * 100_000)
    (old / "3" / "stray").write_bytes(b"?")
    (old / "3.part").write_bytes(b"a" * 1000)
    brought = await link.mover.bring(link.order(epoch=5))
    assert brought.moved_bytes == 300_000
    assert brought.tree == Folder(link.fra.storage).measure("corpus")


def test_an_old_owner_may_not_touch_what_a_newer_one_brings(link):
    (link.target / ARRIVING / "7").mkdir(parents=True)
    with pytest.raises(StorageError, match="epoch 7 is at work"):
        adopt(Folder(link.ams.storage), ARRIVING, 5)


async def test_what_is_not_what_was_sent_is_thrown_away(link):
    with pytest.raises(StorageError, match="checksum"):
        await link.mover.bring(link.order(checksum="sha256:0000"))
    assert not link.replica.exists()
    assert not list((link.target / ARRIVING).iterdir())


async def test_what_a_crash_left_after_the_last_rename_is_not_brought_again(link):
    await link.mover.bring(link.order())
    link.moved.clear()
    brought = await link.mover.bring(link.order(epoch=9))
    assert (brought.moved_bytes, link.moved) == (0, [])
    assert brought.tree == Folder(link.fra.storage).measure("corpus")
