"""Site storage over each scheme, on real servers: files, OpenSSH, HDFS, and moto's S3."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.file_systems import CannotOpen, cure_of, opened
from broker.sites.layout import output_path, replica_path
from broker.sites.mover import FileMover, Order
from broker.storage import GIVEN_UP, Folder, SiteStorages, StorageError, Unfit
from tests.engines.hdfs import cluster as hdfs
from tests.engines.hdfs.cluster import HdfsCluster
from tests.engines.running import running
from tests.engines.s3.server import ObjectStore
from tests.engines.ssh import server as ssh
from tests.engines.ssh.server import LoginNode
from topology.dataset import DatasetId
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

CORPUS = DatasetId("vision", "corpus", "1")
SCHEMES = ("file", "sftp", "s3", "webhdfs")


def login_node() -> LoginNode:
    def start(folder: Path) -> LoginNode:
        node = LoginNode(folder)
        node.start()
        return node

    return running("sftp", start)


def object_store() -> ObjectStore:
    return running("s3", lambda folder: ObjectStore(folder).start())


def sftp_options(node: LoginNode, **changes):
    return {"user": node.user, "key": {"file": str(node.key)}, "known_hosts": str(node.known_hosts), **changes}


def s3_options(store: ObjectStore, **changes):
    keys = {"access_key": {"env": "TEST_S3_KEY"}, "secret_key": {"env": "TEST_S3_SECRET"}}
    return {"endpoint": store.url, "region": "us-east-1", **keys, **changes}


def storage_of(scheme: str, folder: Path) -> Storage:
    """New storage of this scheme; skips the test where its server cannot run here."""
    if scheme == "file":
        return Storage(f"file://{folder}")
    if scheme == "sftp":
        if ssh.missing():
            pytest.skip(ssh.missing())
        node = login_node()
        return Storage(f"sftp://{node.host}:{node.port}{folder}", options=sftp_options(node))
    if scheme == "s3":
        store = object_store()
        return Storage(f"s3://{store.bucket}/{uuid.uuid4().hex}", options=s3_options(store))
    return hdfs_storage()


def hdfs_cluster() -> HdfsCluster:
    if hdfs.missing():
        pytest.skip(hdfs.missing())
    return running("hdfs", lambda folder: HdfsCluster(folder).start())


def hdfs_storage() -> Storage:
    """A new folder of HDFS, which is there."""
    cluster = hdfs_cluster()
    storage = Storage(f"webhdfs://{cluster.host}:{cluster.port}/{uuid.uuid4().hex}", options={"user": "fed"})
    opened(storage).make_folder(f"/{storage.url.rpartition('/')[2]}")
    return storage


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    monkeypatch.setenv("TEST_S3_KEY", "key")
    monkeypatch.setenv("TEST_S3_SECRET", "secret")


REAL = {"sftp": [pytest.mark.engines], "webhdfs": [pytest.mark.engines]}


@pytest.fixture(params=[pytest.param(scheme, marks=REAL.get(scheme, [])) for scheme in SCHEMES])
def storage(request, tmp_path):
    return storage_of(request.param, tmp_path)


@pytest.fixture
def folder(storage):
    folder = Folder(storage)
    yield folder
    folder.close()


def put(folder, path, content):
    with folder.open(path, "wb") as file:
        file.write(content)


def got(folder, path):
    with folder.open(path, "rb") as file:
        return file.read()


def test_a_claim_is_the_brokers_whoever_of_them_makes_it_and_its_content_is_there_at_once(folder):
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: folder.create_claim(".fed/claims/fed-j1-a1"), range(16)))
    assert got(folder, ".fed/claims/fed-j1-a1") == GIVEN_UP
    assert folder.names(".fed/claims") == ["fed-j1-a1"]


def test_a_claim_that_a_run_made_stays_the_runs(folder):
    put(folder, ".fed/claims/fed-j1-a1", b"fed fed-j1-a1 17\n")
    assert folder.create_claim(".fed/claims/fed-j1-a1") is False
    assert got(folder, ".fed/claims/fed-j1-a1") == b"fed fed-j1-a1 17\n"


def test_a_trees_checksum_is_the_same_wherever_it_lies(folder):
    put(folder, "corpus/a.txt", b"a" * 300_000)
    put(folder, "corpus/deep/b with blank.txt", b"b" * 100_000)
    lines = [(b"a.txt", b"a" * 300_000), (b"deep/b with blank.txt", b"b" * 100_000)]
    expected = hashlib.sha256(b"".join(path + b"\0" + hashlib.sha256(body).digest() for path, body in lines)).hexdigest()
    tree = folder.measure("corpus")
    assert (tree.size_bytes, tree.checksum) == (400_000, f"sha256:{expected}")
    assert folder.files("corpus/a.txt") == {"": 300_000}


def test_what_is_not_there_is_an_answer(folder):
    assert folder.measure("corpus") is None
    assert folder.names("corpus") == []
    folder.remove("corpus")
    with pytest.raises(StorageError):
        folder.open("corpus", "rb").read()


def test_a_tree_is_renamed_and_removed_as_a_whole(folder):
    put(folder, "from/a", b"1")
    put(folder, "from/deep/b", b"22")
    put(folder, "fro", b"beside it")
    folder.rename("from", ".fed/replicas/x/to")
    assert folder.files(".fed/replicas/x/to") == {"a": 1, "deep/b": 2}
    assert folder.files("from") is None
    folder.remove(".fed/replicas/x/to")
    assert folder.files(".fed/replicas/x/to") is None
    assert got(folder, "fro") == b"beside it"


def test_a_file_takes_the_place_of_another(folder):
    put(folder, "new", b"new")
    put(folder, "old", b"old")
    folder.rename("new", "old")
    assert got(folder, "old") == b"new"
    assert folder.files("new") is None


@pytest.mark.parametrize("scheme", ["file", pytest.param("sftp", marks=pytest.mark.engines)])
def test_a_dataset_may_not_publish_what_lies_outside_of_it(scheme, tmp_path):
    (tmp_path / "secret").write_text("token")
    (tmp_path / "site" / "corpus").mkdir(parents=True)
    (tmp_path / "site" / "corpus" / "a").write_text("a")
    (tmp_path / "site" / "corpus" / "beside").symlink_to("a")
    (tmp_path / "site" / output_path("fed-j1-a1", "words")).parent.mkdir(parents=True)
    (tmp_path / "site" / output_path("fed-j1-a1", "words")).symlink_to(tmp_path / "site" / "corpus")
    folder = Folder(storage_of(scheme, tmp_path / "site"))
    assert folder.measure("corpus").size_bytes == 2
    with pytest.raises(Unfit, match="a link lies there"):
        folder.measure(output_path("fed-j1-a1", "words"))
    (tmp_path / "site" / "corpus" / "leak").symlink_to(tmp_path / "secret")
    with pytest.raises(Unfit, match="leak"):
        folder.measure("corpus")
    folder.close()


class JumpingClock:
    """Sleeping takes no time and moves this clock."""

    def __init__(self):
        self.time = 0.0

    def boottime(self):
        return self.time

    async def sleep(self, seconds):
        self.time += seconds
        await asyncio.sleep(0)


def a_site(name: str, storage: Storage) -> Site:
    return Site(name, Engine("process"), (Pool("cpu", 1, Resources(1, 1)),), storage)


@contextmanager
def mover(storages):
    moved: list[int] = []
    yield FileMover(storages, JumpingClock(), lambda source, target, count: moved.append(count)), moved
    storages.close()


async def test_a_dataset_is_brought_from_and_to_every_scheme_whole_and_once(storage, tmp_path):
    near, far = a_site("near", Storage(f"file://{tmp_path / 'near'}")), a_site("far", storage)
    corpus = tmp_path / "near" / "corpus"
    (corpus / "deep").mkdir(parents=True)
    (corpus / "a.txt").write_bytes(b"a" * 3_000_000)
    (corpus / "deep" / "b.txt").write_bytes(b"b" * 1000)
    with mover(SiteStorages()) as (there, moved):
        brought = await there.bring(Order(CORPUS, near, "corpus", far, 5, 1e7))
        assert brought.moved_bytes == sum(moved) == 3_001_000
        assert max(moved) <= 1e7 * 0.1
        again = await there.bring(Order(CORPUS, near, "corpus", far, 5, 1e7))
        assert (again.moved_bytes, again.tree) == (0, brought.tree)
        (tmp_path / "home").mkdir()
        home = a_site("home", Storage(f"file://{tmp_path / 'home'}"))
        back = await there.bring(Order(CORPUS, far, replica_path(CORPUS), home, 5, 1e7, brought.tree.checksum))
    assert back.tree == brought.tree
    assert (tmp_path / "home" / replica_path(CORPUS) / "a.txt").read_bytes() == b"a" * 3_000_000


async def test_a_new_owner_keeps_what_is_whole(storage, tmp_path):
    near, far = a_site("near", Storage(f"file://{tmp_path / 'near'}")), a_site("far", storage)
    (tmp_path / "near" / "corpus").mkdir(parents=True)
    (tmp_path / "near" / "corpus" / "a").write_bytes(b"a" * 2000)
    (tmp_path / "near" / "corpus" / "b").write_bytes(b"b" * 1000)
    left = Folder(storage)
    arriving = f".fed/incoming/{CORPUS.tenant}/{CORPUS.name}@{CORPUS.version}"
    put(left, f"{arriving}/3/b", b"b" * 1000)
    put(left, f"{arriving}/3.part", b"a" * 500)
    left.close()
    with mover(SiteStorages()) as (there, _):
        brought = await there.bring(Order(CORPUS, near, "corpus", far, 5, 1e9))
        assert (brought.moved_bytes, brought.tree.size_bytes) == (2000, 3000)
        assert await there._storages.run(far, lambda: there._storages.at(far).names(arriving)) == []


async def in_time(storage, work=None):
    """What the error says of storage that does not answer."""
    storages = SiteStorages()
    site = a_site("ams", storage)
    try:
        with pytest.raises(StorageError) as refusal:
            await asyncio.wait_for(storages.measure(site, "corpus"), 70)
        return str(refusal.value)
    finally:
        storages.close()


async def test_an_object_store_that_hangs_is_given_up_in_time_and_read_again_after_it(tmp_path):
    store = object_store()
    site = a_site("ams", Storage(f"s3://{store.bucket}/hangs", options=s3_options(store, timeout_s=4.0)))
    storages = SiteStorages()
    assert await eventually(storages, site) is None
    store.send(signal.SIGSTOP)
    try:
        with pytest.raises(StorageError, match="gives no answer for 4 s"):
            await storages.measure(site, "corpus")
    finally:
        store.send(signal.SIGCONT)
    assert await eventually(storages, site) is None
    storages.close()


@pytest.mark.engines
async def test_a_login_node_that_hangs_or_was_cut_is_given_up_in_time_and_read_again_after_it(tmp_path):
    if ssh.missing():
        pytest.skip(ssh.missing())
    node = login_node()
    (tmp_path / "corpus").write_text("corpus")
    options = sftp_options(node, timeout_s=4.0)
    site = a_site("ams", Storage(f"sftp://{node.host}:{node.port}{tmp_path}", options=options))
    storages = SiteStorages()
    whole = await storages.measure(site, "corpus")
    node.freeze()
    try:
        with pytest.raises(StorageError, match="gives no answer for 4 s"):
            await storages.measure(site, "corpus")
    finally:
        node.thaw()
    assert await eventually(storages, site) == whole
    node.cut()
    assert await eventually(storages, site) == whole
    storages.close()


async def eventually(storages, site):
    """What is measured once storage answers again: the first call after an outage may still meet the old connection."""
    for _ in range(20):
        try:
            return await storages.measure(site, "corpus")
        except StorageError:
            await asyncio.sleep(0.1)
    return await storages.measure(site, "corpus")


@pytest.mark.engines
async def test_what_is_wrong_with_a_login_node_is_told_with_its_cure(tmp_path):
    if ssh.missing():
        pytest.skip(ssh.missing())
    node = login_node()
    url = f"sftp://{node.host}:{node.port}{tmp_path}"
    ssh.make_key(tmp_path / "other")
    (tmp_path / "nobody").write_text("")
    wrong_key = sftp_options(node, key={"file": str(tmp_path / "other")})
    assert "see that storage.options has the right user and key" in await in_time(Storage(url, options=wrong_key))
    unknown = sftp_options(node, known_hosts=str(tmp_path / "nobody"))
    assert "into storage.options.known_hosts" in await in_time(Storage(url, options=unknown))
    missing = sftp_options(node, key={"env": "NO_SUCH_KEY"})
    assert await in_time(Storage(url, options=missing)) == "the broker's environment has no NO_SUCH_KEY"
    no_key = sftp_options(node, key={"file": str(node.known_hosts)})
    assert "storage.options.key is no private key" in await in_time(Storage(url, options=no_key))
    (closed,) = ssh.free_ports(1)
    assert "Connect" in await in_time(Storage(f"sftp://127.0.0.1:{closed}/srv", options=sftp_options(node)))


async def test_what_is_wrong_with_a_bucket_is_told_with_its_cure():
    store = object_store()
    assert "make the bucket" in await in_time(Storage("s3://no-such-bucket-here/x", options=s3_options(store)))
    (closed,) = ssh.free_ports(1)
    away = s3_options(store, endpoint=f"http://127.0.0.1:{closed}", timeout_s=60)
    assert "see storage.options.endpoint" in await in_time(Storage("s3://fed/x", options=away))


@pytest.mark.parametrize("scheme", ["file", pytest.param("sftp", marks=pytest.mark.engines)])
def test_storage_that_is_not_mounted_is_not_taken_for_storage_with_nothing_in_it(scheme, tmp_path):
    folder = Folder(storage_of(scheme, tmp_path / "srv"))
    for ask in (folder.measure, folder.names, folder.files):
        with pytest.raises(StorageError, match="itself is not there: make it, or see that it is mounted"):
            ask("corpus")
    (tmp_path / "srv").mkdir()
    assert folder.measure("corpus") is None
    folder.close()


def test_an_outage_is_never_taken_for_nothing_there(tmp_path):
    store = object_store()
    (closed,) = ssh.free_ports(1)
    for storage in (
        Storage("s3://fed/x", options=s3_options(store, endpoint=f"http://127.0.0.1:{closed}", timeout_s=2)),
        Storage(f"webhdfs://127.0.0.1:{closed}/fed", options={"user": "fed", "timeout_s": 2}),
    ):
        for ask in (Folder.names, Folder.files, Folder.measure, Folder.remove):
            with pytest.raises(StorageError):
                ask(Folder(storage), "corpus")


async def test_one_site_that_hangs_holds_up_no_other(tmp_path):
    stuck, fine = (
        a_site("stuck", Storage("file:///srv", options={"timeout_s": 0.3})),
        a_site("fine", Storage(f"file://{tmp_path}")),
    )
    storages, wake = SiteStorages(threads=2), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang():
        asyncio.run_coroutine_threadsafe(wake.wait(), loop).result()

    hanging = [asyncio.ensure_future(storages.run(stuck, hang)) for _ in range(4)]
    assert await storages.measure(fine, "corpus") is None
    for each in hanging:
        with pytest.raises(StorageError, match="gives no answer"):
            await each
    wake.set()
    storages.close()


def test_words_of_services_that_are_not_tried_here_have_their_cures():
    said = {
        ("s3://b", "An error occurred (InvalidAccessKeyId) when calling the ListObjectsV2 operation"): "access_key",
        ("s3://b", "An error occurred (ExpiredToken) when calling the PutObject operation"): "session_token",
        ("s3://b", "Access Denied."): "give this key the right",
        ("webhdfs://n/x", "Operation category READ is not supported in state standby."): "name the active one",
        ("webhdfs://n/x", "Cannot create file/x. Name node is in safe mode."): "safe mode",
        ("webhdfs://n/x", "Permission denied: user=dr.who, access=WRITE"): "storage.options.user",
    }
    assert {key: cure in cure_of(key[0], OSError(key[1])).words for key, cure in said.items()} == dict.fromkeys(said, True)


def test_an_extra_that_is_not_installed_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(CannotOpen, match=r"pip install 'fedbroker\[s3\]'"):
        opened(Storage("s3://fed/x", options={"endpoint": "http://127.0.0.1:1"}))
